/* GridSample: an image at points of its plane (Jaderberg 2015, spatial transformers).
 *     y[n, c, i] = sum over taps (v, h) of wy[v] wx[h] x[n, c, row[v], column[h]]       at point i of grid[n,
 * i] = (gx, gy) with 1 tap an axis for nearest, 2 for bilinear, 4 for bicubic. -1 and 1 are the image's ends:
 * the centres of its outermost pixels with align_corners, else their edges. dx takes the weights times dy;
 * dgrid the slopes of the weights, which nearest has none of. */
#include "base/mem.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

enum { TAPS_MAX = 4 };

typedef enum padding { PADDING_ZEROS, PADDING_BORDER, PADDING_REFLECTION, N_PADDINGS } padding;

static const char *const padding_names[N_PADDINGS] = {"zeros", "border", "reflection"};

typedef struct grid_sample {
  int taps;
  padding padding;
  bool align;
} grid_sample;

/* The taps of one point along one axis. */
typedef struct axis_taps {
  int64_t place[TAPS_MAX]; /* -1: outside, where all is zero */
  float weight[TAPS_MAX];
  float slope[TAPS_MAX]; /* of the weight, by the grid's number */
} axis_taps;

static int taps_of(const char *mode) {
  if (!strcmp(mode, "nearest")) return 1;
  if (!strcmp(mode, "bilinear") || !strcmp(mode, "linear")) return 2;
  return !strcmp(mode, "bicubic") || !strcmp(mode, "cubic") ? 4 : 0;
}

static int padding_of(const char *name) {
  int i = 0;
  while (i < N_PADDINGS && strcmp(name, padding_names[i]) != 0) i++;
  return i;
}

static status grid_sample_infer(step *s) {
  status st = STATUS_OK;
  TRY(input_want(s, 0, DTYPE_FLOAT));
  TRY(input_want(s, 1, DTYPE_FLOAT));
  const shape *x = &s->in[0]->shape, *grid = &s->in[1]->shape;
  const char *mode = node_string(s->node, "mode", "bilinear"),
             *name = node_string(s->node, "padding_mode", "zeros");
  if (!taps_of(mode)) return step_error(s, "mode '%s' is not understood", mode);
  if (padding_of(name) == N_PADDINGS) return step_error(s, "padding_mode '%s' is not understood", name);
  if (x->rank != 4 || grid->rank != 4)
    return step_error(
        s, "samples images [N, C, H, W] at [N, h, w, 2]; inputs of %d and %d dimensions are not supported",
        x->rank, grid->rank);
  if (grid->dims[0] != x->dims[0] || grid->dims[3] != 2 || x->dims[2] < 1 || x->dims[3] < 1)
    return step_error(s, "its grid does not fit its images");
  const shape out = {.rank = 4, .dims = {x->dims[0], x->dims[1], grid->dims[1], grid->dims[2]}};
  step_set_output(s, 0, DTYPE_FLOAT, &out);
done:
  return st;
}

static status grid_sample_prepare(step *s) {
  grid_sample *g;
  status st = mem_new(&g, 1, sizeof *g);
  if (st) return st;
  g->taps = taps_of(node_string(s->node, "mode", "bilinear"));
  g->padding = (padding)padding_of(node_string(s->node, "padding_mode", "zeros"));
  g->align = node_int(s->node, "align_corners", 0) != 0;
  s->state = g;
  return STATUS_OK;
}

static void grid_sample_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* Into the image, where padding says so; *slope by which the point moves with what was given. */
static float pad_point(const grid_sample *g, float point, float n, float *slope) {
  *slope = 1;
  if (g->padding == PADDING_ZEROS) return point;
  if (g->padding == PADDING_REFLECTION) {
    const float low = g->align ? 0 : -0.5f, span = g->align ? n - 1 : n;
    if (span <= 0) {
      *slope = 0;
      return 0;
    }
    const float far = fabsf(point - low), extra = fmodf(far, span);
    const bool turned = fmodf(floorf(far / span), 2) != 0;
    *slope = (point < low) != turned ? -1 : 1;
    point = turned ? span - extra + low : extra + low;
  }
  if (!(point > 0) || point >= n - 1) *slope = 0;
  return point > 0 ? fminf(point, n - 1) : 0;
}

/* A tap outside the image: zero, or the pixel that padding shows there. */
static int64_t place_of(const grid_sample *g, float place, int64_t n) {
  float unused;
  if (g->padding != PADDING_ZEROS && g->taps == 4) place = pad_point(g, place, (float)n, &unused);
  return place >= 0 && place <= (float)(n - 1) ? (int64_t)place : -1;
}

/* Keys (1981) with a = -0.75: the weight of a tap at the distance z, and its slope in z. */
static float cubic(float z, float *slope) {
  const float a = -0.75f;
  *slope = z <= 1 ? (3 * (a + 2) * z - 2 * (a + 3)) * z : (3 * a * z - 10 * a) * z + 8 * a;
  return z <= 1 ? ((a + 2) * z - (a + 3)) * z * z + 1 : ((a * z - 5 * a) * z + 8 * a) * z - 4 * a;
}

