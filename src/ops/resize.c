/* Resize and Upsample: every axis by itself. Element o of a resized axis is
 *     y[o] = sum over its taps t of weight[o, t] x[place[o, t]],        dx[place[o, t]] += weight[o, t] dy[o]
 * with 1 tap for nearest, 2 for linear, 4 for cubic, from tables made in prepare. An axis that stays as it is
 * has none and costs nothing. */
#include "base/mem.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

enum { TAPS_MAX = 4 };

typedef struct axis_table {
  int64_t in, out, outer, inner; /* the array is [outer][in][inner] before, [outer][out][inner] after */
  int64_t *place;                /* [out][taps] */
  float *weight;                 /* [out][taps] */
  uint8_t
      *outside; /* [out] the point lies outside the input; only where such points have a value of their own */
} axis_table;

typedef struct resize {
  int taps;
  int n; /* resized axes */
  axis_table axes[SHAPE_MAX_RANK];
  int64_t largest; /* elements of the largest array between two axes */
  bool extrapolate;
  float outside_value;
} resize;

typedef enum coordinates {
  HALF_PIXEL,
  PYTORCH_HALF_PIXEL,
  ALIGN_CORNERS,
  ASYMMETRIC,
  TF_HALF_PIXEL_FOR_NN,
  TF_CROP_AND_RESIZE,
  N_COORDINATES
} coordinates;

static const char *const coordinate_names[N_COORDINATES] = {
    "half_pixel", "pytorch_half_pixel",   "align_corners",
    "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize",
};

typedef enum rounding { ROUND_PREFER_FLOOR, ROUND_PREFER_CEIL, FLOOR, CEIL, N_ROUNDINGS } rounding;

static const char *const rounding_names[N_ROUNDINGS] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                                        "ceil"};

static const char *const mode_names[] = {"nearest", "linear", "cubic"};

/* What a node asks for. */
typedef struct wishes {
  int taps;
  coordinates coordinates;
  rounding rounding;
  float cubic;
  bool exclude_outside, sized; /* sized: sizes are given, scales follow from them */
  double scale[SHAPE_MAX_RANK], crop[2][SHAPE_MAX_RANK];
  int64_t size[SHAPE_MAX_RANK];
} wishes;

static status name_index(const step *s, const char *attribute, const char *fallback, const char *const *names,
                         int n, int *out) {
  const char *name = node_string(s->node, attribute, fallback);
  for (*out = 0; *out < n; (*out)++)
    if (strcmp(name, names[*out]) == 0) return STATUS_OK;
  return step_error(s, "%s '%s' is not understood", attribute, name);
}

/* Before opset 11 there is one way: asymmetric, rounded down. */
static status read_modes(const step *s, wishes *w) {
  static const int taps[] = {1, 2, 4};
  status st = STATUS_OK;
  bool old = s->op->until != 0;
  int mode, kind, rounding;
  const char *name = node_string(s->node, "mode", "nearest");
  TRY(name_index(s, "mode", "nearest", mode_names, 3, &mode));
  if (old && mode == 2) return step_error(s, "mode '%s' is not understood", name);
  TRY(name_index(s, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel", coordinate_names,
                 N_COORDINATES, &kind));
  TRY(name_index(s, "nearest_mode", old ? "floor" : "round_prefer_floor", rounding_names, N_ROUNDINGS,
                 &rounding));
  w->taps = taps[mode];
  w->coordinates = (coordinates)kind;
  w->rounding = rounding;
  w->cubic = node_float(s->node, "cubic_coeff_a", -0.75f);
  w->exclude_outside = node_int(s->node, "exclude_outside", 0) != 0;
  if (node_int(s->node, "antialias", 0)) return step_error(s, "antialias is not supported");
  name = node_string(s->node, "keep_aspect_ratio_policy", "stretch");
  if (strcmp(name, "stretch") != 0)
    return step_error(s, "keep_aspect_ratio_policy '%s' is not supported", name);
done:
  return st;
}

/* The axes that scales, sizes and roi name: all of them unless the attribute says which. */
static status read_axes(const step *s, int rank, int64_t *axes, int *n) {
  status st = step_ints(s, -1, "axes", axes, rank, n);
  if (st || *n < 0)
    for (*n = 0; !st && *n < rank; (*n)++) axes[*n] = *n;
  for (int i = 0; !st && i < *n; i++) {
    axes[i] += axes[i] < 0 ? rank : 0;
    if (axes[i] < 0 || axes[i] >= rank) st = step_error(s, "axes names no axis of %d", rank);
  }
  return st;
}

