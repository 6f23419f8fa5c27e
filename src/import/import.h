/* Foreign files into a dataset file: one struct a format, one row in import.c.
 *
 *     train=train-images-idx3-ubyte.gz,train-labels-idx1-ubyte.gz      a source: SPLIT=FILE[,FILE...]
 *
 * Importers read in order and in pieces of a few MiB, plain or gzip, so that an input larger than memory is
 * imported in bounded memory. Whatever is wrong is an error that names file and place; nothing is skipped or
 * guessed. The output appears whole or not at all. */
#ifndef MPISTILL_IMPORT_IMPORT_H
#define MPISTILL_IMPORT_IMPORT_H

#include "mpistill/mpistill.h"

#include "base/progress.h"
#include "base/status.h"
#include "store/dataset.h"

enum { IMPORT_PIECE_BYTES = 4 << 20 };

typedef struct import_source {
  char *split;
  int n_files;
  char **files;
} import_source;

/* How far the reading has come, in bytes of the files as they lie on disk. */
typedef struct import_meter {
  progress progress;
  double done; /* of files closed already */
} import_meter;

typedef struct import_job {
  const mpistill_import_options *options;
  int n_sources; /* >= 1, splits are distinct */
  import_source *sources;
  dataset_writer *writer;
  import_meter
      *meter; /* its total counts one reading of every file; an importer that reads oftener multiplies it */
} import_job;

typedef struct importer {
  const char *name; /* "idx" */
  const char *help;
  const char *const
      *options; /* flags that belong to some formats only and to this one: "label-column"; NULL-ended */
  /* Writes every split's arrays. All in `job` is borrowed. */
  status (*run)(const import_job *job);
} importer;

const importer *const *importers(void);          /* NULL-ended */
const importer *importer_find(const char *name); /* NULL if unknown */

/* Local. What `mpistill import` does: o->output is made from o->sources by the importer o->format. Progress
 * on stderr unless o->out.quiet. On failure o->output is as it was. */
status import_run(const mpistill_import_options *o);
/* Local. The same, but only as far as OUTPUT.part, whole and on disk. */
status import_prepare(const mpistill_import_options *o);
/* Local. What o->sources hold: "SPLIT=xxh3:...,xxh3:..." each, by the bytes of the files; none of them when
 * one is no plain file and can be read but once. Freed with strings_free. */
status import_hashes(const mpistill_import_options *o, mpistill_strings *out);

#endif
