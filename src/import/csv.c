/* CSV files: every column but the label's becomes one of /SPLIT/features. The files are read twice or three
 * times: what a column holds is known only at its end. */
#include "import/csv_table.h"
#include "import/importers.h"

#include "base/mem.h"

#include <math.h>
#include <sys/stat.h>

typedef struct csv_output { /* rows waiting to be written */
  const import_job *job;
  const char *split;
  int64_t features, room, n;
  float *values;   /* [room, features] */
  int32_t *labels; /* [room]; NULL: no labels */
} csv_output;

static status flush(csv_output *o) {
  status st = STATUS_OK;
  if (!o->n) goto done;
  TRY(dataset_writer_append(o->job->writer, o->split, "features", o->values, o->n));
  if (o->labels) TRY(dataset_writer_append(o->job->writer, o->split, "label", o->labels, o->n));
  o->n = 0;
done:
  return st;
}

static status write_row(void *context, const csv_table *t, const csv_place *p) {
  status st = STATUS_OK;
  csv_output *o = context;
  float *to = o->values + o->n * o->features;
  for (int64_t i = 0; i < t->n; i++)
    if (i != t->label) TRY(csv_table_feature(t, p, i, to++));
  if (o->labels) TRY(csv_table_label(t, p, &o->labels[o->n]));
  if (++o->n == o->room) TRY(flush(o));
done:
  return st;
}

/* scale and offset that give the first split mean 0 and variance 1; a column that is the same everywhere is
 * moved to 0. */
static void standardize(const csv_table *t, float *scale, float *offset) {
  for (int64_t i = 0, k = 0; i < t->n; i++) {
    if (i == t->label) continue;
    const csv_column *c = &t->columns[i];
    double factor = 1 / sqrt(c->squares / (double)t->first_rows);
    if (!(factor < 1e30) || fabs(c->mean * factor) > 1e30) factor = 1;
    scale[k] = (float)factor;
    offset[k++] = (float)(-c->mean * factor);
  }
}

static status begin_arrays(const csv_table *t, const csv_output *o, int source, const float *scale,
                           const float *offset) {
  status st = STATUS_OK;
  array_spec features = {
      .name = "features", .type = ELEMENT_FLOAT32, .rank = 2, .dims = {t->rows[source], o->features}};
  if (scale) {
    features.n_scale = o->features;
    features.scale = scale;
    features.offset = offset;
  }
  TRY(dataset_writer_array(o->job->writer, o->split, &features));
  if (o->labels)
    TRY(dataset_writer_array(
        o->job->writer, o->split,
        &(array_spec){.name = "label", .type = ELEMENT_INT32, .rank = 1, .dims = {t->rows[source]}}));
done:
  return st;
}

static status write_splits(csv_table *t, csv_output *o) {
  status st = STATUS_OK;
  float *scale = NULL, *offset = NULL;
  if (o->job->options->standardize) {
    TRY(mem_new(&scale, (size_t)o->features, sizeof *scale));
    TRY(mem_new(&offset, (size_t)o->features, sizeof *offset));
    standardize(t, scale, offset);
  }
  for (int i = 0; i < o->job->n_sources; i++) {
    o->split = o->job->sources[i].split;
    TRY(begin_arrays(t, o, i, scale, offset));
    TRY(csv_table_scan(t, i, write_row, o));
    TRY(flush(o));
  }
  if (t->label_is_text)
    TRY(dataset_writer_classes(o->job->writer, dictionary_texts(t->classes), dictionary_count(t->classes)));
done:
  mem_free(scale);
  mem_free(offset);
  return st;
}

/* A pipe could not be read again. */
static status check_regular(const import_job *job) {
  for (int i = 0; i < job->n_sources; i++)
    for (int k = 0; k < job->sources[i].n_files; k++) {
      struct stat info;
      const char *path = job->sources[i].files[k];
      if (!stat(path, &info) && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
        return status_set(STATUS_BAD_INPUT, "%s: is not a regular file, CSV has to be read more than once",
                          path);
    }
  return STATUS_OK;
}

static status run(const import_job *job) {
  status st = STATUS_OK;
  csv_table t = {0};
  csv_output o = {.job = job};
  TRY(check_regular(job));
  TRY(csv_table_read(&t, job));
  o.features = csv_table_features(&t);
  o.room = IMPORT_PIECE_BYTES / (int64_t)sizeof(float) / o.features + 1;
  TRY(mem_new(&o.values, (size_t)(o.room * o.features), sizeof *o.values));
  if (t.label >= 0) TRY(mem_new(&o.labels, (size_t)o.room, sizeof *o.labels));
  TRY(write_splits(&t, &o));
done:
  mem_free(o.values);
  mem_free(o.labels);
  csv_table_free(&t);
  return st;
}

static const char *const options[] = {"label-column", "categorical", "standardize", NULL};

const importer importer_csv = {
    .name = "csv",
    .help = "tables with a line of names first: SPLIT=FILE[,FILE...]; numbers become features [n, D], "
            "--label-column the labels (whole "
            "numbers, or names that become /classes)",
    .options = options,
    .run = run,
};