/* An input of numbers, one for each of n places; false in *there if it is not given or empty. */
static status read_numbers(const step *s, int input, int n, double *out, bool *there) {
  *there = step_has(s, input) && shape_count(&s->in[input]->shape) > 0;
  if (!*there) return STATUS_OK;
  status st = input_want_constant(s, input);
  if (st != STATUS_OK) return st;
  if (shape_count(&s->in[input]->shape) != n) return step_error(s, "input %d needs %d numbers", input, n);
  for (int i = 0; i < n; i++) out[i] = tensor_real(s->in[input], i);
  return STATUS_OK;
}

/* Upsample-7 has its scales as an attribute, Upsample-9 and Resize-10 as input 1, Resize-11 roi, scales,
 * sizes. */
static status read_scales(const step *s, int rank, wishes *w) {
  const attribute *given = node_attribute(s->node, "scales");
  const int at = s->op->max_inputs > 2 ? 2 : 1;
  double sizes[SHAPE_MAX_RANK], crop[2 * SHAPE_MAX_RANK], scales[SHAPE_MAX_RANK];
  int64_t axes[SHAPE_MAX_RANK];
  bool scaled = false, cropped = false;
  status st = STATUS_OK;
  int n;
  TRY(read_axes(s, rank, axes, &n));
  for (int d = 0; d < rank; d++) {
    w->scale[d] = 1;
    w->size[d] = s->in[0]->shape.dims[d];
    w->crop[1][d] = 1;
  }
  if (given && given->type == ATTRIBUTE_FLOATS && given->n == rank) {
    for (int d = 0; d < rank; d++) w->scale[d] = (double)given->floats[d];
    scaled = true;
  }
  if (!scaled) {
    TRY(read_numbers(s, at, n, scales, &scaled));
    for (int i = 0; scaled && i < n; i++) w->scale[axes[i]] = scales[i];
  }
  if (at == 2) TRY(read_numbers(s, 3, n, sizes, &w->sized));
  if (scaled == w->sized)
    return step_error(s, "needs %s, one for each of %d axes", at == 2 ? "scales or sizes" : "scales", n);
  for (int i = 0; w->sized && i < n; i++) w->size[axes[i]] = (int64_t)sizes[i];
  if (w->coordinates != TF_CROP_AND_RESIZE) goto done;
  TRY(read_numbers(s, 1, 2 * n, crop, &cropped));
  for (int i = 0; cropped && i < n; i++) {
    w->crop[0][axes[i]] = crop[i];
    w->crop[1][axes[i]] = crop[n + i];
  }
done:
  return st;
}

static status read_wishes(const step *s, wishes *w) {
  const shape *x = &s->in[0]->shape;
  status st = STATUS_OK;
  TRY(read_modes(s, w));
  TRY(read_scales(s, x->rank, w));
  for (int d = 0; d < x->rank; d++) {
    if (w->sized) {
      w->scale[d] = x->dims[d] ? (double)w->size[d] / (double)x->dims[d] : 1;
    } else {
      double share = w->coordinates == TF_CROP_AND_RESIZE ? w->crop[1][d] - w->crop[0][d] : 1;
      double size = floor((double)x->dims[d] * share * w->scale[d]);
      if (!(w->scale[d] > 0) || !(size < 0x1p31))
        return step_error(s, "scale %g of axis %d cannot be", w->scale[d], d);
      w->size[d] = (int64_t)size;
    }
    if (w->size[d] < 1 || x->dims[d] < 1)
      return step_error(s, "axis %d would go from %lld to %lld elements", d, (long long)x->dims[d],
                        (long long)w->size[d]);
  }
done:
  return st;
}

static status resize_infer(step *s) {
  wishes w = {0};
  status st = STATUS_OK;
  TRY(input_want_number(s, 0));
  TRY(read_wishes(s, &w));
  if (w.taps > 1) TRY(input_want(s, 0, DTYPE_FLOAT));
  shape out = {.rank = s->in[0]->shape.rank};
  for (int d = 0; d < out.rank; d++) out.dims[d] = w.size[d];
  step_set_output(s, 0, s->in[0]->type, &out);
done:
  return st;
}

/* Where element o of axis d lies in the input. A scale from a file is a float: nearest points that it names
 * may miss a whole number by its rounding. */
static double point_of(const wishes *w, int d, int64_t in, int64_t o) {
  const double length = w->sized ? (double)w->size[d] : w->scale[d] * (double)in, last = (double)(in - 1);
  const double start = w->crop[0][d], end = w->crop[1][d];
  double half = 0.5, back = 0.5;
  switch (w->coordinates) {
  case ALIGN_CORNERS:
    return length > 1 ? (double)o * last / (length - 1) : 0;
  case TF_CROP_AND_RESIZE:
    return length > 1 ? start * last + (double)o * (end - start) * last / (length - 1)
                      : 0.5 * (start + end) * last;
  case PYTORCH_HALF_PIXEL:
    if (length <= 1) return 0;
    break;
  case ASYMMETRIC:
    half = back = 0;
    break;
  case TF_HALF_PIXEL_FOR_NN:
    back = 0;
    break;
  default:
    break;
  }
  double point = ((double)o + half) / w->scale[d];
  if (w->sized) point = ((double)o + half) * (double)in / (double)w->size[d];
  if (!w->sized && w->taps == 1) point = (double)(float)point;
  return point - back;
}

