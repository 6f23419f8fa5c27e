/* Checkpoints: the folder's first file. */
#include "fuzz.h"

#include "store/checkpoint.h"

#include "base/mem.h"

#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static comm *c;
  static const char *const names[] = {"parameters", "state0", "kept-parameters"};
  checkpoint *k = NULL;
  char *warning = NULL;
  float value;
  if (!c && comm_alone(&c)) abort();
  const char *folder = fuzz_path("run.ckpt");
  mkdir(folder, 0700);
  fuzz_file("run.ckpt/0.h5", data, n);
  status st = fuzz_answer(checkpoint_open(&k, c, folder, &warning));
  for (size_t i = 0; !st && k && i < sizeof names / sizeof *names; i++)
    fuzz_answer(checkpoint_read(k, names[i], 0, 1, &value));
  checkpoint_close(&k);
  mem_free(warning);
  return 0;
}
