#include "stages/members.h"

#include "base/log.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A class of fewer rows may be missed; a warning lists no more than so many. */
enum { FEW_ROWS = 10, LISTED = 8 };

status members_new(members *m, const sources *in, int64_t n_blocks, int64_t block_rows) {
  status st = STATUS_OK;
  const form *f = &in->f;
  const size_t n = (size_t)in->n + 1, classes = (size_t)f->classes;
  *m = (members){.in = in, .n_blocks = n_blocks, .block_rows = block_rows};
  TRY(mem_new(&m->sums, (size_t)n_blocks * n, sizeof *m->sums));
  TRY(mem_new(&m->agreement, n * n, sizeof *m->agreement));
  if (f->values) goto done;
  if (f->positions > 1) TRY(mem_new(&m->areas, n, 3 * classes * sizeof *m->areas));
  TRY(mem_new(&m->said, n, classes * sizeof *m->said));
  TRY(mem_new(&m->there, classes, sizeof *m->there));
  TRY(mem_new(&m->found, classes, sizeof *m->found));
  TRY(mem_new(&m->best, n, (size_t)(block_rows * f->positions) * sizeof *m->best));
done:
  if (st) members_free(m);
  return st;
}

void members_free(members *m) {
  mem_free(m->sums);
  mem_free(m->areas);
  mem_free(m->agreement);
  mem_free(m->said);
  mem_free(m->there);
  mem_free(m->found);
  mem_free(m->best);
  *m = (members){0};
}

static void measure_member(members *m, int i, metric_sums *sums, const float *logits, const int32_t *y,
                           int64_t n) {
  const int64_t classes = m->in->f.classes;
  const unsigned char *known = m->in->known && i < m->in->n ? m->in->known[i] : NULL;
  for (int64_t r = 0; r < n; r++) {
    const float *z = logits + r * classes;
    const bool answered = !isnan(z[0]);
    const bool asked = !known || y[r] < 0 || known[y[r]]; /* of a class that it can name */
    if (answered && asked) metric_add(sums, z, &y[r], 1, classes);
    if (answered && m->areas) metric_add_areas(m->areas + 3 * i * classes, z, &y[r], 1, classes);
    const int64_t best = m->best[i * n + r] = answered ? metric_argmax(z, classes) : -1;
    if (answered) m->said[i * classes + best]++;
  }
}

/* Of the labelled rows those that some teacher has right. */
static void count_found(members *m, const int32_t *y, int64_t n) {
  for (int64_t r = 0; r < n; r++) {
    if (y[r] < 0) continue;
    bool found = false;
    for (int i = 0; i < m->in->n && !found; i++) found = m->best[i * n + r] == y[r];
    m->there[y[r]]++;
    m->found[y[r]] += found;
  }
}

void members_add(members *m, int64_t b, float *const *logits, const int32_t *y, const float *targets,
                 int64_t n) {
  const int all = m->in->n + 1;
  metric_sums *sums = m->sums + b * all;
  for (int i = 0; i < all; i++)
    if (m->in->f.values)
      metric_add_values(&sums[i], logits[i], targets, n);
    else
      measure_member(m, i, &sums[i], logits[i], y, n);
  if (m->in->f.values) return;
  count_found(m, y, n);
  for (int i = 0; i < all; i++)
    for (int k = 0; k < all; k++)
      for (int64_t r = 0; r < n; r++) {
        int64_t first = m->best[i * n + r];
        m->agreement[i * all + k] += first >= 0 && first == m->best[k * n + r];
      }
}

status members_combine(members *m, comm *c) {
  status st = STATUS_OK;
  const size_t n = (size_t)m->in->n + 1, classes = (size_t)m->in->f.classes;
  TRY(comm_combine(c, (double *)m->sums, (size_t)m->n_blocks * n * (sizeof *m->sums / sizeof(double))));
  TRY(comm_combine_counts(c, m->agreement, n * n));
  if (m->areas) TRY(comm_combine_counts(c, m->areas, n * 3 * classes));
  if (m->said) {
    TRY(comm_combine_counts(c, m->said, n * classes));
    TRY(comm_combine_counts(c, m->there, classes));
    TRY(comm_combine_counts(c, m->found, classes));
  }
  for (int64_t b = 1; b < m->n_blocks; b++)
    for (size_t i = 0; i < n; i++) metric_merge(&m->sums[i], &m->sums[(size_t)b * n + i]);
done:
  return st;
}

