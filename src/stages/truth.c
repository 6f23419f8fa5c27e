#include "stages/truth.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { AT_ONCE = 65536 }; /* labels */

form head_form(const head *h) {
  const int at = h->values || h->last ? 1 : 2;
  return (form){.classes = h->classes,
                .positions = h->positions,
                .steps = h->positions > 1 ? h->shape.dims[at] : 1,
                .values = h->values};
}

const array *truth_array(const split *sp, const char *name) {
  for (int i = 0; i < sp->n_labels; i++)
    if (!strcmp(sp->labels[i].name, name)) return &sp->labels[i];
  for (int i = 0; i < sp->n_targets; i++)
    if (!strcmp(sp->targets[i].name, name)) return &sp->targets[i];
  return NULL;
}

bool truth_is_named(const split *sp, const char *labels) {
  return labels ? !strcmp(labels, "label") : !sp->n_labels || truth_array(sp, "label") != NULL;
}

bool truth_is_values(const array *a) {
  return !strncmp(a->name, "target", strlen("target"));
}

/* Whether `name` is INPUT.length. */
static bool is_length_of(const char *name, const array *input) {
  size_t n = strlen(input->name);
  return !strncmp(name, input->name, n) && !strcmp(name + n, ".length");
}

static const array *find_lengths(const split *sp, const array *const *inputs, int n_inputs,
                                 const array **input) {
  for (int l = 0; l < sp->n_lengths; l++)
    for (int i = 0; i < (inputs ? n_inputs : sp->n_inputs); i++) {
      *input = inputs ? inputs[i] : &sp->inputs[i];
      if (is_length_of(sp->lengths[l].name, *input) && (inputs || sp->n_lengths == 1)) return &sp->lengths[l];
    }
  return NULL;
}

/* Lengths count the positions of an input: those of an output that has as many. */
static status open_lengths(truth *t, const array *const *inputs, int n_inputs) {
  const array *input = NULL, *a = find_lengths(t->sp, inputs, n_inputs, &input);
  bool fits = false;
  if (!a || t->f.steps == 1) return STATUS_OK;
  for (int i = 1; i < input->rank; i++) fits = fits || input->dims[i] == t->f.steps;
  if (fits) return rows_open(&t->lengths, t->d, t->sp, a, 0);
  if (t->f.values) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "%s: /%s/%s counts positions of '%s', but the output has %lld, which is none of its "
                    "dimensions",
                    dataset_path(t->d), t->sp->name, a->name, input->name, (long long)t->f.steps);
}

status truth_open(truth *t, dataset *d, const split *sp, const array *a, const form *f,
                  const array *const *inputs, int n_inputs) {
  status st = STATUS_OK;
  *t = (truth){.d = d, .sp = sp, .f = *f, .a = a};
  if (a && truth_is_values(a) != f->values)
    THROW(STATUS_BAD_INPUT, "%s: /%s/%s holds %s, but the output gives %s", dataset_path(d), sp->name,
          a->name, f->values ? "classes" : "numbers", f->values ? "numbers" : "classes");
  if (a && a->rank != 1 && f->positions == 1 && a->row_values != 1)
    THROW(STATUS_BAD_INPUT, "%s: /%s/%s has %d dimensions, expected [rows]", dataset_path(d), sp->name,
          a->name, a->rank);
  if (a && a->row_values != f->positions)
    THROW(STATUS_BAD_INPUT, "%s: /%s/%s has %lld numbers a row, but the output has %lld positions",
          dataset_path(d), sp->name, a->name, (long long)a->row_values, (long long)f->positions);
  if (a && !f->values && f->classes == 1)
    THROW(
        STATUS_BAD_INPUT,
        "%s: /%s/%s holds classes, but the output has one alone; for an output of numbers name their targets "
        "(target, target.NAME)",
        dataset_path(d), sp->name, a->name);
  if (a) TRY(rows_open(&t->rows, d, sp, a, 0));
  TRY(open_lengths(t, inputs, n_inputs));
done:
  return st;
}

status truth_mask_by(truth *t, const char *name) {
  const array *a = truth_array(t->sp, name);
  if (!a || truth_is_values(a))
    return status_set(STATUS_BAD_INPUT, "%s: /%s has no array '%s' of labels for a mask", dataset_path(t->d),
                      t->sp->name, name);
  if (t->f.positions % a->row_values)
    return status_set(
        STATUS_BAD_INPUT, "%s: /%s/%s has %lld numbers a row, which %lld positions cannot be shared by",
        dataset_path(t->d), t->sp->name, name, (long long)a->row_values, (long long)t->f.positions);
  const bool one_dimension = t->f.steps == t->f.positions;
  t->mask_of_last = t->f.values && !one_dimension && a->rank > 1 && a->dims[1] != t->f.steps;
  return rows_open(&t->mask, t->d, t->sp, a, 0);
}

void truth_close(truth *t) {
  rows_close(&t->rows);
  rows_close(&t->lengths);
  rows_close(&t->mask);
  mem_free(t->known);
  mem_free(t->counted);
  *t = (truth){0};
}

/* Positions of a row that count. */
static status row_length(const truth *t, int64_t id, int64_t *out) {
  int32_t length;
  *out = t->f.positions;
  if (!t->lengths) return STATUS_OK;
  status st = rows_ints(t->lengths, &id, 1, &length);
  if (!st && (length < 0 || length > t->f.steps))
    st = status_set(STATUS_BAD_INPUT, "%s: /%s: row %lld has length %d, but there are %lld positions",
                    dataset_path(t->d), t->sp->name, (long long)id, length, (long long)t->f.steps);
  *out = (int64_t)length * (t->f.positions / t->f.steps);
  return st;
}

