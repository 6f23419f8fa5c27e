#include "fuzz.h"

#include "stages/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static comm *c;
  if (!c && comm_alone(&c)) abort();
  mpistill_recipe r;
  memset(&r, 0, sizeof r);
  fuzz_answer(recipe_read(c, fuzz_file("recipe.yaml", data, n), &(mpistill_strings){0}, &r));
  recipe_free(&r);
  return 0;
}
