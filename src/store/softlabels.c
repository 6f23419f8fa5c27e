#include "store/softlabels_private.h"

#include "base/mem.h"
#include "store/numbers.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static status check_done(const softlabels *s) {
  int64_t missing = 0;
  for (int i = 0; s->has_blocks && i < s->n_blocks; i++) missing += s->done[i] != 1;
  if (!missing) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "%s: %" PRId64
                    " of %d blocks are not finished; the command that writes it goes on where it stopped",
                    s->path, missing, s->n_blocks);
}

status softlabels_open(softlabels **out, comm *c, const char *path) {
  status st = STATUS_OK;
  st = mem_new(out, 1, sizeof **out);
  if (!st) st = mem_string(&(*out)->path, path);
  TRY(comm_agree(c, st));
  softlabels *s = *out;
  s->c = c;
  TRY(softlabels_fetch(s, c, path));
  TRY(check_done(s));
  for (int i = 0; i < s->n_parts; i++)
    TRY(column_open(&s->columns[i], c, path, s->parts[i].object, s->parts[i].type, s->parts[i].rank,
                    s->parts[i].dims));
done:
  if (st) softlabels_close(out);
  return st;
}

const softlabels_header *softlabels_get(const softlabels *s) {
  return &s->h;
}

const char *softlabels_path(const softlabels *s) {
  return s->path;
}

int64_t softlabels_n_blocks(const softlabels *s) {
  return s->n_blocks;
}

status softlabels_match(const softlabels *s, dataset *d, const split *sp, bool trust_rows) {
  char hash[HASH_TEXT_BYTES];
  const softlabels_header *h = &s->h;
  const char *data = dataset_path(d);
  if (strcmp(h->split, sp->name))
    return status_set(STATUS_BAD_INPUT, "%s: was made for split '%s' of its dataset, not for '%s'", s->path,
                      h->split, sp->name);
  const int64_t views = softlabels_views(h);
  if (h->dims[0] % views || h->dims[0] / views != sp->n) {
    char in_views[48] = "";
    if (views > 1) snprintf(in_views, sizeof in_views, " in %" PRId64 " views", views);
    return status_set(STATUS_BAD_INPUT,
                      "%s: has %" PRId64 " rows%s, split '%s' of %s has %" PRId64
                      "; it belongs to another dataset",
                      s->path, h->dims[0], in_views, sp->name, data, sp->n);
  }
  if (!*h->dataset_hash && trust_rows) return STATUS_OK;
  status st = dataset_hash(d, sp, hash);
  if (st) return st;
  if (!*h->dataset_hash)
    return status_set(STATUS_BAD_INPUT,
                      "%s: has no attribute dataset_hash, so nothing ties its rows to %s; "
                      "add it (here %s), or take them on trust with --trust-rows",
                      s->path, data, hash);
  if (strcmp(h->dataset_hash, hash))
    return status_set(STATUS_BAD_INPUT,
                      "%s: was made for a dataset with hash %s, but split '%s' of %s has %s; "
                      "give the dataset it was made for, or make it again for this one",
                      s->path, h->dataset_hash, sp->name, data, hash);
  return STATUS_OK;
}

/* ---- rows ---- */

/* A read from a file that is in order cannot come here: found in what others wrote. */
static status bad_row(const softlabels *s, int64_t row, int64_t at, double value) {
  return status_set(STATUS_BAD_INPUT,
                    "%s: row %" PRId64 ", class %" PRId64 " is %g; a finite number is expected", s->path, row,
                    at / s->positions, value);
}

static status read_dense(const softlabels *s, const column_view v[LOGIT_PARTS_MAX], const int64_t *ids,
                         int64_t n, float *out) {
  int64_t row_values = s->classes * s->positions;
  for (int64_t i = 0; i < n; i++, out += row_values) {
    if (s->h.partial && !*(const unsigned char *)column_row(&v[PART_ANSWERED], i)) {
      for (int64_t j = 0; j < row_values; j++) out[j] = NAN;
      continue;
    }
    numbers_to_float(s->h.type, column_row(&v[PART_LOGITS], i), out, row_values);
    int64_t bad = numbers_not_finite(out, row_values);
    if (bad >= 0) return bad_row(s, ids[i], bad, (double)out[bad]);
  }
  return STATUS_OK;
}

