#include "stages/fit.h"

#include "base/mem.h"
#include "base/progress.h"
#include "base/rng.h"
#include "learn/combines.h"
#include "learn/stacking.h"
#include "stages/view_labels.h"

#include <math.h>
#include <string.h>

enum { LABELS_AT_ONCE = 65536, FEWEST = 50 };
static const double MOST_VALUES = 0x1p28; /* floats of logits in memory, over all ranks */

typedef struct job {
  comm *c;
  const mpistill_aggregate_options *o;
  dataset *d;
  const split *sp;
  sources *from;   /* whose rows it is found from: those to combine, or those of o->fit */
  bool all;        /* every labelled row of them */
  int64_t n;       /* chosen rows */
  int64_t *ids;    /* [n], sample * positions + position */
  int32_t *labels; /* [n] */
  int first, end;  /* this rank's pieces */
  int64_t begin;   /* its first chosen row */
  stack_rows mine; /* its chosen rows */
  float **values;
  float *raw, *sample; /* [positions, C] */
  double *sums;        /* [STACK_PIECES, n_sums] */
  double *inverse_t;   /* [K] */
} job;

bool fit_needed(const mpistill_aggregate_options *o, const combine_kind *rule) {
  return rule->learned || (o->calibrate && combine_reads(rule, "calibrate"));
}

/* ---- rows ---- */

static bool is_drawn(const job *j, int64_t row, double share) {
  uint32_t words[4];
  rng_words(j->o->seed, RNG_COMBINE, COMBINE_DRAW_HELD_OUT, (uint64_t)row, words);
  return words[0] * 0x1p-32 < share;
}

/* Counts the labelled rows or, with j->ids, takes down those that are drawn. A row is a position of a sample
 * here. */
static status scan_labels(job *j, const view_labels *labels, double share, int64_t *count) {
  status st = STATUS_OK;
  int32_t *y = NULL;
  const int64_t p = j->from->f.positions, at_once = LABELS_AT_ONCE / p + 1;
  *count = 0;
  TRY(mem_new(&y, (size_t)(at_once * p), sizeof *y));
  for (int64_t from = 0; from < j->from->rows; from += at_once) {
    int64_t n = j->from->rows - from < at_once ? j->from->rows - from : at_once;
    TRY(view_labels_range(labels, from, n, y, NULL));
    for (int64_t i = 0; i < n * p; i++) {
      if (y[i] < 0 || (share < 1 && !is_drawn(j, from * p + i, share))) continue;
      if (j->ids) {
        j->ids[*count] = from * p + i;
        j->labels[*count] = y[i];
      }
      ++*count;
    }
  }
done:
  mem_free(y);
  return st;
}

static status choose_rows(job *j, const view_labels *labels) {
  status st = STATUS_OK;
  int64_t labelled;
  if (labels->lost)
    THROW(STATUS_BAD_INPUT,
          "%s: is of rows changed by '%s', %s: nothing can be found from them; give --fit files of other "
          "labelled rows, or of the rows as they are",
          softlabels_path(j->from->files[0]), softlabels_get(j->from->files[0])->augment, labels->lost);
  TRY(scan_labels(j, labels, 1, &labelled));
  double most = fmax(1000, MOST_VALUES / (double)(j->from->n * j->from->f.classes));
  double share = fmin(j->all ? 1 : j->o->held_out, most / fmax((double)labelled, 1));
  TRY(scan_labels(j, labels, share, &j->n));
  if (!j->n)
    THROW(
        STATUS_BAD_INPUT,
        "%s: %lld rows of split '%s' have a label, and none was drawn to find weights or temperatures from; "
        "give --fit files of labelled rows (in a recipe aggregate.fit_split), or more --held-out",
        dataset_path(j->d), (long long)labelled, j->sp->name);
  TRY(mem_new(&j->ids, (size_t)j->n, sizeof *j->ids));
  TRY(mem_new(&j->labels, (size_t)j->n, sizeof *j->labels));
  TRY(scan_labels(j, labels, share, &j->n));
done:
  return st;
}

