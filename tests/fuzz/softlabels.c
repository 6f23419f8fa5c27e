/* Soft-label files: headers, checksums, every row. */
#include "fuzz.h"

#include "store/softlabels.h"

#include "base/mem.h"

enum { ROWS = 1000, VALUES = 1 << 16 };

static int64_t values_a_row(int rank, const int64_t *dims) {
  int64_t n = 1;
  for (int i = 1; i < rank; i++) n = dims[i] > VALUES / n ? VALUES + 1 : n * dims[i];
  return n;
}

static status read_rows(softlabels *s) {
  status st = STATUS_OK;
  const softlabels_header *h = softlabels_get(s);
  float *values = NULL;
  TRY(softlabels_verify(s));
  TRY(mem_new(&values, VALUES, sizeof *values));
  bool fits = values_a_row(h->rank, h->dims) <= VALUES;
  for (int64_t i = 0; fits && i < h->dims[0] && i < ROWS; i++) TRY(softlabels_read(s, i, 1, values));
  for (int f = 0; f < h->n_features; f++) {
    if (values_a_row(h->features[f].rank, h->features[f].dims) > VALUES) continue;
    TRY(softlabels_feature_load(s, f, 1 << 20));
    for (int64_t i = 0; i < h->dims[0] && i < ROWS; i++) TRY(softlabels_feature_rows(s, f, &i, 1, values));
  }
done:
  mem_free(values);
  return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static comm *c;
  softlabels *s = NULL;
  if (!c && comm_alone(&c)) abort();
  status st = softlabels_open(&s, c, fuzz_file("soft.h5", data, n));
  if (!st) st = read_rows(s);
  fuzz_answer(st);
  softlabels_close(&s);
  return 0;
}