score members_score(const members *m, int i) {
  const int64_t classes = m->in->f.classes;
  score x = {.values = m->in->f.values, .dense = m->areas != NULL, .sums = m->sums[i]};
  if (m->areas) x.mean_iou = metric_mean_iou(m->areas + 3 * i * classes, classes);
  return x;
}

double members_agreement(const members *m, int i, int k) {
  return (double)m->agreement[i * (m->in->n + 1) + k] / (double)(m->in->rows * m->in->f.positions);
}

static double sum_of(const int64_t *counts, int64_t n) {
  double sum = 0;
  for (int64_t c = 0; c < n; c++) sum += (double)counts[c];
  return sum;
}

/* In nats: the NLL of a guess by the frequencies of the classes, 0 when there is but one. As they are those
 * of the same rows, (classes - 1) / (2 rows) are added (Miller 1955). */
static double prior_nll(const members *m) {
  const double rows = sum_of(m->there, m->in->f.classes);
  double nll = 0, classes = 0;
  for (int64_t c = 0; c < m->in->f.classes; c++) {
    if (!m->there[c]) continue;
    nll -= (double)m->there[c] / rows * log((double)m->there[c] / rows);
    classes++;
  }
  return nll + (classes - 1) / (2 * rows);
}

/* A teacher that names few of the classes is measured on other rows than those of the prior: it is left
 * alone. */
static void warn_of_guesses(const members *m, char *const *names) {
  const double prior = prior_nll(m);
  for (int i = 0; i < m->in->n; i++)
    if (!m->in->known && prior > 0 && metric_nll(&m->sums[i]) > 1.001 * prior)
      say_warning(
          true,
          "teacher '%s' is worse than guessing by the frequencies of the classes on the labelled rows (NLL "
          "%.3f, the guess has %.3f); leave it out or give it a small weight, and look whether it was made "
          "for these classes and inputs",
          names[i], metric_nll(&m->sums[i]), prior);
}

/* Two teachers whose answers have nothing to do with each other agree in a share p = sum over the classes of
 * what each says how often; in n rows it moves by sqrt(p (1 - p) / n). */
static bool agree_by_chance(const members *m, int i, int k, double *by_chance) {
  const int64_t classes = m->in->f.classes;
  const int64_t *a = m->said + i * classes, *b = m->said + k * classes;
  const double na = sum_of(a, classes), nb = sum_of(b, classes),
               n = (double)(m->in->rows * m->in->f.positions);
  double p = 0;
  for (int64_t c = 0; c < classes; c++) p += na && nb ? (double)a[c] / na * ((double)b[c] / nb) : 0;
  *by_chance = p;
  return p < 0.9 && n >= 100 && members_agreement(m, i, k) <= p + 2 * sqrt(p * (1 - p) / n);
}

static void warn_of_chance(const members *m, char *const *names) {
  double p;
  int pairs = 0;
  for (int i = 0; !m->in->known && i < m->in->n; i++)
    for (int k = i + 1; k < m->in->n; k++) {
      if (!agree_by_chance(m, i, k, &p) || pairs++ >= LISTED) continue;
      say_warning(true,
                  "teachers '%s' and '%s' agree in %.1f %% of the rows, and would in %.1f %% by chance: at "
                  "least one of "
                  "them does not know this task",
                  names[i], names[k], 100 * members_agreement(m, i, k), 100 * p);
    }
  if (pairs > LISTED) say_warning(true, "so do %d more pairs of teachers", pairs - LISTED);
}

static void warn_of_unknown(const members *m, const char *const *classes) {
  char list[512] = "";
  size_t at = 0;
  int n = 0;
  for (int64_t c = 0; c < m->in->f.classes; c++) {
    if (m->there[c] < FEW_ROWS || m->found[c]) continue;
    if (n++ >= LISTED || at >= sizeof list) continue;
    at +=
        (size_t)(classes ? snprintf(list + at, sizeof list - at, "%s'%.40s'", n > 1 ? ", " : "", classes[c])
                         : snprintf(list + at, sizeof list - at, "%s%lld", n > 1 ? ", " : "", (long long)c));
  }
  if (n)
    say_warning(
        true,
        "no teacher has a single labelled row right of %s %s%s: a student learns %s from hard labels alone",
        n > 1 ? "the classes" : "class", list, n > LISTED ? " and others" : "", n > 1 ? "them" : "it");
}

void members_warn(const members *m, char *const *names, const char *const *classes) {
  if (m->in->f.values) return;
  warn_of_chance(m, names);
  if (!sum_of(m->there, m->in->f.classes)) return;
  warn_of_guesses(m, names);
  warn_of_unknown(m, classes);
}