static int64_t piece_begin(const job *j, int piece) {
  return j->n * piece / STACK_PIECES;
}

/* Teacher k's logits of this rank's chosen rows, which are in the order of their samples. */
static status read_teacher(job *j, int k, int64_t n) {
  status st = STATUS_OK;
  const int64_t classes = j->from->f.classes, p = j->from->f.positions;
  int64_t held = -1;
  for (int64_t i = 0; i < n; i++) {
    const int64_t id = j->ids[j->begin + i], sample = id / p;
    if (sample != held) TRY(sources_read(j->from, k, sample, 1, j->raw, j->sample));
    held = sample;
    const float *row = j->sample + id % p * classes;
    if (isnan(row[0]))
      THROW(STATUS_BAD_INPUT, "%s: gives row %lld no answer, so there is nothing to find weights from",
            softlabels_path(j->from->files[k]), (long long)sample);
    memcpy(j->values[k] + i * classes, row, (size_t)classes * sizeof *row);
  }
done:
  return st;
}

static status read_mine(job *j) {
  status st = STATUS_OK;
  const int64_t classes = j->from->f.classes;
  int rank = comm_rank(j->c), size = comm_size(j->c);
  j->first = STACK_PIECES * rank / size;
  j->end = STACK_PIECES * (rank + 1) / size;
  j->begin = piece_begin(j, j->first);
  const int64_t n = piece_begin(j, j->end) - j->begin;
  TRY(mem_new(&j->values, (size_t)j->from->n, sizeof *j->values));
  TRY(mem_new(&j->raw, (size_t)(classes * j->from->f.positions), sizeof *j->raw));
  TRY(mem_new(&j->sample, (size_t)(classes * j->from->f.positions), sizeof *j->sample));
  for (int k = 0; k < j->from->n; k++) {
    TRY(mem_new(&j->values[k], (size_t)n, (size_t)classes * sizeof(float)));
    TRY(read_teacher(j, k, n));
  }
  j->mine = (stack_rows){.n_teachers = j->from->n,
                         .rows = n,
                         .classes = classes,
                         .values = j->values,
                         .labels = j->labels + j->begin};
done:
  return st;
}

/* ---- sums over all rows ---- */

typedef void (*piece_sums)(job *j, int64_t from, int64_t to, const double *point, double *sums);

/* total[n] of a piece's sums at a point, over all pieces in order. */
static status sum_up(job *j, piece_sums add, const double *point, int64_t n, double *total) {
  memset(j->sums, 0, (size_t)(STACK_PIECES * n) * sizeof *j->sums);
  for (int p = j->first; p < j->end; p++)
    add(j, piece_begin(j, p) - j->begin, piece_begin(j, p + 1) - j->begin, point, j->sums + p * n);
  status st = comm_combine(j->c, j->sums, (size_t)(STACK_PIECES * n));
  for (int64_t i = 0; i < n; i++) {
    total[i] = 0;
    for (int p = 0; p < STACK_PIECES; p++) total[i] += j->sums[p * n + i];
  }
  return st;
}

static void add_slopes(job *j, int64_t from, int64_t to, const double *inverse_t, double *sums) {
  stack_slopes(&j->mine, from, to, inverse_t, sums);
}

/* [K] shares, then the NLL. */
static void add_shares(job *j, int64_t from, int64_t to, const double *weights, double *sums) {
  sums[j->from->n] = stack_shares(&j->mine, from, to, weights, sums);
}

/* [K, C] pulls, [C] counts, then the NLL. */
static void add_pulls(job *j, int64_t from, int64_t to, const double *weights, double *sums) {
  double *counts = sums + j->from->n * j->from->f.classes;
  counts[j->from->f.classes] = stack_pulls(&j->mine, from, to, weights, sums, counts);
}

/* ---- temperatures ---- */

