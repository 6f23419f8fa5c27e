#include "learn/combines.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const combine_kind *const kinds[] = {&combine_probability_mean,
                                            &combine_logit_mean,
                                            &combine_learned,
                                            &combine_entropy,
                                            &combine_confidence,
                                            &combine_vote,
                                            &combine_random,
                                            &combine_random_batch,
                                            &combine_aekd,
                                            &combine_amtml,
                                            &combine_union,
                                            &combine_pate_lnmax,
                                            &combine_pate_gnmax,
                                            NULL};

const combine_kind *const *combine_kinds(void) {
  return kinds;
}

const combine_kind *combine_find(const char *name) {
  for (const combine_kind *const *k = kinds; *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}

bool combine_any_temperature(const combine_kind *k, int64_t n_teachers) {
  return k->linear || (k->of_one && n_teachers == 1);
}

bool combine_reads(const combine_kind *k, const char *key) {
  for (const char *const *o = k->options; o && *o; o++)
    if (!strcmp(*o, key)) return true;
  return false;
}

bool combine_on_the_fly(const combine_kind *k) {
  return !k->needs_labels && !k->learned && !k->epsilon;
}

status combine_rows(const combine_kind *k, const combine_batch *b, float *out) {
  if (k->of_one && b->n_teachers == 1) {
    memcpy(out, b->logits[0], (size_t)(b->rows * b->classes) * sizeof *out);
    return STATUS_OK;
  }
  const status st = k->rows(b, out);
  if (st || combine_any_temperature(k, b->n_teachers)) return st;
  for (int64_t i = 0; i < b->rows; i++, out += b->classes) {
    float most = -INFINITY;
    for (int64_t j = 0; j < b->classes; j++) most = out[j] > most ? out[j] : most;
    for (int64_t j = 0; most > -INFINITY && j < b->classes; j++) out[j] -= most;
  }
  return st;
}
