#include "stages/reduced.h"

#include "base/mem.h"
#include "onnx/precision.h"

#include <math.h>
#include <string.h>

enum { CALIBRATION_BATCH = 8 };

bool reduced_wanted(const mpistill_train_options *o) {
  return o->precision && strcmp(o->precision, "float32") != 0;
}

status reduced_full_path(char **out, const char *output) {
  size_t n = strlen(output);
  if (n > 5 && strcmp(output + n - 5, ".onnx") == 0) n -= 5;
  return mem_format(out, "%.*s.float32.onnx", (int)n, output);
}

typedef struct calibration {
  const subject *s;
  const float *block;
  feed input;
  precision_range *ranges;
  int n_ranges, *taps;
  arena *memory;
} calibration;

static status plan_of(plan **p, const calibration *w, int64_t rows) {
  shape inputs[CLASSIFIER_MAX_INPUTS];
  memcpy(inputs, w->s->k.inputs, sizeof inputs);
  for (int i = 0; i < w->s->k.n_inputs; i++) inputs[i].dims[0] = rows;
  status st = plan_new(
      p, w->s->k.g,
      &(plan_options){
          .rows = rows, .arena = w->memory, .taps = w->taps, .n_taps = w->n_ranges, .input_shapes = inputs});
  if (!st) plan_set_parameters(*p, w->block);
  return st;
}

static void widen(precision_range *r, const tensor *t) {
  const float *x = t->data;
  for (int64_t i = 0; i < shape_count(&t->shape); i++) {
    r->low = fminf(r->low, x[i]);
    r->high = fmaxf(r->high, x[i]);
  }
}

/* Rows evenly spread over the split, so that one sorted by class is met in all its parts. */
static status run_rows(calibration *w, plan *p, int64_t from, int64_t n, int64_t of) {
  int64_t ids[CALIBRATION_BATCH], all = w->s->sp->n;
  for (int64_t i = 0; i < n; i++) ids[i] = (from + i) * all / of;
  status st = feed_read(&w->input, &w->s->k, ids, n, p);
  if (!st) st = plan_forward(p, &(run_context){.rows = ids, .row_share = 1.0f});
  for (int i = 0; i < w->n_ranges && !st; i++) widen(&w->ranges[i], plan_tap(p, i));
  return st;
}

static status find_taps(calibration *w) {
  status st = mem_new(&w->taps, (size_t)w->n_ranges, sizeof *w->taps);
  for (int i = 0; i < w->n_ranges && !st; i++) {
    w->taps[i] = graph_find(w->s->k.g, w->ranges[i].name);
    if (w->taps[i] < 0)
      st = status_set(STATUS_FAILED, "%s: '%s' cannot be observed", w->s->k.path, w->ranges[i].name);
  }
  return st;
}

static status calibrate(calibration *w, int64_t wanted) {
  status st = STATUS_OK;
  plan *whole = NULL, *last = NULL;
  int64_t n = wanted < w->s->sp->n ? wanted : w->s->sp->n,
          batch = n < CALIBRATION_BATCH ? n : CALIBRATION_BATCH;
  TRY(find_taps(w));
  TRY(arena_new(&w->memory));
  TRY(plan_of(&whole, w, batch));
  if (n % batch) TRY(plan_of(&last, w, n % batch));
  for (int64_t from = 0; from < n; from += batch) {
    int64_t left = n - from < batch ? n - from : batch;
    TRY(run_rows(w, left == batch ? whole : last, from, left, n));
  }
done:
  plan_free(&last);
  plan_free(&whole);
  arena_free(&w->memory);
  mem_free(w->taps);
  return st;
}

static status reduce(calibration *w, const mpistill_train_options *o, unsigned char **out, size_t *n_out) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  size_t n;
  const char *path = w->s->k.path;
  TRY(model_pack(w->s->m, w->block, &bytes, &n));
  if (strcmp(o->precision, "float16") == 0) {
    TRY(precision_float16(path, bytes, n, out, n_out));
    goto done;
  }
  TRY(precision_tensors(path, bytes, n, &w->ranges, &w->n_ranges));
  if (w->n_ranges) TRY(calibrate(w, o->calibration_rows));
  TRY(precision_int8(path, bytes, n, w->ranges, w->n_ranges, out, n_out));
done:
  precision_ranges_free(&w->ranges, w->n_ranges);
  mem_free(bytes);
  return st;
}

static status check(const subject *s, const mpistill_train_options *o) {
  status st = STATUS_OK;
  calibration w = {.s = s};
  unsigned char *bytes = NULL, *out = NULL;
  size_t n;
  TRY(model_pack(s->m, s->block, &bytes, &n));
  if (strcmp(o->precision, "float16") == 0)
    TRY(precision_float16(s->k.path, bytes, n, &out, &n));
  else
    TRY(precision_tensors(s->k.path, bytes, n, &w.ranges, &w.n_ranges));
done:
  precision_ranges_free(&w.ranges, w.n_ranges);
  mem_free(bytes);
  mem_free(out);
  return st;
}

status reduced_check(comm *c, const subject *s, const mpistill_train_options *o) {
  if (!reduced_wanted(o)) return STATUS_OK;
  return comm_agree(c, comm_rank(c) == 0 ? check(s, o) : STATUS_OK);
}

status reduced_bytes(comm *c, const subject *s, const float *block, dataset *d,
                     const mpistill_train_options *o, unsigned char **bytes, size_t *n) {
  status st = STATUS_OK;
  calibration w = {.s = s, .block = block};
  *bytes = NULL;
  TRY(feed_open(&w.input, &s->k, d, s->sp));
  TRY(comm_agree(c, comm_rank(c) == 0 ? reduce(&w, o, bytes, n) : STATUS_OK));
done:
  feed_close(&w.input);
  return st;
}