static void warn_at_limit(const job *j, int k) {
  double t = 1 / j->inverse_t[k];
  if (t > 1.01 / STACK_RANGE && t < 0.99 * STACK_RANGE) return;
  say_warning(
      comm_rank(j->c) == 0,
      t < 1 ? "teacher '%s' has a temperature below 1/%g, the least that is looked for: it makes no error on "
              "the labelled rows used (was it trained on them? Give --fit files of others, in a recipe "
              "aggregate.fit_split), or its logits are all but equal"
            : "teacher '%s' has a temperature above %g, the highest that is looked for: its logits have "
              "nothing to do with the labels on the rows used, or are very large",
      softlabels_get(j->from->files[k])->teacher, STACK_RANGE);
}

/* The slope rises with 1/T: halve the interval of log(1/T). */
static status calibrate(job *j, sources *target) {
  status st = STATUS_OK;
  const int n = j->from->n;
  double low[COMBINE_MAX_TEACHERS], high[COMBINE_MAX_TEACHERS], slopes[COMBINE_MAX_TEACHERS];
  for (int k = 0; k < n; k++) {
    high[k] = log(STACK_RANGE);
    low[k] = -high[k];
  }
  for (int step = 0; step < STACK_CALIBRATION_STEPS; step++) {
    for (int k = 0; k < n; k++) j->inverse_t[k] = exp((low[k] + high[k]) / 2);
    TRY(sum_up(j, add_slopes, j->inverse_t, n, slopes));
    for (int k = 0; k < n; k++) *(slopes[k] > 0 ? &high[k] : &low[k]) = (low[k] + high[k]) / 2;
  }
  for (int k = 0; k < n; k++) {
    target->calibration[k] = 1 / j->inverse_t[k];
    warn_at_limit(j, k);
  }
done:
  return st;
}

/* ---- weights ---- */

static status learn_weights(job *j, double *weights, double *nll) {
  status st = STATUS_OK;
  const int n = j->from->n;
  double total[COMBINE_MAX_TEACHERS + 1];
  for (int k = 0; k < n; k++) weights[k] = 1.0 / n;
  for (int step = 0; step < STACK_STEPS; step++) {
    TRY(sum_up(j, add_shares, weights, n + 1, total));
    double sum = 0;
    for (int k = 0; k < n; k++) sum += total[k];
    for (int k = 0; k < n && sum > 0; k++) weights[k] = total[k] / sum;
  }
  *nll = total[n] / (double)j->n;
done:
  return st;
}

/* From the weights that serve all classes on. */
static status learn_class_weights(job *j, const double *weights, double *by_class, double *nll) {
  status st = STATUS_OK;
  const int64_t classes = j->from->f.classes, values = j->from->n * classes, n = values + classes + 1;
  double *total = NULL;
  TRY(comm_agree(j->c, mem_new(&total, (size_t)n, sizeof *total)));
  for (int64_t i = 0; i < values; i++) by_class[i] = weights[i / classes];
  for (int step = 0; step < STACK_STEPS; step++) {
    TRY(sum_up(j, add_pulls, by_class, n, total));
    stack_step(j->from->n, classes, total, total + values, by_class);
  }
  *nll = total[n - 1] / (double)j->n;
done:
  mem_free(total);
  return st;
}

/* ---- all of it ---- */

/* Files of --fit are those of the same teachers, in the same order. */
static status compare(const sources *s, const sources *f) {
  if (f->n != s->n)
    return status_set(STATUS_BAD_INPUT,
                      "fit: %d files given for %d teachers; give one each, in the same order", f->n, s->n);
  if (f->f.positions != s->f.positions)
    return status_set(STATUS_BAD_INPUT, "%s: has %lld positions a row, but %s has %lld",
                      softlabels_path(f->files[0]), (long long)f->f.positions, softlabels_path(s->files[0]),
                      (long long)s->f.positions);
  if (f->f.classes != s->f.classes)
    return status_set(STATUS_BAD_INPUT, "%s: has %lld classes, but %s has %lld", softlabels_path(f->files[0]),
                      (long long)f->f.classes, softlabels_path(s->files[0]), (long long)s->f.classes);
  for (int k = 0; k < s->n; k++) {
    const softlabels_header *a = softlabels_get(f->files[k]), *b = softlabels_get(s->files[k]);
    if (*a->model_hash && *b->model_hash && strcmp(a->model_hash, b->model_hash))
      return status_set(
          STATUS_BAD_INPUT,
          "%s: is of another teacher than %s; give --fit files in the order of those to combine",
          softlabels_path(f->files[k]), softlabels_path(s->files[k]));
  }
  return STATUS_OK;
}