static double rounded(double point, rounding r) {
  return r == FLOOR               ? floor(point)
         : r == CEIL              ? ceil(point)
         : r == ROUND_PREFER_CEIL ? floor(point + 0.5)
                                  : ceil(point - 0.5);
}

/* The weights of the taps around a point, the part behind the comma of which is r (Keys 1981 for cubic). */
static void tap_weights(const wishes *w, double r, double *weight) {
  const double a = (double)w->cubic;
  if (w->taps == 1) {
    weight[0] = 1;
  } else if (w->taps == 2) {
    weight[0] = 1 - r;
    weight[1] = r;
  } else {
    for (int t = 0; t < 4; t++) {
      double z = fabs(r + 1 - t);
      weight[t] = z <= 1 ? ((a + 2) * z - (a + 3)) * z * z + 1 : ((a * z - 5 * a) * z + 8 * a) * z - 4 * a;
    }
  }
}

static void fill_point(const wishes *w, int d, const axis_table *a, int64_t o) {
  const double point = point_of(w, d, a->in, o);
  const double first = w->taps == 1 ? rounded(point, w->rounding) : floor(point) - (w->taps == 4);
  double weight[TAPS_MAX], sum = 0;
  tap_weights(w, point - floor(point), weight);
  for (int t = 0; t < w->taps; t++) {
    double place = first + t;
    bool inside = place >= 0 && place <= (double)(a->in - 1);
    if (w->exclude_outside && !inside) weight[t] = 0;
    sum += weight[t];
    a->place[o * w->taps + t] = place < 0 ? 0 : inside ? (int64_t)place : a->in - 1;
  }
  if (a->outside) a->outside[o] = point < 0 || point > (double)(a->in - 1);
  for (int t = 0; t < w->taps; t++) {
    double share = w->exclude_outside && sum != 0 ? weight[t] / sum : weight[t];
    a->weight[o * w->taps + t] = a->outside && a->outside[o] ? 0 : (float)share;
  }
}

static status fill_axis(const wishes *w, int d, axis_table *a) {
  status st = STATUS_OK;
  const size_t n = (size_t)a->out * (size_t)w->taps;
  TRY(mem_new(&a->place, n, sizeof *a->place));
  TRY(mem_new(&a->weight, n, sizeof *a->weight));
  if (w->coordinates == TF_CROP_AND_RESIZE) TRY(mem_new(&a->outside, (size_t)a->out, 1));
  for (int64_t o = 0; o < a->out; o++) fill_point(w, d, a, o);
done:
  return st;
}

static void resize_release(step *s) {
  resize *r = s->state;
  if (!r) return;
  for (int i = 0; i < r->n; i++) {
    mem_free(r->axes[i].place);
    mem_free(r->axes[i].weight);
    mem_free(r->axes[i].outside);
  }
  mem_free(r);
  s->state = NULL;
}

static status resize_prepare(step *s) {
  wishes w = {0};
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(resize)));
  resize *r = s->state;
  TRY(read_wishes(s, &w));
  r->taps = w.taps;
  r->extrapolate = w.coordinates == TF_CROP_AND_RESIZE;
  r->outside_value = node_float(s->node, "extrapolation_value", 0);
  shape now = s->in[0]->shape;
  for (int d = 0; d < now.rank; d++) {
    if (w.size[d] == now.dims[d] && w.scale[d] == 1 && !r->extrapolate) continue;
    axis_table *a = &r->axes[r->n++];
    *a = (axis_table){.in = now.dims[d],
                      .out = w.size[d],
                      .outer = shape_span(&now, 0, d),
                      .inner = shape_span(&now, d + 1, now.rank)};
    now.dims[d] = w.size[d];
    TRY(fill_axis(&w, d, a));
    if (shape_count(&now) > r->largest) r->largest = shape_count(&now);
  }
  if (r->n > 1) s->scratch_bytes = 2 * (size_t)r->largest * dtype_bytes(s->in[0]->type);
done:
  return st;
}

/* Elements of any type, one tap. */
static void pick(const axis_table *a, const char *x, char *y, size_t bytes) {
  const size_t slice = (size_t)a->inner * bytes;
  for (int64_t i = 0; i < a->outer; i++, x += (size_t)a->in * slice) {
    for (int64_t o = 0; o < a->out; o++, y += slice) memcpy(y, x + (size_t)a->place[o] * slice, slice);
  }
}

