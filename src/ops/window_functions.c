/* HannWindow, HammingWindow, BlackmanWindow: `size` numbers a0 - a1 cos(2 pi i / d) + a2 cos(4 pi i / d) with
 * d = size, or size - 1 where periodic is 0. All are known when the model is loaded. */
#include "base/mem.h"
#include "ops/support.h"

#include <math.h>

typedef struct cosines {
  double a0, a1, a2;
} cosines;

enum { ONNX_FLOAT = 1 };

static status window_infer(step *s, cosines a) {
  status st = STATUS_OK;
  float *values = NULL;
  int64_t size;
  int n;
  TRY(step_ints(s, 0, NULL, &size, 1, &n));
  if (n != 1 || size < 0 || size > INT32_MAX)
    return step_error(s, "size must be one number that is not negative, less than 2^31");
  if (dtype_of_onnx(node_int(s->node, "output_datatype", ONNX_FLOAT)) != DTYPE_FLOAT)
    return step_error(s, "an output_datatype other than a real number is not supported");
  TRY(mem_new(&values, (size_t)size, sizeof *values));
  const double turn = 2 * acos(-1) / (double)(size - !node_int(s->node, "periodic", 1));
  for (int64_t i = 0; i < size; i++)
    values[i] = (float)(a.a0 - a.a1 * cos(turn * (double)i) + a.a2 * cos(2 * turn * (double)i));
  step_set_output(s, 0, DTYPE_FLOAT, &(shape){.rank = 1, .dims = {size}});
  TRY(step_constant_output(s, 0, values));
done:
  mem_free(values);
  return st;
}

static status hann_infer(step *s) {
  return window_infer(s, (cosines){0.5, 0.5, 0});
}

static status hamming_infer(step *s) {
  return window_infer(s, (cosines){25.0 / 46, 1 - 25.0 / 46, 0});
}

static status blackman_infer(step *s) {
  return window_infer(s, (cosines){0.42, 0.5, 0.08});
}

#define WINDOW(title, how)                                                                                   \
  const op op_##title = {.name = #title,                                                                     \
                         .domain = "",                                                                       \
                         .since = 17,                                                                        \
                         .min_inputs = 1,                                                                    \
                         .max_inputs = 1,                                                                    \
                         .max_outputs = 1,                                                                   \
                         .attributes = (const char *const[]){"output_datatype", "periodic", NULL},           \
                         .infer = how}

WINDOW(HannWindow, hann_infer);
WINDOW(HammingWindow, hamming_infer);
WINDOW(BlackmanWindow, blackman_infer);
