/* Dataset files: headers, the hash, every row of every array. */
#include "fuzz.h"

#include "store/dataset.h"

#include "base/mem.h"

enum { ROWS = 1000, VALUES = 1 << 16 };

static status read_array(dataset *d, const split *s, const array *a) {
  status st = STATUS_OK;
  rows *r = NULL;
  float *values = NULL;
  TRY(rows_open(&r, d, s, a, 1 << 20));
  if (rows_values(r) > VALUES) goto done;
  TRY(mem_new(&values, (size_t)rows_values(r) + 1, sizeof *values));
  for (int64_t i = 0; i < s->n && i < ROWS && !st; i++) st = rows_floats(r, &i, 1, values);
done:
  rows_close(&r);
  mem_free(values);
  return st;
}

static status read_split(dataset *d, const split *s) {
  status st = STATUS_OK;
  char hash[HASH_TEXT_BYTES];
  TRY(dataset_hash(d, s, hash));
  for (int i = 0; i < s->n_inputs; i++) TRY(read_array(d, s, &s->inputs[i]));
  for (int i = 0; i < s->n_labels; i++) TRY(read_array(d, s, &s->labels[i]));
done:
  return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static comm *c;
  dataset *d = NULL;
  if (!c && comm_alone(&c)) abort();
  status st = dataset_open(&d, c, fuzz_file("data.h5", data, n));
  for (int i = 0; !st && i < dataset_n_splits(d); i++) st = read_split(d, dataset_split_at(d, i));
  fuzz_answer(st);
  dataset_close(&d);
  unlink(fuzz_path("data.h5.hash"));
  return 0;
}