/* inner is 1: along a row. */
static void blend_row(const axis_table *a, int taps, const float *x, float *y) {
  for (int64_t o = 0; o < a->out; o++) {
    const int64_t *place = a->place + o * taps;
    const float *weight = a->weight + o * taps;
    float sum = 0;
    for (int t = 0; t < taps; t++) sum += weight[t] * x[place[t]];
    y[o] = sum;
  }
}

FOR_EACH_PROCESSOR static void blend(const axis_table *a, int taps, const float *x, float *y) {
  const int64_t inner = a->inner;
  for (int64_t i = 0; i < a->outer; i++, x += a->in * inner) {
    if (inner == 1) {
      blend_row(a, taps, x, y);
      y += a->out;
      continue;
    }
    for (int64_t o = 0; o < a->out; o++, y += inner) {
      for (int t = 0; t < taps; t++) {
        const float weight = a->weight[o * taps + t], *from = x + a->place[o * taps + t] * inner;
        EACH_ALONE
        for (int64_t k = 0; k < inner; k++) y[k] = t ? y[k] + weight * from[k] : weight * from[k];
      }
    }
  }
}

/* Adds. */
FOR_EACH_PROCESSOR static void blend_back(const axis_table *a, int taps, const float *dy, float *dx) {
  const int64_t inner = a->inner;
  for (int64_t i = 0; i < a->outer; i++, dx += a->in * inner) {
    for (int64_t o = 0; o < a->out; o++, dy += inner) {
      for (int t = 0; t < taps; t++) {
        const float weight = a->weight[o * taps + t];
        float *to = dx + a->place[o * taps + t] * inner;
        EACH_ALONE
        for (int64_t k = 0; k < inner; k++) to[k] += weight * dy[k];
      }
    }
  }
}

/* Elements whose point lies outside along any axis. */
static void fill_outside(const step *s) {
  const resize *r = s->state;
  const shape *y = &s->out[0]->shape;
  for (int d = 0; d < r->n; d++) {
    const int64_t outer = shape_span(y, 0, d), inner = shape_span(y, d + 1, y->rank);
    for (int64_t i = 0; i < outer * y->dims[d]; i++) {
      if (!r->axes[d].outside[i % y->dims[d]]) continue;
      for (int64_t k = 0; k < inner; k++)
        element_set_real(s->out[0], i * inner + k, (double)r->outside_value);
    }
  }
}

static status resize_forward(step *s) {
  const resize *r = s->state;
  const size_t bytes = dtype_bytes(s->in[0]->type);
  const char *from = s->in[0]->data;
  if (!r->n) memcpy(s->out[0]->data, from, (size_t)tensor_count(s->in[0]) * bytes);
  for (int i = 0; i < r->n; i++) {
    char *to =
        i == r->n - 1 ? s->out[0]->data : (char *)s->scratch + (size_t)(i % 2 ? r->largest : 0) * bytes;
    if (r->taps == 1) {
      pick(&r->axes[i], from, to, bytes);
    } else {
      blend(&r->axes[i], r->taps, (const float *)from, (float *)to);
    }
    from = to;
  }
  if (r->extrapolate) fill_outside(s);
  return STATUS_OK;
}

static status resize_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const resize *r = s->state;
  const float *from = s->dout[0]->data;
  if (!r->n) gradient_write(s->din[0]->data, from, tensor_count(s->din[0]), s->accumulate[0]);
  for (int i = r->n - 1; i >= 0; i--) {
    const axis_table *a = &r->axes[i];
    float *to = i == 0 ? gradient_begin(s, 0) : (float *)s->scratch + (i % 2 ? r->largest : 0);
    if (i > 0) memset(to, 0, (size_t)(a->outer * a->in * a->inner) * sizeof *to);
    blend_back(a, r->taps, from, to);
    from = to;
  }
  return STATUS_OK;
}

#define RESIZE(identifier, type, first, last, least_inputs, most_inputs, ...)                                \
  const op op_##identifier = {.name = type,                                                                  \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .until = last,                                                                 \
                              .min_inputs = least_inputs,                                                    \
                              .max_inputs = most_inputs,                                                     \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .differentiable = 1,                                                           \
                              .infer = resize_infer,                                                         \
                              .prepare = resize_prepare,                                                     \
                              .forward = resize_forward,                                                     \
                              .backward = resize_backward,                                                   \
                              .release = resize_release}

RESIZE(Resize_10, "Resize", 10, 10, 2, 2, "mode", NULL);
RESIZE(Resize_11, "Resize", 11, 0, 1, 4, "mode", "coordinate_transformation_mode", "cubic_coeff_a",
       "exclude_outside", "extrapolation_value", "nearest_mode", "antialias", "axes",
       "keep_aspect_ratio_policy", NULL);
RESIZE(Upsample_7, "Upsample", 7, 8, 1, 1, "mode", "scales", NULL);
RESIZE(Upsample_9, "Upsample", 9, 9, 2, 2, "mode", NULL);
