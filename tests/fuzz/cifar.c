#include "import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  fuzz_import("cifar", NULL, false, data, n);
  return 0;
}
