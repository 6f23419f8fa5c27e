#include "import/csv_table.h"

#include "base/mem.h"
#include "base/options.h"

#include <math.h>
#include <string.h>
#include <strings.h>

/* Messages about a field name file, line and column, and show the beginning of what is there. */
static status bad_field(const csv_table *t, const csv_place *p, int64_t column, const char *what) {
  return status_set(STATUS_BAD_INPUT, "%s: line %lld, column '%s': '%.40s' %s", p->path,
                    (long long)p->record->line, t->columns[column].name, p->record->fields[column], what);
}

int64_t csv_table_features(const csv_table *t) {
  return t->n - (t->label >= 0);
}

void csv_table_free(csv_table *t) {
  for (int64_t i = 0; i < t->n && t->columns; i++) {
    mem_free(t->columns[i].name);
    dictionary_free(&t->columns[i].codes);
  }
  mem_free(t->columns);
  mem_free(t->rows);
  mem_free(t->label_real);
  dictionary_free(&t->classes);
}

/* ---- header ---- */

static status check_names(const csv_table *t, const csv_record *r, const char *path) {
  bool numbers = true;
  double number;
  for (int64_t i = 0; i < r->n; i++) {
    if (!*r->fields[i])
      return status_set(
          STATUS_BAD_INPUT,
          "%s: column %lld has no name: give it one or take it out (pandas: to_csv(..., index=False))", path,
          (long long)i + 1);
    numbers = numbers && text_to_real(r->fields[i], &number);
  }
  if (!r->n)
    return status_set(STATUS_BAD_INPUT, "%s: is empty, expected a line with the columns' names", path);
  if (numbers)
    return status_set(STATUS_BAD_INPUT, "%s: its first line holds numbers, expected the columns' names",
                      path);
  if (t->job->options->label_column && r->n == 1)
    return status_set(STATUS_BAD_INPUT,
                      "%s: has a single column, expected a label and at least one more (separated by commas)",
                      path);
  return STATUS_OK;
}

static const char *column_name(const void *table, int i) {
  const csv_table *t = table;
  return i < t->n ? t->columns[i].name : NULL;
}

static status find_label(csv_table *t, const char *path) {
  const char *wanted = t->job->options->label_column;
  t->label = -1;
  if (!wanted) return STATUS_OK;
  for (int64_t i = 0; i < t->n; i++)
    if (!strcmp(t->columns[i].name, wanted)) t->label = i;
  if (t->label >= 0) return STATUS_OK;
  const char *nearest = nearest_name(wanted, column_name, t);
  return status_set(STATUS_BAD_INPUT, "%s: has no column '%s' for --label-column%s%s%s", path, wanted,
                    nearest ? "; is '" : "", nearest ? nearest : "", nearest ? "' meant?" : "");
}

static status take_names(csv_table *t, const csv_record *r, const char *path) {
  status st = STATUS_OK;
  dictionary *seen = NULL;
  int32_t code;
  TRY(check_names(t, r, path));
  TRY(dictionary_new(&seen));
  TRY(mem_new(&t->columns, (size_t)r->n, sizeof *t->columns));
  t->n = r->n;
  for (int64_t i = 0; i < r->n; i++) {
    TRY(mem_string(&t->columns[i].name, r->fields[i]));
    TRY(dictionary_add(seen, r->fields[i], &code));
    if (code != i) THROW(STATUS_BAD_INPUT, "%s: two columns have the name '%.80s'", path, r->fields[i]);
  }
  TRY(find_label(t, path));
done:
  dictionary_free(&seen);
  return st;
}

static status compare_names(const csv_table *t, const csv_record *r, const char *path) {
  if (r->n != t->n)
    return status_set(STATUS_BAD_INPUT, "%s: has %lld columns, the first file has %lld", path,
                      (long long)r->n, (long long)t->n);
  for (int64_t i = 0; i < t->n; i++)
    if (strcmp(t->columns[i].name, r->fields[i]))
      return status_set(STATUS_BAD_INPUT, "%s: column %lld is '%.80s', in the first file it is '%.80s'", path,
                        (long long)i + 1, r->fields[i], t->columns[i].name);
  return STATUS_OK;
}

/* ---- one reading of a source ---- */

