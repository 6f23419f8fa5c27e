#include "ops/follow.h"

#include "ops/ops.h"

#include <string.h>

extern const op op_Add, op_Gelu, op_Gelu_microsoft;

static bool is_gelu(const step *next) {
  return next->op == &op_Gelu || next->op == &op_Gelu_microsoft;
}

bool follow_is_activation(const step *s, const step *next) {
  return is_gelu(next) && !(s->n_followers && is_gelu(&s->followers[s->n_followers - 1]));
}

bool follow_is_bias(const step *s, const step *next, int input) {
  if (next->op != &op_Add || s->n_followers) return false;
  const tensor *y = s->out[0], *bias = next->in[!input];
  const int64_t n = y->shape.dims[y->shape.rank - 1];
  return bias->type == DTYPE_FLOAT && tensor_count(bias) == n && bias->shape.rank >= 1 &&
         bias->shape.dims[bias->shape.rank - 1] == n && shape_equal(&next->out[0]->shape, &y->shape);
}

void follow_read(const step *s, bool *bias, activation *after) {
  for (int i = 0; i < s->n_followers; i++) {
    const step *next = &s->followers[i];
    if (is_gelu(next)) {
      bool near = strcmp(node_string(next->node, "approximate", "none"), "tanh") == 0;
      *after = near ? ACTIVATION_GELU_TANH : ACTIVATION_GELU;
    } else {
      *bias = true;
    }
  }
}

const float *follow_bias(const step *s, int n_own) {
  return s->n_in > n_own && s->n_followers && s->followers[0].op == &op_Add ? s->in[n_own]->data : NULL;
}
