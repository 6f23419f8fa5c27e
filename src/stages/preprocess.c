#include "stages/preprocess.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool preprocess_given(const mpistill_preprocess *o) {
  return o->scale.n || o->offset.n || o->layout || o->channel_order || o->size.n || o->crop.n;
}

const mpistill_preprocess *teach_preprocess(const mpistill_teach_options *o, const mpistill_teacher *t) {
  return preprocess_given(&t->preprocess) ? &t->preprocess : &o->preprocess;
}

static status check_numbers(const mpistill_reals *r, const char *what, int64_t channels, const char *array) {
  if (!r->n || r->n == 1 || (int64_t)r->n == channels) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "preprocess.%s has %zu numbers for '%s' of %lld channels; give one or one each", what,
                    r->n, array, (long long)channels);
}

/* One number is a square. */
static status take_sides(const mpistill_ints *given, const char *what, int64_t sides[2]) {
  if (!given->n) return STATUS_OK;
  if (given->n > 2)
    return status_set(STATUS_BAD_INPUT, "preprocess.%s has %zu numbers; give height x width, or one for both",
                      what, given->n);
  sides[0] = given->items[0];
  sides[1] = given->items[given->n - 1];
  return STATUS_OK;
}

status preprocess_make(preprocess *p, const mpistill_preprocess *o, const array *a,
                       const char *dataset_path) {
  status st = STATUS_OK;
  *p = (preprocess){.active = o && preprocess_given(o)};
  if (!p->active) return st;
  if (a->rank != 4 && a->rank != 3)
    THROW(STATUS_BAD_INPUT,
          "%s: a teacher's preprocess is for images [rows, channels, height, width], but '%s' has %d "
          "dimensions",
          dataset_path, a->name, a->rank);
  p->channels = a->rank == 4 ? a->dims[1] : 1;
  for (int i = 0; i < 2; i++) p->from[i] = p->sized[i] = a->dims[a->rank - 2 + i];
  TRY(take_sides(&o->size, "size", p->sized));
  memcpy(p->out, p->sized, sizeof p->out);
  TRY(take_sides(&o->crop, "crop", p->out));
  if (p->out[0] > p->sized[0] || p->out[1] > p->sized[1])
    THROW(STATUS_BAD_INPUT, "%s: preprocess.crop asks for %lld x %lld of images '%s' of %lld x %lld",
          dataset_path, (long long)p->out[0], (long long)p->out[1], a->name, (long long)p->sized[0],
          (long long)p->sized[1]);
  TRY(check_numbers(&o->scale, "scale", p->channels, a->name));
  TRY(check_numbers(&o->offset, "offset", p->channels, a->name));
  p->scale = o->scale;
  p->offset = o->offset;
  p->reversed = o->channel_order && strcmp(o->channel_order, "reversed") == 0;
  p->last = o->layout && strcmp(o->layout, "nhwc") == 0;
done:
  return st;
}

shape preprocess_shape(const preprocess *p, int64_t n) {
  if (p->last) return (shape){.rank = 4, .dims = {n, p->out[0], p->out[1], p->channels}};
  return (shape){.rank = 4, .dims = {n, p->channels, p->out[0], p->out[1]}};
}

/* A point of the new image in the old one: between `low` and `low` + 1, the share of the latter. */
typedef struct between {
  int64_t low, high;
  float share;
} between;

static between find_between(int64_t at, int64_t from, int64_t to) {
  double x = ((double)at + 0.5) * (double)from / (double)to - 0.5;
  if (x < 0) x = 0;
  int64_t low = (int64_t)x < from - 1 ? (int64_t)x : from - 1;
  return (between){low, low < from - 1 ? low + 1 : low, (float)(x - (double)low)};
}

static float value_at(const preprocess *p, const float *plane, int64_t y, int64_t x) {
  if (p->from[0] == p->sized[0] && p->from[1] == p->sized[1]) return plane[y * p->from[1] + x];
  between v = find_between(y, p->from[0], p->sized[0]), h = find_between(x, p->from[1], p->sized[1]);
  const float *upper = plane + v.low * p->from[1], *lower = plane + v.high * p->from[1];
  float above = upper[h.low] + (upper[h.high] - upper[h.low]) * h.share;
  float below = lower[h.low] + (lower[h.high] - lower[h.low]) * h.share;
  return above + (below - above) * v.share;
}

static float number_of(const mpistill_reals *r, int64_t channel, float fallback) {
  return r->n ? (float)r->items[r->n == 1 ? 0 : channel] : fallback;
}

static int32_t clamp_round(float x, float low, float high) {
  x = nearbyintf(x);
  return (int32_t)(x < low ? low : x > high ? high : x);
}

static void put(dtype type, void *to, int64_t at, float x) {
  switch (type) {
  case DTYPE_UINT8:
    ((uint8_t *)to)[at] = (uint8_t)clamp_round(x, 0, UINT8_MAX);
    break;
  case DTYPE_INT8:
    ((int8_t *)to)[at] = (int8_t)clamp_round(x, INT8_MIN, INT8_MAX);
    break;
  case DTYPE_INT32:
    ((int32_t *)to)[at] = clamp_round(x, -0x1p30f, 0x1p30f);
    break;
  default:
    ((float *)to)[at] = x;
  }
}

void preprocess_rows(const preprocess *p, const float *from, int64_t n, dtype type, void *to) {
  const int64_t plane = p->from[0] * p->from[1], points = p->out[0] * p->out[1];
  const int64_t top = (p->sized[0] - p->out[0]) / 2, left = (p->sized[1] - p->out[1]) / 2;
  for (int64_t row = 0; row < n; row++)
    for (int64_t c = 0; c < p->channels; c++) {
      const float *in = from + (row * p->channels + (p->reversed ? p->channels - 1 - c : c)) * plane;
      const float scale = number_of(&p->scale, c, 1), offset = number_of(&p->offset, c, 0);
      for (int64_t i = 0; i < points; i++) {
        float x = value_at(p, in, top + i / p->out[1], left + i % p->out[1]) * scale + offset;
        int64_t at = p->last ? (row * points + i) * p->channels + c : (row * p->channels + c) * points + i;
        put(type, to, at, x);
      }
    }
}

static void add_reals(char *text, size_t bytes, const char *key, const mpistill_reals *r) {
  for (size_t i = 0; i < r->n; i++) {
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, "%s%.17g", i ? "," : key, r->items[i]);
  }
}

status preprocess_text(const mpistill_preprocess *o, char **out) {
  status st = STATUS_OK;
  char scale[1024] = "", offset[1024] = "";
  int64_t size[2] = {0, 0}, crop[2] = {0, 0};
  *out = NULL;
  if (!preprocess_given(o)) return st;
  TRY(take_sides(&o->size, "size", size));
  TRY(take_sides(&o->crop, "crop", crop));
  add_reals(scale, sizeof scale, " scale=", &o->scale);
  add_reals(offset, sizeof offset, " offset=", &o->offset);
  TRY(mem_format(out, "size=%lldx%lld crop=%lldx%lld layout=%s channels=%s%s%s", (long long)size[0],
                 (long long)size[1], (long long)crop[0], (long long)crop[1], o->layout ? o->layout : "nchw",
                 o->channel_order ? o->channel_order : "same", scale, offset));
done:
  return st;
}
