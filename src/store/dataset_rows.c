#include "store/dataset_private.h"

#include "base/mem.h"
#include "base/processor.h"
#include "store/column.h"
#include "store/numbers.h"

#include <inttypes.h>
#include <math.h>

struct rows {
  column q;
  const array *a; /* of the dataset */
  rows **first;   /* the dataset's list */
  rows *next;
  int users;
};

static rows *find_loaded(rows *r, const array *a) {
  while (r && (r->a != a || !r->q.rows)) r = r->next;
  return r;
}

status rows_open(rows **out, dataset *d, const split *s, const array *a, size_t memory_limit) {
  status st = STATUS_OK;
  char *object = NULL;
  rows *r = memory_limit ? NULL : find_loaded(d->open, a);
  *out = r;
  if (r) {
    r->users++;
    return st;
  }
  TRY(comm_agree(d->c, mem_new(&r, 1, sizeof *r)));
  *r = (rows){.a = a, .first = &d->open, .next = d->open, .users = 1};
  *out = d->open = r;
  r = NULL;
  TRY(comm_agree(d->c, mem_format(&object, "/%s/%s", s->name, a->name)));
  TRY(column_open(&(*out)->q, d->c, d->path, object, (int)a->type, a->rank, a->dims));
  TRY(column_load(&(*out)->q, memory_limit));
done:
  mem_free(r);
  mem_free(object);
  if (st) rows_close(out);
  return st;
}

void rows_close(rows **r) {
  rows *it = *r;
  *r = NULL;
  if (!it || --it->users) return;
  rows **at = it->first;
  while (*at != it) at = &(*at)->next;
  *at = it->next;
  column_close(&it->q);
  mem_free(it);
}

int64_t rows_count(const rows *r) {
  return r->a->dims[0];
}

int64_t rows_values(const rows *r) {
  return r->a->row_values;
}

column *rows_column(rows *r) {
  return &r->q;
}

bool rows_in_memory(const rows *r) {
  return r->q.rows;
}

FOR_EACH_PROCESSOR static void scale_row(const array *a, float *x) {
  int64_t stretch = a->row_values / a->n_scale;
  if (a->n_scale == 1 && a->scale[0] == 1 && a->offset[0] == 0) return;
  for (int64_t c = 0; c < a->n_scale; c++)
    for (int64_t i = c * stretch; i < (c + 1) * stretch; i++) x[i] = x[i] * a->scale[c] + a->offset[c];
}

static int64_t first_infinite(const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (isinf(x[i])) return i;
  return -1;
}

static status read_floats(rows *r, const int64_t *ids, int64_t n, bool nan_allowed, float *out) {
  status st = STATUS_OK;
  const array *a = r->a;
  column_view v;
  TRY(column_view_rows(&r->q, ids, n, &v));
  for (int64_t i = 0; i < n; i++, out += a->row_values) {
    numbers_to_float(a->type, column_row(&v, i), out, a->row_values);
    int64_t bad = numbers_are_real(a->type) ? numbers_not_finite(out, a->row_values) : -1;
    if (bad >= 0 && nan_allowed) bad = first_infinite(out, a->row_values);
    if (bad >= 0)
      THROW(STATUS_BAD_INPUT, "%s: row %" PRId64 ", column %" PRId64 " is %g; a finite number is expected",
            r->q.a.label, ids[i], bad, (double)out[bad]);
    scale_row(a, out);
  }
done:
  column_unview(&v);
  return st;
}

status rows_floats(rows *r, const int64_t *ids, int64_t n, float *out) {
  return read_floats(r, ids, n, false, out);
}

status rows_targets(rows *r, const int64_t *ids, int64_t n, float *out) {
  return read_floats(r, ids, n, true, out);
}

status rows_ints(rows *r, const int64_t *ids, int64_t n, int32_t *out) {
  status st = STATUS_OK;
  const array *a = r->a;
  column_view v;
  TRY(column_view_rows(&r->q, ids, n, &v));
  if (numbers_are_real(a->type))
    THROW(STATUS_BAD_INPUT, "%s: is %s; whole numbers are expected", r->q.a.label, element_name(a->type));
  for (int64_t i = 0; i < n; i++, out += a->row_values) {
    int64_t bad = numbers_to_int(a->type, column_row(&v, i), out, a->row_values);
    if (bad >= 0)
      THROW(STATUS_BAD_INPUT, "%s: row %" PRId64 ", column %" PRId64 " does not fit into 32 bits",
            r->q.a.label, ids[i], bad);
  }
done:
  column_unview(&v);
  return st;
}