static void find_taps(const grid_sample *g, float at, int64_t n, axis_taps *t) {
  const float scale = g->align ? (float)(n - 1) / 2 : (float)n / 2;
  float point = (at + 1) * scale - (g->align ? 0 : 0.5f), slope = 1;
  if (g->taps < 4) point = pad_point(g, point, (float)n, &slope);
  slope *= scale;
  const float first = g->taps == 1 ? rintf(point) : floorf(point) - (float)(g->taps == 4);
  for (int k = 0; k < g->taps; k++) {
    const float z = point - first - (float)k;
    t->place[k] = place_of(g, first + (float)k, n);
    t->weight[k] = g->taps == 1 ? 1 : 1 - fabsf(z);
    t->slope[k] = g->taps == 1 ? 0 : k ? slope : -slope;
    if (g->taps == 4) {
      t->weight[k] = cubic(fabsf(z), &t->slope[k]);
      t->slope[k] *= z < 0 ? -slope : slope;
    }
  }
}

/* What one point needs of all channels: x and dx are those of its image, c channels of h * w. */
typedef struct sampled {
  axis_taps h, v;
  int64_t channels, plane, width, points; /* y's channels are `points` apart */
  int taps;
} sampled;

static void find_point(const step *s, int64_t i, sampled *p) {
  const grid_sample *g = s->state;
  const shape *x = &s->in[0]->shape, *y = &s->out[0]->shape;
  const float *at = (const float *)s->in[1]->data + 2 * i;
  p->channels = x->dims[1];
  p->plane = x->dims[2] * x->dims[3];
  p->width = x->dims[3];
  p->points = y->dims[2] * y->dims[3];
  p->taps = g->taps;
  find_taps(g, at[0], x->dims[3], &p->h);
  find_taps(g, at[1], x->dims[2], &p->v);
}

static float sample(const sampled *p, const float *x) {
  float sum = 0;
  for (int v = 0; v < p->taps; v++) {
    if (p->v.place[v] < 0) continue;
    const float *row = x + p->v.place[v] * p->width;
    float part = 0;
    for (int h = 0; h < p->taps; h++)
      if (p->h.place[h] >= 0) part += p->h.weight[h] * row[p->h.place[h]];
    sum += p->v.weight[v] * part;
  }
  return sum;
}

static status grid_sample_forward(step *s) {
  const shape *y = &s->out[0]->shape;
  const int64_t n = y->dims[0] * y->dims[2] * y->dims[3];
  for (int64_t i = 0; i < n; i++) {
    sampled p;
    find_point(s, i, &p);
    const int64_t image = i / p.points * p.channels;
    const float *x = (const float *)s->in[0]->data + image * p.plane;
    float *to = (float *)s->out[0]->data + image * p.points + i % p.points;
    for (int64_t c = 0; c < p.channels; c++) to[c * p.points] = sample(&p, x + c * p.plane);
  }
  return STATUS_OK;
}

/* dx of one channel takes g times the weights; returns in at[2] what the point's two numbers get of it. */
static void sample_back(const sampled *p, const float *x, float g, float *dx, float at[2]) {
  for (int v = 0; v < p->taps; v++) {
    for (int h = 0; h < p->taps && p->v.place[v] >= 0; h++) {
      if (p->h.place[h] < 0) continue;
      const int64_t place = p->v.place[v] * p->width + p->h.place[h];
      if (dx) dx[place] += g * p->v.weight[v] * p->h.weight[h];
      at[0] += g * p->v.weight[v] * p->h.slope[h] * x[place];
      at[1] += g * p->v.slope[v] * p->h.weight[h] * x[place];
    }
  }
}

static status grid_sample_backward(step *s) {
  const shape *y = &s->out[0]->shape;
  const int64_t n = y->dims[0] * y->dims[2] * y->dims[3];
  float *dx = s->din[0] ? gradient_begin(s, 0) : NULL, *dgrid = s->din[1] ? gradient_begin(s, 1) : NULL;
  for (int64_t i = 0; i < n; i++) {
    sampled p;
    float at[2] = {0};
    find_point(s, i, &p);
    const int64_t image = i / p.points * p.channels;
    const float *x = (const float *)s->in[0]->data + image * p.plane;
    const float *dy = (const float *)s->dout[0]->data + image * p.points + i % p.points;
    for (int64_t c = 0; c < p.channels; c++)
      sample_back(&p, x + c * p.plane, dy[c * p.points], dx ? dx + (image + c) * p.plane : NULL, at);
    for (int k = 0; dgrid && k < 2; k++) dgrid[2 * i + k] += at[k];
  }
  return STATUS_OK;
}

const op op_GridSample = {.name = "GridSample",
                          .domain = "",
                          .since = 16,
                          .min_inputs = 2,
                          .max_inputs = 2,
                          .max_outputs = 1,
                          .attributes = (const char *const[]){"align_corners", "mode", "padding_mode", NULL},
                          .keeps = KEEP_IN0 | KEEP_IN1,
                          .differentiable = 3,
                          .infer = grid_sample_infer,
                          .prepare = grid_sample_prepare,
                          .forward = grid_sample_forward,
                          .backward = grid_sample_backward,
                          .release = grid_sample_release};