static status check_labels(const truth *t, const int64_t *ids, int64_t n, const int32_t *labels) {
  const int64_t p = t->f.positions;
  for (int64_t i = 0; i < n * p; i++)
    if (labels[i] < -1 || labels[i] >= t->f.classes)
      return status_set(STATUS_BAD_INPUT,
                        "%s: /%s/%s row %lld is %d, but there are %lld classes (0 to %lld, -1: not labelled)",
                        dataset_path(t->d), t->sp->name, t->a->name, (long long)ids[i / p], labels[i],
                        (long long)t->f.classes, (long long)t->f.classes - 1);
  return STATUS_OK;
}

status truth_read(const truth *t, const int64_t *ids, int64_t n, int32_t *labels, float *targets) {
  status st = STATUS_OK;
  const int64_t p = t->f.positions;
  if (t->a && t->f.values) TRY(rows_targets(t->rows, ids, n, targets));
  if (t->a && !t->f.values) {
    TRY(rows_ints(t->rows, ids, n, labels));
    TRY(check_labels(t, ids, n, labels));
  }
  for (int64_t i = 0; i < n && (!t->a || t->lengths); i++) {
    int64_t from = 0;
    if (t->a) TRY(row_length(t, ids[i], &from));
    for (int64_t j = i * p + from; j < (i + 1) * p; j++)
      if (t->f.values)
        targets[j] = NAN;
      else
        labels[j] = -1;
  }
done:
  return st;
}

status truth_range(const truth *t, int64_t from, int64_t n, int32_t *labels, float *targets) {
  int64_t *ids;
  status st = mem_new(&ids, (size_t)n, sizeof *ids);
  for (int64_t i = 0; !st && i < n; i++) ids[i] = (from + i) % t->sp->n;
  if (!st) st = truth_read(t, ids, n, labels, targets);
  mem_free(ids);
  return st;
}

/* *length of a row, and where there is a mask room[] of the row. */
static status read_mask(const truth *t, int64_t id, int32_t *room, int64_t *length) {
  status st = row_length(t, id, length);
  return st || !t->mask ? st : rows_ints(t->mask, &id, 1, room);
}

/* Whether position j of a row counts. */
static bool is_inside(const truth *t, int64_t j, const int32_t *room, int64_t length) {
  if (j >= length) return false;
  if (!t->mask) return true;
  const int64_t n = rows_values(t->mask);
  return room[t->mask_of_last ? j % n : j / (t->f.positions / n)] > 0;
}

status truth_mask(const truth *t, const int64_t *ids, int64_t n, int32_t *room, float *matrix) {
  const int64_t p = t->f.positions;
  for (int64_t i = 0; (t->lengths || t->mask) && i < n; i++) {
    int64_t length;
    status st = read_mask(t, ids[i], room, &length);
    if (st) return st;
    for (int64_t j = 0; j < p; j++)
      if (!is_inside(t, j, room, length)) matrix[(i * p + j) * t->f.classes] = NAN;
  }
  return STATUS_OK;
}

/* ---- counting ---- */

static int64_t known_of(const truth *t, const int32_t *labels, const float *targets) {
  int64_t n = 0;
  for (int64_t j = 0; j < t->f.positions; j++) n += t->f.values ? !isnan(targets[j]) : labels[j] >= 0;
  return n;
}

static status count_inside(truth *t, int64_t id, int32_t *room) {
  int64_t length;
  status st = read_mask(t, id, room, &length);
  for (int64_t j = 0; !st && j < t->f.positions; j++) t->counted[id] += is_inside(t, j, room, length);
  return st;
}

static status count_rows(truth *t, int64_t from, int64_t to) {
  status st = STATUS_OK;
  const int64_t p = t->f.positions;
  int64_t step = AT_ONCE / p + 1;
  int32_t *labels = NULL, *room = NULL;
  float *targets = NULL;
  TRY(mem_new(&room, (size_t)p, sizeof *room));
  if (t->f.values)
    TRY(mem_new(&targets, (size_t)(step * p), sizeof *targets));
  else
    TRY(mem_new(&labels, (size_t)(step * p), sizeof *labels));
  for (; from < to; from += step) {
    const int64_t n = to - from < step ? to - from : step;
    TRY(truth_range(t, from, n, labels, targets));
    for (int64_t i = 0; i < n; i++) {
      t->known[from + i] = known_of(t, labels + (labels ? i * p : 0), targets + (targets ? i * p : 0));
      if (t->counted) TRY(count_inside(t, from + i, room));
    }
  }
done:
  mem_free(labels);
  mem_free(targets);
  mem_free(room);
  return st;
}

status truth_count(truth *t, comm *c) {
  status st = STATUS_OK;
  const int64_t n = t->sp->n, rank = comm_rank(c), size = comm_size(c);
  st = mem_new(&t->known, (size_t)n, sizeof *t->known);
  if (!st && (t->lengths || t->mask)) st = mem_new(&t->counted, (size_t)n, sizeof *t->counted);
  TRY(comm_agree(c, st));
  TRY(comm_agree(c, count_rows(t, n * rank / size, n * (rank + 1) / size)));
  TRY(comm_combine_counts(c, t->known, (size_t)n));
  if (t->counted) TRY(comm_combine_counts(c, t->counted, (size_t)n));
done:
  return st;
}
