/* Which arrays of a dataset a model's inputs read, and reading them. */
#include "stages/predict.h"

#include "base/mem.h"

#include <string.h>

static status list_inputs(const graph *g, const char *path, const split *sp, const char *missing,
                          const dataset *d) {
  status st = status_set(STATUS_BAD_INPUT,
                         "%s: has %d inputs, and /%s of %s has no array '%s' for one of them:", path,
                         g->n_inputs, sp->name, dataset_path(d), missing);
  for (int i = 0; i < g->n_inputs; i++) status_add_line("'%s'", g->values[g->inputs[i]].name);
  return st;
}

static const array *find_array(const split *sp, const char *name) {
  for (int i = 0; i < sp->n_inputs; i++)
    if (!strcmp(sp->inputs[i].name, name)) return &sp->inputs[i];
  return NULL;
}

status classifier_arrays(const model *m, const dataset *d, const split *sp, const char *name,
                         const array *arrays[CLASSIFIER_MAX_INPUTS]) {
  const graph *g = model_graph(m);
  if (g->n_inputs < 1 || g->n_inputs > CLASSIFIER_MAX_INPUTS)
    return status_set(STATUS_BAD_INPUT, "%s: has %d inputs, expected 1 to %d", model_path(m), g->n_inputs,
                      CLASSIFIER_MAX_INPUTS);
  if (g->n_inputs == 1) {
    const char *its = g->values[g->inputs[0]].name;
    if (!name && find_array(sp, its)) name = its;
    return dataset_input(d, sp, name, &arrays[0]);
  }
  if (name)
    return status_set(STATUS_BAD_INPUT,
                      "%s: has %d inputs, which read the arrays of their names; leave out the input '%s'",
                      model_path(m), g->n_inputs, name);
  for (int i = 0; i < g->n_inputs; i++) {
    const char *its = g->values[g->inputs[i]].name;
    arrays[i] = find_array(sp, its);
    if (!arrays[i]) return list_inputs(g, model_path(m), sp, its, d);
  }
  return STATUS_OK;
}

status feed_open(feed *f, const classifier *k, dataset *d, const split *sp) {
  status st = STATUS_OK;
  const array *a;
  *f = (feed){.augment = NULL};
  for (int i = 0; i < k->n_inputs; i++) {
    TRY(dataset_input(d, sp, k->arrays[i]->name, &a));
    TRY(rows_open(&f->rows[i], d, sp, a, 0));
  }
done:
  return st;
}

void feed_close(feed *f) {
  for (int i = 0; i < CLASSIFIER_MAX_INPUTS; i++) rows_close(&f->rows[i]);
}

/* int32 to int64 in one place, the last first. */
static void widen(void *data, int64_t n) {
  for (int64_t i = n - 1; i >= 0; i--) {
    int32_t x;
    memcpy(&x, (char *)data + i * (int64_t)sizeof x, sizeof x);
    ((int64_t *)data)[i] = x;
  }
}

/* A row of a view, counted through all views; scratch NULL: a row as it is. */
static status read_row(const feed *f, int64_t seen, float *x, float *scratch) {
  status st = STATUS_OK;
  const augmenter *a = f->augment;
  augment_mix mix;
  if (!scratch) return rows_floats(f->rows[0], &seen, 1, x);
  const int64_t view = seen / a->rows, row = seen % a->rows;
  float *partner = scratch + a->shape.values;
  TRY(rows_floats(f->rows[0], &row, 1, x));
  augmenter_apply(a, view, row, x, scratch);
  if (!augmenter_partner(a, view, row, &mix)) goto done;
  TRY(rows_floats(f->rows[0], &mix.partner, 1, partner));
  augmenter_apply(a, view, mix.partner, partner, scratch);
  augmenter_mix(a, &mix, x, partner);
done:
  return st;
}

static status read_images(const feed *f, const classifier *k, const int64_t *ids, int64_t n, const tensor *x,
                          float *scratch) {
  status st = STATUS_OK;
  float *row = NULL;
  const int64_t values = shape_count(&x->shape) / n;
  TRY(mem_new(&row, (size_t)rows_values(f->rows[0]), sizeof *row));
  for (int64_t i = 0; i < n; i++) {
    TRY(read_row(f, ids[i], row, scratch));
    preprocess_rows(&k->pre, row, 1, x->type, (char *)x->data + (size_t)(i * values) * dtype_bytes(x->type));
  }
done:
  mem_free(row);
  return st;
}

status feed_read(const feed *f, const classifier *k, const int64_t *ids, int64_t n, const plan *p) {
  status st = STATUS_OK;
  if (k->pre.active) return read_images(f, k, ids, n, plan_input(p, 0), NULL);
  for (int i = 0; i < k->n_inputs && !st; i++) {
    const tensor *x = plan_input(p, i);
    if (x->type == DTYPE_FLOAT) {
      st = rows_floats(f->rows[i], ids, n, x->data);
      continue;
    }
    st = rows_ints(f->rows[i], ids, n, x->data);
    if (x->type == DTYPE_INT64) widen(x->data, shape_count(&x->shape));
  }
  return st;
}

status feed_read_views(const feed *f, const classifier *k, const int64_t *seen, int64_t n, const plan *p,
                       float *scratch) {
  const tensor *x = plan_input(p, 0);
  if (!f->augment || !f->augment->n) return feed_read(f, k, seen, n, p);
  if (k->pre.active) return read_images(f, k, seen, n, x, scratch);
  status st = STATUS_OK;
  for (int64_t i = 0; i < n && !st; i++)
    st = read_row(f, seen[i], (float *)x->data + i * f->augment->shape.values, scratch);
  return st;
}