static status scan_file(csv_table *t, csv_place *p, csv_row *row, void *context) {
  status st = STATUS_OK;
  csv_reader *reader = NULL;
  csv_record record;
  p->record = &record;
  TRY(csv_open(&reader, p->path, t->job->meter));
  TRY(csv_next(reader, &record));
  TRY(t->columns ? compare_names(t, &record, p->path) : take_names(t, &record, p->path));
  for (;;) {
    TRY(csv_next(reader, &record));
    if (!record.n) break;
    if (record.n != t->n)
      THROW(STATUS_BAD_INPUT, "%s: line %lld has %lld fields, expected %lld as in the first line", p->path,
            (long long)record.line, (long long)record.n, (long long)t->n);
    TRY(row(context, t, p));
  }
done:
  csv_close(&reader);
  return st;
}

status csv_table_scan(csv_table *t, int source, csv_row *row, void *context) {
  status st = STATUS_OK;
  const import_source *s = &t->job->sources[source];
  for (int i = 0; i < s->n_files; i++) {
    csv_place p = {.path = s->files[i], .source = source};
    TRY(scan_file(t, &p, row, context));
  }
done:
  return st;
}

/* ---- fields ---- */

/* What spreadsheets and data frames write where there is nothing. */
static bool is_missing(const char *text) {
  static const char *const words[] = {"", "nan", "na", "n/a", "null"};
  text += strspn(text, " ");
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (!strcasecmp(text, words[i])) return true;
  return false;
}

/* Blanks around a number are not part of it. */
static const char *trim(const char *text, char room[64]) {
  text += strspn(text, " \t");
  size_t n = strlen(text);
  while (n && (text[n - 1] == ' ' || text[n - 1] == '\t')) n--;
  if (!text[n] || n >= 64) return text;
  memcpy(room, text, n);
  room[n] = '\0';
  return room;
}

static bool field_to_real(const char *text, double *out) {
  char room[64];
  return text_to_real(trim(text, room), out);
}

static bool field_to_int(const char *text, int64_t *out) {
  char room[64];
  return text_to_int(trim(text, room), out);
}

status csv_table_feature(const csv_table *t, const csv_place *p, int64_t column, float *out) {
  const char *text = p->record->fields[column];
  double value;
  if (t->columns[column].is_text) {
    int32_t code = dictionary_find(t->columns[column].codes, text);
    *out = (float)code;
    return code >= 0 ? STATUS_OK
                     : bad_field(t, p, column, "is a category that the first split does not have");
  }
  if (!field_to_real(text, &value)) return bad_field(t, p, column, "is not a number");
  *out = (float)value;
  return isfinite(*out) ? STATUS_OK : bad_field(t, p, column, "is too large for a 32-bit float");
}

status csv_table_label(const csv_table *t, const csv_place *p, int32_t *out) {
  const char *text = p->record->fields[t->label];
  int64_t value = 0;
  bool whole = field_to_int(text, &value);
  *out = -1;
  if (whole && value == -1) return STATUS_OK;
  if (t->label_is_text) {
    *out = dictionary_find(t->classes, text);
    return *out >= 0 ? STATUS_OK : bad_field(t, p, t->label, "was not there when the file was first read");
  }
  *out = (int32_t)value;
  if (whole && value >= -1 && value <= INT32_MAX) return STATUS_OK;
  return bad_field(t, p, t->label,
                   "is not a label, expected -1 (none) or a whole number from 0 to 2147483647");
}

/* ---- first reading: types ---- */

static status note_feature(csv_table *t, const csv_place *p, int64_t column) {
  csv_column *c = &t->columns[column];
  const char *text = p->record->fields[column];
  double value;
  if (is_missing(text)) return bad_field(t, p, column, "is a missing value, fill it in or leave the row out");
  if (c->is_text || field_to_real(text, &value)) return STATUS_OK;
  if (!t->job->options->categorical)
    return bad_field(
        t, p, column,
        "is not a number (--categorical turns columns of text into numbers, --label-column names the "
        "column of labels)");
  if (p->source)
    return bad_field(t, p, column, "is not a number, the column holds numbers in the first split");
  c->is_text = true;
  return STATUS_OK;
}

