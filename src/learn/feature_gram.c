#include "learn/features.h"

static status check(const mpistill_feature *o, const feature_map *student, const feature_map *teacher) {
  (void)o;
  for (int i = 0; i < FEATURE_TENSORS; i++) {
    status st = feature_same_channels("gram", &student[i], &teacher[i]);
    if (st) return st;
  }
  if (student[0].positions == student[1].positions && teacher[0].positions == teacher[1].positions)
    return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "'gram' relates two tensors position by position; those of %s differ",
                    student[0].positions == student[1].positions ? "the teacher" : "the student");
}

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)rows, (void)teacher;
  return (size_t)(student[0].channels * student[1].channels);
}

/* Adds factor times the products of the channels of two tensors, mean over positions. */
static void add_products(const feature_map *m, int64_t row, double factor, double *out) {
  const double share = factor / (double)m[0].positions;
  for (int64_t a = 0; a < m[0].channels; a++)
    for (int64_t c = 0; c < m[1].channels; c++) {
      double sum = 0;
      for (int64_t p = 0; p < m[0].positions; p++)
        sum += (double)m[0].values[feature_at(&m[0], row, a, p)] * m[1].values[feature_at(&m[1], row, c, p)];
      *out++ += share * sum;
    }
}

static void back(const feature_batch *b, int64_t row, const double *apart, double factor) {
  const feature_map *x = &b->student[0], *y = &b->student[1];
  for (int64_t a = 0; a < x->channels; a++)
    for (int64_t c = 0; c < y->channels; c++) {
      const double slope = factor * apart[a * y->channels + c];
      for (int64_t p = 0; p < x->positions; p++) {
        const int64_t at = feature_at(x, row, a, p), to = feature_at(y, row, c, p);
        b->gradient[0][at] += (float)(slope * y->values[to]);
        b->gradient[1][to] += (float)(slope * x->values[at]);
      }
    }
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  const int64_t n = b->student[0].channels * b->student[1].channels;
  const double mean_of = (double)n * (double)b->batch_rows;
  double sum = 0;
  for (int64_t r = 0; r < b->rows; r++) {
    double *apart = b->scratch;
    for (int64_t i = 0; i < n; i++) apart[i] = 0;
    add_products(b->student, r, 1, apart);
    add_products(b->teacher, r, -1, apart);
    for (int64_t i = 0; i < n; i++) sum += apart[i] * apart[i];
    back(b, r, apart, o->weight * 2 / (mean_of * (double)b->student[0].positions));
  }
  return sum / mean_of;
}

static const char *const keys[] = {"student_to", "teacher_to", NULL};

const feature_kind feature_gram = {
    .name = "gram",
    .formula =
        "(G(s) - G(t))^2, mean over pairs of channels and over rows, G = the products of the channels of two "
        "tensors, mean over positions: the flow from student to student_to (fsp, Yim et al. 2017), or, "
        "without those, the Gram matrix of one",
    .options = keys,
    .check = check,
    .scratch = scratch,
    .evaluate = evaluate,
};
