#include "stages/head.h"

#include "base/mem.h"
#include "base/options.h"

#include <stdio.h>
#include <string.h>

static int find_output(const graph *g, const char *name) {
  for (int i = 0; name && i < g->n_outputs; i++)
    if (!strcmp(g->values[g->outputs[i]].name, name)) return i;
  return -1;
}

static status refuse_name(const graph *g, const char *path, const head_options *o) {
  status st = o->output
                  ? status_set(STATUS_BAD_INPUT, "%s: has no output '%s'; its outputs are:", path, o->output)
                  : status_set(STATUS_BAD_INPUT,
                               "%s: has %d outputs, and none is named '%s' as the task is; say which one "
                               "(output):",
                               path, g->n_outputs, o->task);
  for (int i = 0; i < g->n_outputs; i++) status_add_line("'%s'", g->values[g->outputs[i]].name);
  return st;
}

status head_choose(head *h, const head_options *o, const graph *g, const plan *p, const char *path,
                   logits_place *place) {
  int output = find_output(g, o->output ? o->output : o->task);
  if (output < 0 && (o->output || (o->task && g->n_outputs > 1))) return refuse_name(g, path, o);
  if (output < 0) {
    status st = logits_output(g, p, path, &output);
    if (st) return st;
  }
  h->last = o->last;
  h->values = o->values;
  h->by_task = o->labels != NULL;
  h->labels = o->labels ? o->labels : o->values ? "target" : "label";
  h->output = h->value = g->outputs[output];
  *place = (logits_place){.value = h->output};
  if (h->values) return STATUS_OK;
  logits_find(g, h->output, place);
  h->value = place->value;
  h->names = place->names;
  return STATUS_OK;
}

static int64_t product(const shape *s, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; i++) n *= s->dims[i];
  return n;
}

/* A Softmax that was looked behind must be over the classes: of vectors at positions it may be another. */
static status check_softmax(const head *h, const graph *g, const logits_place *place, const char *path) {
  const int rank = h->shape.rank, classes = h->last ? rank - 1 : 1;
  const int64_t axis = place->axis < 0 ? place->axis + rank : place->axis;
  if (place->kind != LOGITS_FOR_SOFTMAX || rank == 2) return STATUS_OK;
  if (axis == classes && (!place->flattens || axis == rank - 1)) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "%s: output '%s' ends with a Softmax over %s %lld, but its classes are dimension %d; see "
                    "class_axis",
                    path, g->values[h->output].name, place->flattens ? "all dimensions from" : "dimension",
                    (long long)axis, classes);
}

status head_measure(head *h, const graph *g, const tensor *y, const logits_place *place, const char *path) {
  char text[128];
  const int rank = y->shape.rank;
  if (y->type != DTYPE_FLOAT || rank < (h->values ? 1 : 2) || shape_count(&y->shape) < 1)
    return status_set(STATUS_BAD_INPUT, "%s: output '%s' is %s %s for one row, expected float [1, classes]%s",
                      path, g->values[h->output].name, dtype_name(y->type),
                      shape_text(&y->shape, text, sizeof text), h->values ? " or [1, ...]" : "");
  h->shape = y->shape;
  h->shape.dims[0] = -1;
  h->last = h->last || rank <= 2;
  const int classes = h->last ? rank - 1 : 1;
  h->classes = h->values ? 1 : y->shape.dims[classes];
  h->positions = product(&y->shape, 1, rank) / h->classes;
  return check_softmax(h, g, place, path);
}

/* ---- the order of classes ---- */

/* The dataset's class that the model calls its j-th, -1 if there is none; `text` gets that name. */
static int64_t class_of(const head *h, int64_t j, const dataset *d, char *text, size_t n) {
  const char *const *names = d ? dataset_classes(d) : NULL;
  const int n_names = d ? dataset_n_classes(d) : 0;
  int64_t number = -1;
  if (h->names->type == ATTRIBUTE_STRINGS)
    snprintf(text, n, "%s", h->names->strings[j]);
  else
    snprintf(text, n, "%lld", (long long)h->names->ints[j]);
  for (int i = 0; i < n_names; i++)
    if (!strcmp(names[i], text)) return i;
  return !n_names && text_to_int(text, &number) && number < h->classes ? number : -1;
}

status head_order(head *h, const dataset *d, const char *path) {
  status st = STATUS_OK;
  unsigned char *seen = NULL;
  char text[128];
  bool same = true;
  if (!h->names || h->names->n != h->classes) return STATUS_OK;
  TRY(mem_new(&h->order, (size_t)h->classes, sizeof *h->order));
  TRY(mem_new(&seen, (size_t)h->classes, 1));
  for (int64_t j = 0; j < h->classes; j++) {
    int64_t at = class_of(h, j, d, text, sizeof text);
    if (at < 0 || at >= h->classes || seen[at])
      THROW(STATUS_BAD_INPUT,
            "%s: its class '%s' (position %lld) is %s %s; its classes must be those of the dataset in some "
            "order, or be listed in a recipe (classes)",
            path, text, (long long)j, at < 0 ? "not one of" : "twice one of",
            d ? dataset_path(d) : "the task's numbers");
    seen[at] = 1;
    h->order[j] = at;
    same = same && at == j;
  }
done:
  if (st || same) head_clear(h);
  mem_free(seen);
  return st;
}

void head_clear(head *h) {
  mem_free(h->order);
  h->order = NULL;
}

/* ---- the matrix ---- */

bool head_is_matrix(const head *h) {
  return h->last || h->classes == 1 || h->positions == 1;
}

int64_t head_row_values(const head *h) {
  return h->positions * h->classes;
}

/* [n, rows, columns] to [n, columns, rows]. */
static void transpose(const float *from, int64_t n, int64_t rows, int64_t columns, float *to) {
  for (int64_t i = 0; i < n; i++, from += rows * columns, to += rows * columns)
    for (int64_t r = 0; r < rows; r++)
      for (int64_t c = 0; c < columns; c++) to[c * rows + r] = from[r * columns + c];
}

void head_positions_first(const float *from, int64_t n, int64_t classes, int64_t positions, float *to) {
  transpose(from, n, classes, positions, to);
}

void head_classes_first(const float *from, int64_t n, int64_t classes, int64_t positions, float *to) {
  transpose(from, n, positions, classes, to);
}
