#include "import/importers.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const importer *const table[] = {&importer_idx, &importer_cifar, &importer_csv, &importer_npy, NULL};

const importer *const *importers(void) {
  return table;
}

const importer *importer_find(const char *name) {
  for (const importer *const *i = table; *i; i++)
    if (!strcmp((*i)->name, name)) return *i;
  return NULL;
}

static bool has_option(const importer *i, const char *name) {
  for (const char *const *o = i->options; o && *o; o++)
    if (!strcmp(*o, name)) return true;
  return false;
}

/* Flags of one format mean nothing to another: said rather than passed over. */
static status check_options(const importer *i, const mpistill_import_options *o) {
  const struct {
    const char *name;
    bool given;
  } special[] = {{"label-column", o->label_column != NULL},
                 {"categorical", o->categorical},
                 {"standardize", o->standardize}};
  for (size_t k = 0; k < sizeof special / sizeof *special; k++)
    if (special[k].given && !has_option(i, special[k].name))
      return status_set(STATUS_BAD_INPUT, "import: --%s does not belong to the format '%s'", special[k].name,
                        i->name);
  return STATUS_OK;
}

static status find_importer(const char *name, const importer **out) {
  char names[256] = "";
  *out = name ? importer_find(name) : NULL;
  if (*out) return STATUS_OK;
  for (const importer *const *i = table; *i; i++)
    snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i == table ? "" : ", ", (*i)->name);
  return status_set(STATUS_BAD_INPUT, "import: there is no format '%s', expected one of %s", name ? name : "",
                    names);
}

/* ---- sources ---- */

static bool is_split_name(const char *text, size_t n) {
  if (!n || n > 64 || text[0] == '.' || (n == 7 && !memcmp(text, "classes", 7))) return false;
  for (size_t i = 0; i < n; i++)
    if (!isalnum((unsigned char)text[i]) && !strchr("_-.", text[i])) return false;
  return true;
}

static status add_file(import_source *s, const char *text, size_t n, const char *source) {
  status st = STATUS_OK;
  if (!n)
    THROW(STATUS_BAD_INPUT, "import: '%s' has an empty file name, expected SPLIT=FILE[,FILE...]", source);
  TRY(mem_resize(&s->files, (size_t)s->n_files, (size_t)s->n_files + 1, sizeof *s->files));
  s->n_files++;
  TRY(mem_string_n(&s->files[s->n_files - 1], text, n));
done:
  return st;
}

static status parse_source(import_source *s, const char *text) {
  status st = STATUS_OK;
  const char *equals = strchr(text, '=');
  if (!equals || !is_split_name(text, (size_t)(equals - text)))
    THROW(STATUS_BAD_INPUT,
          "import: '%s' is not a source, expected SPLIT=FILE[,FILE...] with a split's name of letters, "
          "digits, '_', '-' "
          "and '.'",
          text);
  TRY(mem_string_n(&s->split, text, (size_t)(equals - text)));
  for (const char *at = equals + 1;; at++) {
    size_t n = strcspn(at, ",");
    TRY(add_file(s, at, n, text));
    at += n;
    if (!*at) break;
  }
done:
  return st;
}

static status parse_sources(import_job *job) {
  status st = STATUS_OK;
  const mpistill_strings *from = &job->options->sources;
  if (!from->n) THROW(STATUS_BAD_INPUT, "import: nothing to import, expected SPLIT=FILE[,FILE...]");
  TRY(mem_new(&job->sources, from->n, sizeof *job->sources));
  for (size_t i = 0; i < from->n; i++) {
    job->n_sources++;
    TRY(parse_source(&job->sources[i], from->items[i]));
    for (size_t k = 0; k < i; k++)
      if (!strcmp(job->sources[k].split, job->sources[i].split))
        THROW(STATUS_BAD_INPUT,
              "import: split '%s' is given twice, its files belong into one source separated by commas",
              job->sources[i].split);
  }
done:
  return st;
}

