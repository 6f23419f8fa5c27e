/* What files that recognise several steps as one operator share. Local, pure. */
#ifndef MPISTILL_OPS_PATTERN_H
#define MPISTILL_OPS_PATTERN_H

#include "ops/support.h"

/* Who makes a value, as op.shorten is told. */
typedef struct reader {
  step_maker maker;
  const void *plan;
} reader;

/* The step whose output 0 is the value, which `r` alone needs; else NULL. */
static inline const step *made_alone(const reader *r, int value) {
  return r->maker(r->plan, value, true);
}

/* Input i of a step is one float that is the same in every batch. */
static inline bool known_number(const step *s, int i, double *out) {
  if (!s->constant[i] || s->in[i]->type != DTYPE_FLOAT || tensor_count(s->in[i]) != 1) return false;
  *out = tensor_real(s->in[i], 0);
  return true;
}

/* Which input of a step of two is a known number; -1: none. */
static inline int number_of(const step *s, double *out) {
  return known_number(s, 1, out) ? 1 : known_number(s, 0, out) ? 0 : -1;
}

#endif