static status note_label(csv_table *t, const csv_place *p) {
  const char *text = p->record->fields[t->label];
  int64_t whole;
  double real;
  if (!text[strspn(text, " \t")] || !strcasecmp(text, "nan"))
    return bad_field(t, p, t->label, "is a missing label, -1 marks rows without one");
  if (field_to_int(text, &whole)) return STATUS_OK;
  if (!field_to_real(text, &real))
    t->label_is_text = true;
  else if (!t->label_real)
    return mem_format(
        &t->label_real,
        "%s: line %lld, column '%s': '%.40s' is not a label, expected whole numbers or names of classes",
        p->path, (long long)p->record->line, t->columns[t->label].name, text);
  return STATUS_OK;
}

static status note_types(void *context, const csv_table *table, const csv_place *p) {
  status st = STATUS_OK;
  csv_table *t = context;
  (void)table;
  for (int64_t i = 0; i < t->n; i++) TRY(i == t->label ? note_label(t, p) : note_feature(t, p, i));
  t->rows[p->source]++;
done:
  return st;
}

static status read_types(csv_table *t) {
  status st = STATUS_OK;
  for (int i = 0; i < t->job->n_sources; i++) {
    TRY(csv_table_scan(t, i, note_types, t));
    if (!t->rows[i]) THROW(STATUS_BAD_INPUT, "%s: has no rows below its header", t->job->sources[i].files[0]);
  }
  if (t->label_real && !t->label_is_text) THROW(STATUS_BAD_INPUT, "%s", t->label_real);
done:
  return st;
}

/* ---- second reading: categories, classes, means ---- */

static status note_category(csv_table *t, const csv_place *p, int64_t column) {
  int32_t code;
  status st = dictionary_add(t->columns[column].codes, p->record->fields[column], &code);
  if (st || code >= 0) return st;
  return bad_field(t, p, column, "is one category too many (1048576 are there already): take the column out");
}

static status note_class(csv_table *t, const csv_place *p) {
  const char *text = p->record->fields[t->label];
  int64_t value;
  int32_t code;
  if (field_to_int(text, &value) && value == -1) return STATUS_OK;
  status st = dictionary_add(t->classes, text, &code);
  if (st || code >= 0) return st;
  return bad_field(t, p, t->label, "is one class too many (1048576 are there already)");
}

static status note_moments(csv_table *t, const csv_place *p, int64_t column) {
  csv_column *c = &t->columns[column];
  float value;
  status st = csv_table_feature(t, p, column, &value);
  if (st) return st;
  double gap = value - c->mean;
  c->mean += gap / (double)t->first_rows;
  c->squares += gap * (value - c->mean);
  return STATUS_OK;
}

static status note_values(void *context, const csv_table *table, const csv_place *p) {
  status st = STATUS_OK;
  csv_table *t = context;
  (void)table;
  if (t->label_is_text) TRY(note_class(t, p));
  if (p->source) goto done;
  t->first_rows++;
  for (int64_t i = 0; i < t->n; i++) {
    if (i == t->label) continue;
    if (t->columns[i].is_text) TRY(note_category(t, p, i));
    if (t->job->options->standardize) TRY(note_moments(t, p, i));
  }
done:
  return st;
}

static status read_values(csv_table *t) {
  status st = STATUS_OK;
  bool first = t->job->options->standardize;
  for (int64_t i = 0; i < t->n; i++) {
    if (!t->columns[i].is_text) continue;
    TRY(dictionary_new(&t->columns[i].codes));
    first = true;
  }
  TRY(dictionary_new(&t->classes));
  if (first || t->label_is_text) t->job->meter->progress.total *= 1.5; /* three readings, not two */
  for (int i = 0; i < t->job->n_sources; i++)
    if (t->label_is_text || (first && !i)) TRY(csv_table_scan(t, i, note_values, t));
  dictionary_sort(t->classes);
done:
  return st;
}

status csv_table_read(csv_table *t, const import_job *job) {
  status st = STATUS_OK;
  *t = (csv_table){.job = job, .label = -1};
  job->meter->progress.total *= 2;
  TRY(mem_new(&t->rows, (size_t)job->n_sources, sizeof *t->rows));
  TRY(read_types(t));
  TRY(read_values(t));
done:
  return st;
}