static void free_sources(import_job *job) {
  for (int i = 0; i < job->n_sources; i++) {
    for (int k = 0; k < job->sources[i].n_files; k++) mem_free(job->sources[i].files[k]);
    mem_free(job->sources[i].files);
    mem_free(job->sources[i].split);
  }
  mem_free(job->sources);
}

/* Before anything is made: a missing last file is told at once, not after an hour. */
static status measure_files(const import_job *job, double *bytes) {
  *bytes = 0;
  for (int i = 0; i < job->n_sources; i++)
    for (int k = 0; k < job->sources[i].n_files; k++) {
      struct stat info;
      if (stat(job->sources[i].files[k], &info))
        return status_set(STATUS_BAD_INPUT, "%s: there is no such file", job->sources[i].files[k]);
      *bytes += (double)info.st_size;
    }
  return STATUS_OK;
}

/* --name, else the output's name without ".h5". */
static status choose_name(char **out, const mpistill_import_options *o) {
  const char *name = o->name ? o->name : file_name(o->output);
  size_t n = strlen(name);
  if (!o->name && n > 3 && !strcmp(name + n - 3, ".h5")) n -= 3;
  return mem_string_n(out, name, n);
}

static bool is_plain(const import_job *job) {
  struct stat info;
  for (int i = 0; i < job->n_sources; i++)
    for (int k = 0; k < job->sources[i].n_files; k++)
      if (stat(job->sources[i].files[k], &info) || !S_ISREG(info.st_mode)) return false;
  return true;
}

/* One source as text: "train=xxh3:...,xxh3:..." */
static status hash_source(const import_source *s, char **out) {
  status st = mem_format(out, "%s", s->split);
  for (int k = 0; k < s->n_files && !st; k++) {
    uint64_t hash;
    char text[HASH_TEXT_BYTES], *longer = NULL;
    if ((st = hash_file(s->files[k], &hash))) break;
    hash_text(hash, text);
    st = mem_format(&longer, "%s%c%s", *out, k ? ',' : '=', text);
    if (st) break;
    mem_free(*out);
    *out = longer;
  }
  return st;
}

status import_hashes(const mpistill_import_options *o, mpistill_strings *out) {
  status st = STATUS_OK;
  const importer *format;
  import_job job = {.options = o};
  double bytes;
  *out = (mpistill_strings){0};
  TRY(find_importer(o->format, &format));
  TRY(check_options(format, o));
  TRY(parse_sources(&job));
  TRY(measure_files(&job, &bytes));
  if (!is_plain(&job)) goto done;
  TRY(mem_new(&out->items, (size_t)job.n_sources, sizeof *out->items));
  while (out->n < (size_t)job.n_sources) {
    size_t i = out->n++;
    TRY(hash_source(&job.sources[i], &out->items[i]));
  }
done:
  free_sources(&job);
  return st;
}

status import_run(const mpistill_import_options *o) {
  status st = import_prepare(o);
  if (st || !(st = file_commit(o->output))) return st;
  char part[PATH_MAX];
  if (snprintf(part, sizeof part, "%s.part", o->output) < (int)sizeof part) unlink(part);
  return st;
}

status import_prepare(const mpistill_import_options *o) {
  status st = STATUS_OK;
  const importer *i;
  import_meter meter = {0};
  import_job job = {.options = o, .meter = &meter};
  char *name = NULL;
  double bytes;
  TRY(find_importer(o->format, &i));
  TRY(check_options(i, o));
  if (!o->output) THROW(STATUS_BAD_INPUT, "import: --output is needed");
  TRY(parse_sources(&job));
  TRY(measure_files(&job, &bytes));
  TRY(choose_name(&name, o));
  TRY(dataset_writer_new(&job.writer, o->output, o->out.force, name, o->source ? o->source : "",
                         o->licence ? o->licence : ""));
  progress_start(&meter.progress, "import", "bytes", bytes, !o->out.quiet);
  TRY(i->run(&job));
  TRY(dataset_writer_complete(job.writer));
  progress_update(&meter.progress, meter.progress.total);
  progress_end(&meter.progress);
done:
  dataset_writer_free(&job.writer);
  free_sources(&job);
  mem_free(name);
  return st;
}
