#include "learn/losses.h"

#include <stddef.h>
#include <string.h>

static const loss_kind *const kinds[] = {&loss_kd, &loss_cross_entropy, NULL};

const loss_kind *const *loss_kinds(void) {
  return kinds;
}

const loss_kind *loss_find(const char *name) {
  for (const loss_kind *const *k = kinds; *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}
