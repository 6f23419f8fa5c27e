/* The first byte chooses: text columns as numbers and standardised, or not. */
#include "import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  if (n) fuzz_import("csv", "class", data[0] & 1, data + 1, n - 1);
  return 0;
}
