#include "base/rng.h"
#include "learn/features.h"
#include "ops/blas.h"

#include <math.h>
#include <string.h>

typedef enum mode { CONV, LINEAR, MEAN, NONE } mode;

static mode mode_of(const mpistill_feature *o) {
  if (!o->projector) return CONV;
  return !strcmp(o->projector, "linear") ? LINEAR
         : !strcmp(o->projector, "mean") ? MEAN
         : !strcmp(o->projector, "none") ? NONE
                                         : CONV;
}

static projection plan_of(const mpistill_feature *o, int64_t rows, const feature_map *s,
                          const feature_map *t) {
  const mode how = mode_of(o);
  const bool by_position = how == CONV || how == NONE;
  return (projection){.items = by_position ? rows * s->positions : rows,
                      .n_in = how == LINEAR ? s->row_values : s->channels,
                      .n_out = how == LINEAR ? t->row_values : t->channels,
                      .row_values =
                          how == LINEAR ? t->row_values : t->channels * (by_position ? t->positions : 1),
                      .learned = how != NONE};
}

status projector_check(const mpistill_feature *o, const feature_map *student, const feature_map *teacher) {
  const mode how = mode_of(o);
  if ((how == CONV || how == NONE) && student->positions != teacher->positions)
    return status_set(STATUS_BAD_INPUT, "'%s' goes position by position, and there are %lld and %lld%s",
                      o->kind, (long long)student->positions, (long long)teacher->positions,
                      feature_reads(feature_find(o->kind), "projector") ? "; see projector linear, mean"
                                                                        : "");
  if (how == NONE && student->channels != teacher->channels)
    return status_set(STATUS_BAD_INPUT,
                      "'%s' without a projector needs as many channels, but there are %lld and %lld", o->kind,
                      (long long)student->channels, (long long)teacher->channels);
  return STATUS_OK;
}

int64_t projector_parameters(const mpistill_feature *o, const feature_map *student,
                             const feature_map *teacher) {
  const projection p = plan_of(o, 1, student, teacher);
  return p.learned ? p.n_out * (p.n_in + 1) : 0;
}

void projector_initial(const mpistill_feature *o, const feature_map *student, const feature_map *teacher,
                       uint64_t seed, uint64_t stream, float *parameters) {
  const projection p = plan_of(o, 1, student, teacher);
  const float bound = 1 / sqrtf((float)p.n_in);
  if (!p.learned) return;
  for (int64_t i = 0; i < p.n_out * p.n_in; i++)
    parameters[i] = bound * (2 * rng_uniform(seed, RNG_INITIALISE, stream, (uint64_t)i) - 1);
  memset(parameters + p.n_out * p.n_in, 0, (size_t)p.n_out * sizeof *parameters);
}

size_t projector_scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                         const feature_map *teacher) {
  const projection p = plan_of(o, rows, student, teacher);
  return (size_t)(p.items * (p.n_in + 2 * p.n_out) + 1) / 2;
}

/* The items of a tensor, one after the other: positions, rows, or means over the positions of rows. */
static void gather(mode how, const feature_map *m, int64_t rows, float *to) {
  if (how == LINEAR) {
    memcpy(to, m->values, (size_t)(rows * m->row_values) * sizeof *to);
    return;
  }
  for (int64_t r = 0; r < rows; r++) {
    if (how == MEAN)
      for (int64_t c = 0; c < m->channels; c++) {
        double sum = 0;
        for (int64_t p = 0; p < m->positions; p++) sum += m->values[feature_at(m, r, c, p)];
        *to++ = (float)(sum / (double)m->positions);
      }
    for (int64_t p = 0; how != MEAN && p < m->positions; p++)
      for (int64_t c = 0; c < m->channels; c++) *to++ = m->values[feature_at(m, r, c, p)];
  }
}

static void scatter(mode how, const feature_map *m, int64_t rows, const float *from, float *gradient) {
  if (how == LINEAR) {
    for (int64_t i = 0; i < rows * m->row_values; i++) gradient[i] += from[i];
    return;
  }
  const float share = how == MEAN ? 1 / (float)m->positions : 1;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t p = 0; p < m->positions; p++) {
      const float *item = from + (how == MEAN ? r : r * m->positions + p) * m->channels;
      for (int64_t c = 0; c < m->channels; c++) gradient[feature_at(m, r, c, p)] += share * item[c];
    }
}

projection projector_apply(const mpistill_feature *o, const feature_batch *b) {
  projection p = plan_of(o, b->rows, &b->student[0], &b->teacher[0]);
  p.x = (float *)b->scratch;
  p.y = p.x + p.items * p.n_in;
  p.t = p.y + p.items * p.n_out;
  gather(mode_of(o), &b->student[0], b->rows, p.x);
  gather(mode_of(o), &b->teacher[0], b->rows, p.t);
  if (!p.learned) {
    memcpy(p.y, p.x, (size_t)(p.items * p.n_in) * sizeof *p.y);
    return p;
  }
  const float *bias = b->parameters + p.n_out * p.n_in;
  for (int64_t i = 0; i < p.items; i++) memcpy(p.y + i * p.n_out, bias, (size_t)p.n_out * sizeof *p.y);
  blas_product(false, true, p.items, p.n_out, p.n_in, 1, p.x, b->parameters, 1, p.y);
  return p;
}

void projector_back(const mpistill_feature *o, const feature_batch *b, const projection *p) {
  if (p->learned) {
    float *weights = b->parameter_gradient;
    blas_product(true, false, p->n_out, p->n_in, p->items, 1, p->y, p->x, 1, weights);
    rows_sum(p->items, p->n_out, 1, p->y, true, weights + p->n_out * p->n_in);
    blas_product(false, false, p->items, p->n_in, p->n_out, 1, p->y, b->parameters, 0, p->x);
  }
  scatter(mode_of(o), &b->student[0], b->rows, p->learned ? p->x : p->y, b->gradient[0]);
}
