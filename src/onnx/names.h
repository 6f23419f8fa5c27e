/* Name -> number, for the time a model is loaded. Private to src/onnx. */
#ifndef MPISTILL_ONNX_NAMES_H
#define MPISTILL_ONNX_NAMES_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct names names;

/* Local. Room for `n` names. */
status names_new(names **out, size_t n);
void names_free(names **t);
/* Local. Borrows `name`. false when it is there already (its number stays). At most as many calls as
 * names_new had room for. */
bool names_add(names *t, const char *name, int number);
/* Local. -1 if unknown. */
int names_find(const names *t, const char *name);

#endif
