/* A target for one importer: the first two bytes tell how many of the rest are the first file's
 * (little-endian); what remains is the second file, if there is any. */
#ifndef MPISTILL_TESTS_FUZZ_IMPORT_H
#define MPISTILL_TESTS_FUZZ_IMPORT_H

#include "fuzz.h"

#include "import/import.h"

static inline void fuzz_import(char *format, char *label_column, bool categorical, const uint8_t *data,
                               size_t n) {
  char source[1024], *sources[] = {source};
  size_t first = n < 2 ? 0 : data[0] + 256u * data[1];
  if (n < 2) return;
  data += 2;
  n -= 2;
  if (first > n) first = n;
  int end = snprintf(source, sizeof source, "train=%s", fuzz_file("first", data, first));
  if (n > first)
    snprintf(source + end, sizeof source - (size_t)end, ",%s", fuzz_file("second", data + first, n - first));
  mpistill_import_options o;
  mpistill_import_defaults(&o);
  o.format = format;
  o.sources = (mpistill_strings){.n = 1, .items = sources};
  o.label_column = label_column;
  o.categorical = categorical;
  o.standardize = categorical;
  o.output = (char *)fuzz_path("out.h5");
  o.out.quiet = true;
  o.out.force = true;
  fuzz_answer(import_run(&o));
}

#endif
