#include "learn/features.h"

static const float MASKED = -100; /* scores from there down are masks, as in the authors' code */

static status check(const mpistill_feature *o, const feature_map *student, const feature_map *teacher) {
  (void)o;
  const shape *s = &student->shape, *t = &teacher->shape;
  if (s->rank != 4 || t->rank != 4)
    return status_set(STATUS_BAD_INPUT, "'attention-maps' takes tensors [rows, heads, tokens, tokens]");
  if (s->dims[2] == t->dims[2] && s->dims[3] == t->dims[3]) return STATUS_OK;
  return status_set(
      STATUS_BAD_INPUT, "'attention-maps' compares token by token: %lld x %lld with %lld x %lld",
      (long long)s->dims[2], (long long)s->dims[3], (long long)t->dims[2], (long long)t->dims[3]);
}

static double value_at(const feature_map *m, int64_t row, int64_t head, int64_t p) {
  const float x = m->values[feature_at(m, row, head, p)];
  return x > MASKED ? x : 0;
}

static double mean_at(const feature_map *m, int64_t row, int64_t p) {
  double sum = 0;
  for (int64_t h = 0; h < m->channels; h++) sum += value_at(m, row, h, p);
  return sum / (double)m->channels;
}

/* Where both have as many heads: head by head. Else the means over heads. */
static double row(const feature_batch *b, int64_t r, double factor) {
  const feature_map *s = &b->student[0], *t = &b->teacher[0];
  const bool each = s->channels == t->channels;
  const int64_t heads = s->channels;
  double sum = 0;
  for (int64_t p = 0; p < s->positions; p++) {
    const double apart = each ? 0 : mean_at(s, r, p) - mean_at(t, r, p);
    sum += (double)heads * apart * apart;
    for (int64_t h = 0; h < heads; h++) {
      const int64_t at = feature_at(s, r, h, p);
      const double mine = each ? value_at(s, r, h, p) - value_at(t, r, h, p) : apart;
      if (each) sum += mine * mine;
      if (s->values[at] > MASKED) b->gradient[0][at] += (float)(factor * mine);
    }
  }
  return sum;
}

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)rows, (void)student, (void)teacher;
  return 0;
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  const double mean_of = (double)b->student[0].row_values * (double)b->batch_rows;
  double sum = 0;
  for (int64_t r = 0; r < b->rows; r++) sum += row(b, r, o->weight * 2 / mean_of);
  return sum / mean_of;
}

const feature_kind feature_attention_maps = {
    .name = "attention-maps",
    .formula =
        "(s - t)^2 of tensors [rows, heads, tokens, tokens], scores or probabilities, mean over all values "
        "and "
        "rows; head by head, or of the means over heads where their numbers differ; scores of -100 and less "
        "are masks and count as 0 (Jiao et al. 2020)",
    .check = check,
    .scratch = scratch,
    .evaluate = evaluate,
};
