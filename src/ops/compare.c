/* Comparisons and logic of two broadcast inputs: the result is bool. */
#include "ops/binary.h"
#include "ops/support.h"

/* Both as integers and as reals: int64_t has values that no double has. */
#define COMPARISON(name, test)                                                                               \
  static int64_t name##_whole(int64_t a, int64_t b) {                                                        \
    return test;                                                                                             \
  }                                                                                                          \
  static double name##_real(double a, double b) {                                                            \
    return test;                                                                                             \
  }                                                                                                          \
  static status name##_forward(step *s) {                                                                    \
    static const binary_kernel kernel = {.real = name##_real, .whole = name##_whole};                        \
    return binary_forward(s, &kernel);                                                                       \
  }

static status compare_infer(step *s) {
  status st = input_want(s, 1, s->in[0]->type);
  return st == STATUS_OK ? binary_infer(s, DTYPE_BOOL) : st;
}

static status logic_infer(step *s) {
  status st = input_want(s, 0, DTYPE_BOOL);
  return st == STATUS_OK ? compare_infer(s) : st;
}

#define OPERATOR(identifier, first, infer_of, name_of, test)                                                 \
  COMPARISON(name_of, test)                                                                                  \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .min_inputs = 2,                                                               \
                              .max_inputs = 2,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){NULL},                                     \
                              .infer = infer_of,                                                             \
                              .forward = name_of##_forward};

OPERATOR(Equal, 7, compare_infer, equal, a == b)
OPERATOR(Less, 7, compare_infer, less, a < b)
OPERATOR(LessOrEqual, 12, compare_infer, less_or_equal, a <= b)
OPERATOR(Greater, 7, compare_infer, greater, a > b)
OPERATOR(GreaterOrEqual, 12, compare_infer, greater_or_equal, a >= b)
OPERATOR(And, 7, logic_infer, and, a != 0 && b != 0)
OPERATOR(Or, 7, logic_infer, or, a != 0 || b != 0)
OPERATOR(Xor, 7, logic_infer, xor, (a != 0) != (b != 0))
