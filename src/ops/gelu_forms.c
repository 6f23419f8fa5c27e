/* GELU as exporters write it out, in any order of the factors:
 *     x (1 + erf(x / sqrt(2))) / 2        x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 */
#include "ops/gelu_forms.h"

#include "ops/ops.h"
#include "ops/pattern.h"

#include <math.h>

extern const op op_Add, op_Mul, op_Div, op_Pow, op_Erf, op_Tanh, op_Gelu;

enum { FACTORS_MAX = 4 };

/* constant * values[0] * values[1] * ... */
typedef struct factors {
  double constant;
  int values[FACTORS_MAX], n;
} factors;

static bool add_factor(factors *f, int value, int times) {
  if (f->n + times > FACTORS_MAX) return false;
  for (int i = 0; i < times; i++) f->values[f->n++] = value;
  return true;
}

static bool collect(const reader *r, int value, int depth, factors *f);

static bool collect_step(const reader *r, const step *s, int depth, factors *f) {
  double c = 0;
  if (s->op == &op_Mul) {
    const int at = number_of(s, &c);
    if (at < 0) return collect(r, s->node->inputs[0], depth, f) && collect(r, s->node->inputs[1], depth, f);
    f->constant *= c;
    return collect(r, s->node->inputs[!at], depth, f);
  }
  if (!known_number(s, 1, &c)) return false;
  if (s->op == &op_Div) {
    f->constant /= c;
    return collect(r, s->node->inputs[0], depth, f);
  }
  return (c == 2 || c == 3) && add_factor(f, s->node->inputs[0], (int)c);
}

/* The factors of a value; one that is no product is its own only factor. */
static bool collect(const reader *r, int value, int depth, factors *f) {
  const step *s = made_alone(r, value);
  double c;
  bool product =
      s && (s->op == &op_Mul || ((s->op == &op_Div || s->op == &op_Pow) && known_number(s, 1, &c)));
  if (!product || depth == 0) return add_factor(f, value, 1);
  return collect_step(r, s, depth - 1, f);
}

static bool near(double x, double wanted) {
  return fabs(x - wanted) <= 1e-5 * wanted;
}

/* The step that computes `value` if it is of this kind. */
static const step *made_by(const reader *r, int value, const op *kind) {
  const step *s = made_alone(r, value);
  return s && s->op == kind ? s : NULL;
}

/* value = 1 + of(inner) */
static bool one_plus(const reader *r, int value, const op *of, int *inner) {
  const step *sum = made_by(r, value, &op_Add), *s;
  double one = 0;
  const int at = sum ? number_of(sum, &one) : -1;
  if (at < 0 || one != 1 || !(s = made_by(r, sum->node->inputs[!at], of))) return false;
  *inner = s->node->inputs[0];
  return true;
}

static bool is_power(const reader *r, int value, int x, int power, double constant) {
  factors f = {.constant = 1};
  if (!collect(r, value, FACTORS_MAX, &f) || f.n != power || !near(f.constant, constant)) return false;
  for (int i = 0; i < power; i++)
    if (f.values[i] != x) return false;
  return true;
}

/* sqrt(2 / pi) (x + 0.044715 x^3) or sqrt(2 / pi) x (1 + 0.044715 x^2) */
static bool is_inner_of_tanh(const reader *r, int value, int x) {
  const double slope = 0.044715;
  factors f = {.constant = 1};
  if (!collect(r, value, FACTORS_MAX, &f) || !near(f.constant, 0.7978845608)) return false;
  if (f.n == 1) {
    const step *sum = made_by(r, f.values[0], &op_Add);
    if (!sum) return false;
    const int *in = sum->node->inputs;
    return (in[0] == x && is_power(r, in[1], x, 3, slope)) || (in[1] == x && is_power(r, in[0], x, 3, slope));
  }
  if (f.n != 2) return false;
  const int other = f.values[0] == x ? f.values[1] : f.values[1] == x ? f.values[0] : -1;
  const step *sum = made_by(r, other, &op_Add);
  double one = 0;
  const int at = sum ? number_of(sum, &one) : -1;
  return at >= 0 && one == 1 && is_power(r, sum->node->inputs[!at], x, 2, slope);
}

static bool is_inner_of_erf(const reader *r, int value, int x) {
  return is_power(r, value, x, 1, 0.70710678118);
}

bool gelu_shorten(const step *s, step_maker maker, const void *plan, short_form *out) {
  static const attribute tanh_form = {
      .name = (char *)"approximate", .type = ATTRIBUTE_STRING, .s = (char *)"tanh"};
  const reader r = {maker, plan};
  factors f = {.constant = 1};
  if (s->out[0]->type != DTYPE_FLOAT || !collect_step(&r, s, FACTORS_MAX, &f) || f.n != 2 ||
      !near(f.constant, 0.5))
    return false;
  for (int i = 0; i < 2; i++) {
    const int x = f.values[!i];
    int inner;
    bool erf = one_plus(&r, f.values[i], &op_Erf, &inner) && is_inner_of_erf(&r, inner, x);
    bool tanh = !erf && one_plus(&r, f.values[i], &op_Tanh, &inner) && is_inner_of_tanh(&r, inner, x);
    if (!erf && !tanh) continue;
    /* like_input: not where something broadcast it. */
    *out =
        (short_form){.op = &op_Gelu, .inputs = {x}, .n_inputs = 1, .n_attributes = tanh, .like_input = true};
    if (tanh) out->attributes[0] = tanh_form;
    return true;
  }
  return false;
}