static int64_t index_at(const softlabels *s, const void *index, int64_t i) {
  return s->parts[PART_INDEX].type == ELEMENT_INT64 ? ((const int64_t *)index)[i]
                                                    : ((const int32_t *)index)[i];
}

static float real_at(const softlabels *s, int p, const void *values, int64_t i) {
  float x;
  element type = (element)s->parts[p].type;
  numbers_to_float(type, (const char *)values + (size_t)i * element_bytes(type), &x, 1);
  return x;
}

/* One vector of a row, `stride` apart, from its k largest and the mass of the rest, spread evenly. NaN marks
 * what has no value yet. */
static status spread(const softlabels *s, int64_t row, int64_t p, const void *index, const void *logit,
                     float each, float *out) {
  int64_t k = s->h.top_k, stride = s->positions;
  for (int64_t c = 0; c < s->classes; c++) out[c * stride + p] = NAN;
  for (int64_t j = p * k; j < (p + 1) * k; j++) {
    int64_t c = index_at(s, index, j);
    float x = real_at(s, PART_LOGIT, logit, j);
    if (c < 0 || c >= s->classes || !isnan(out[c * stride + p]))
      return status_set(STATUS_BAD_INPUT,
                        "%s: row %" PRId64 ": /topk/index is %" PRId64 "; 0 to %" PRId64
                        ", each once, are possible",
                        s->path, row, c, s->classes - 1);
    if (!isfinite(x)) return bad_row(s, row, c * stride, (double)x);
    out[c * stride + p] = x;
  }
  for (int64_t c = 0; c < s->classes; c++)
    if (isnan(out[c * stride + p])) out[c * stride + p] = each;
  return STATUS_OK;
}

static status spread_row(const softlabels *s, int64_t row, const void *index, const void *logit,
                         const void *rest, float *out) {
  int64_t others = s->classes - s->h.top_k;
  for (int64_t p = 0; p < s->positions; p++) {
    float mass = others ? real_at(s, PART_REST, rest, p) : 0;
    if (!isfinite(mass))
      return status_set(STATUS_BAD_INPUT,
                        "%s: row %" PRId64 ": /topk/rest is %g; a finite number is expected", s->path, row,
                        (double)mass);
    status st = spread(s, row, p, index, logit, others ? (float)(mass - log((double)others)) : 0, out);
    if (st) return st;
  }
  return STATUS_OK;
}

status softlabels_rows(softlabels *s, const int64_t *ids, int64_t n, float *out) {
  status st = STATUS_OK;
  column_view v[LOGIT_PARTS_MAX] = {0};
  for (int i = 0; i < s->n_logit_parts; i++) TRY(column_view_rows(&s->columns[i], ids, n, &v[i]));
  if (!s->h.top_k) TRY(read_dense(s, v, ids, n, out));
  for (int64_t i = 0; s->h.top_k && i < n; i++, out += s->classes * s->positions)
    TRY(spread_row(s, ids[i], column_row(&v[PART_INDEX], i), column_row(&v[PART_LOGIT], i),
                   column_row(&v[PART_REST], i), out));
done:
  for (int i = 0; i < LOGIT_PARTS_MAX; i++) column_unview(&v[i]);
  return st;
}

status softlabels_read(softlabels *s, int64_t from, int64_t n, float *out) {
  int64_t *ids = NULL;
  status st = mem_new(&ids, (size_t)n, sizeof *ids);
  for (int64_t i = 0; i < n && !st; i++) ids[i] = from + i;
  if (!st) st = softlabels_rows(s, ids, n, out);
  mem_free(ids);
  return st;
}

status softlabels_load(softlabels *s, size_t memory_limit) {
  size_t left = memory_limit;
  for (int i = 0; i < s->n_logit_parts; i++) {
    size_t bytes = column_bytes(&s->columns[i]);
    status st = column_load(&s->columns[i], left);
    if (st) return st;
    if (memory_limit) left = left > bytes ? left - bytes : 1;
  }
  return STATUS_OK;
}
