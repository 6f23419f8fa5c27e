#ifndef MPISTILL_OPS_GELU_FORMS_H
#define MPISTILL_OPS_GELU_FORMS_H

#include "graph/op.h"

/* Local. op.shorten of Mul: whether the product that ends in s is GELU, exact or with tanh. */
bool gelu_shorten(const step *s, step_maker maker, const void *plan, short_form *out);

#endif