static status make_room(job *j, sources *target) {
  status st = STATUS_OK;
  const int64_t k = j->from->n, classes = j->from->f.classes;
  const bool by_class = target->rule->learned && j->o->per_class;
  const int64_t sums = by_class ? (k + 1) * classes + 1 : k + 1;
  TRY(mem_new(&j->sums, STACK_PIECES, (size_t)sums * sizeof *j->sums));
  TRY(mem_new(&j->inverse_t, (size_t)k, sizeof *j->inverse_t));
  TRY(read_mine(j)); /* as the files have them */
  TRY(mem_new(&target->calibration, (size_t)k, sizeof *target->calibration));
  if (by_class) TRY(mem_new(&target->class_weights, (size_t)(k * classes), sizeof *target->class_weights));
done:
  return st;
}

static status find_all(job *j, sources *target, fit *out) {
  status st = STATUS_OK;
  TRY(calibrate(j, target));
  if (!target->rule->learned) goto done;
  stack_soften(&j->mine, j->inverse_t);
  TRY(learn_weights(j, target->weights, &out->nll));
  if (target->class_weights) TRY(learn_class_weights(j, target->weights, target->class_weights, &out->nll));
  if (target->class_weights) TRY(comm_agree(j->c, sources_weigh_classes(target)));
done:
  return st;
}

static void free_all(job *j) {
  for (int k = 0; j->values && k < j->from->n; k++) mem_free(j->values[k]);
  mem_free(j->values);
  mem_free(j->ids);
  mem_free(j->labels);
  mem_free(j->raw);
  mem_free(j->sample);
  mem_free(j->sums);
  mem_free(j->inverse_t);
}

static status open_fit(sources *other, const sources *s, comm *c, const mpistill_aggregate_options *o,
                       dataset *d) {
  const sources_options from = {
      .paths = &o->fit, .weights = &(mpistill_reals){0}, .trust_rows = o->trust_rows, .labels = o->labels};
  status st = sources_open(other, c, &from, d, NULL);
  return st ? st : compare(s, other);
}

status fit_split(const sources *s, comm *c, const mpistill_aggregate_options *o, dataset *d,
                 const split **out) {
  sources other = {0};
  status st = open_fit(&other, s, c, o, d);
  if (!st) st = dataset_split(d, softlabels_get(other.files[0])->split, out);
  sources_close(&other);
  return st;
}

status fit_sources(sources *s, comm *c, const mpistill_aggregate_options *o, dataset *d, fit *out) {
  status st = STATUS_OK;
  sources other = {0};
  view_labels labels = {.lost = NULL};
  job j = {.c = c, .o = o, .d = d, .from = s};
  if (o->fit.n) {
    TRY(open_fit(&other, s, c, o, d));
    TRY(sources_check(&other));
    j.from = &other;
    j.all = true;
  }
  TRY(dataset_split(d, softlabels_get(j.from->files[0])->split, &j.sp));
  TRY(view_labels_open(&labels, c, d, j.sp, truth_array(j.sp, o->labels ? o->labels : "label"), &j.from->f,
                       j.from->files[0]));
  TRY(comm_agree(c, choose_rows(&j, &labels)));
  if (j.n < FEWEST)
    say_warning(comm_rank(c) == 0, "only %lld labelled rows to find weights and temperatures from",
                (long long)j.n);
  TRY(comm_agree(c, make_room(&j, s)));
  TRY(find_all(&j, s, out));
  out->rows = j.n;
done:
  free_all(&j);
  view_labels_close(&labels);
  sources_close(&other);
  return st;
}
