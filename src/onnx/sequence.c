/* Sequences of tensors: scripted loops collect their outputs in one, splits by the newer exporters make one.
 * How many tensors are in it and which one is meant follow from shapes and fixed data, so that a sequence is
 * a list of values while the graph is built, and nothing of it is in the graph. */
#include "base/mem.h"
#include "onnx/loader.h"
#include "ops/ops.h"

#include <stdio.h>
#include <string.h>

struct sequences {
  sequence *items;
  size_t n, room;
};

status sequences_new(struct sequences **all) {
  return mem_new(all, 1, sizeof **all);
}

void sequences_free(struct sequences **all) {
  for (size_t i = 0; *all && i < (*all)->n; i++) mem_free((*all)->items[i].items);
  if (*all) mem_free((*all)->items);
  mem_free(*all);
  *all = NULL;
}

/* From behind: who reads one mostly reads the last. */
const sequence *sequence_find(const loader *l, int value) {
  for (size_t i = l->lists->n; i-- > 0;)
    if (l->lists->items[i].value == value) return &l->lists->items[i];
  return NULL;
}

status sequence_set(const loader *l, int value, const int *items, int n) {
  status st = STATUS_OK;
  struct sequences *all = l->lists;
  sequence made = {.value = value, .n = n};
  TRY(loader_spend(l, sizeof made + (size_t)n * sizeof *items));
  if (all->n == all->room) {
    const size_t room = all->room ? 2 * all->room : 16;
    TRY(all->items ? mem_resize(&all->items, all->room, room, sizeof made)
                   : mem_new(&all->items, room, sizeof made));
    all->room = room;
  }
  TRY(mem_new(&made.items, (size_t)n, sizeof *items));
  if (n) memcpy(made.items, items, (size_t)n * sizeof *items);
  all->items[all->n++] = made;
done:
  return st;
}

/* A node that makes or reads a sequence. */
typedef struct job {
  const loader *l;
  const Onnx__NodeProto *n;
  char *title;
  const sequence *from; /* input 0, NULL: no sequence */
} job;

static status refuse(const job *j, const char *what) {
  return status_set(STATUS_BAD_INPUT, "%s: node '%s' (%s): %s", j->l->name, j->title,
                    proto_text(j->n->op_type), what);
}

static int input(const job *j, size_t i) {
  return i < j->n->n_input && *j->n->input[i] ? loader_find(j->l, j->n->input[i]) : -1;
}

static int output(const job *j) {
  return loader_find(j->l, j->n->output[0]);
}

static int64_t number(const job *j, const char *attribute, int64_t fallback) {
  const Onnx__AttributeProto *a = loader_attribute(j->n, attribute);
  return a ? a->i : fallback;
}

/* The place that input i says, counted from the front; `last` is the greatest. Left out: `fallback`. */
static status read_place(const job *j, size_t i, int last, int fallback, int *out) {
  status st = STATUS_OK;
  tensor *t = NULL;
  *out = fallback;
  if (input(j, i) < 0) return st;
  TRY(loader_probe(j->l, input(j, i), &t));
  if (!t || (t->type != DTYPE_INT64 && t->type != DTYPE_INT32) || shape_count(&t->shape) != 1)
    THROW(STATUS_BAD_INPUT,
          "%s: node '%s' (%s): which place it means depends on the data or the number of rows", j->l->name,
          j->title, proto_text(j->n->op_type));
  int64_t at = tensor_int(t, 0);
  if (at < 0) at += j->from->n;
  if (at < 0 || at > last)
    THROW(STATUS_BAD_INPUT, "%s: node '%s' (%s): place %lld of a sequence of %d", j->l->name, j->title,
          proto_text(j->n->op_type), (long long)tensor_int(t, 0), j->from->n);
  *out = (int)at;
done:
  mem_free(t);
  return st;
}

/* The sequence with `fresh` put in at a place, or, -1, without what is there. */
static status change(const job *j, int place, int fresh) {
  const int n = j->from->n + (fresh < 0 ? -1 : 1);
  int *items;
  status st = mem_new(&items, (size_t)n, sizeof *items);
  if (st) return st;
  for (int i = 0; i < n; i++) {
    if (fresh < 0)
      items[i] = j->from->items[i + (i >= place)];
    else
      items[i] = i == place ? fresh : j->from->items[i - (i > place)];
  }
  st = sequence_set(j->l, output(j), items, n);
  mem_free(items);
  return st;
}

static status insert(const job *j) {
  int place;
  status st = read_place(j, 2, j->from->n, j->from->n, &place);
  return st ? st : change(j, place, input(j, 1));
}

static status erase(const job *j) {
  int place;
  if (!j->from->n) return refuse(j, "the sequence is empty");
  status st = read_place(j, 1, j->from->n - 1, j->from->n - 1, &place);
  return st ? st : change(j, place, -1);
}

static status at(const job *j) {
  int place;
  if (!j->from->n) return refuse(j, "the sequence is empty");
  status st = read_place(j, 1, j->from->n - 1, 0, &place);
  return st ? st : loader_connect(j->l, j->from->items[place], j->n->output[0], j->title);
}

static status construct(const job *j) {
  int *items;
  status st = mem_new(&items, j->n->n_input, sizeof *items);
  if (st) return st;
  for (size_t i = 0; i < j->n->n_input; i++) items[i] = input(j, i);
  st = sequence_set(j->l, output(j), items, (int)j->n->n_input);
  mem_free(items);
  return st;
}

static status empty(const job *j) {
  return sequence_set(j->l, output(j), NULL, 0);
}

static status length(const job *j) {
  status st = STATUS_OK;
  char *name = NULL;
  int value;
  TRY(mem_format(&name, "%s:length", j->title));
  TRY(loader_number(j->l, name, DTYPE_INT64, j->from->n, &value));
  TRY(loader_connect(j->l, value, j->n->output[0], j->title));
done:
  mem_free(name);
  return st;
}

/* Squeeze or Unsqueeze of item i, in its place. */
static status change_axis(const job *j, const char *type, int64_t axis, int *item, int i) {
  status st = STATUS_OK;
  attribute *axes = NULL;
  char *name = NULL;
  const int from = *item;
  *item = -1;
  TRY(mem_format(&name, "%s:%d", j->title, i));
  TRY(loader_axis(&axes, "axes", axis, true));
  TRY(loader_node(j->l, "", type, 11, &from, 1, axes, name, item));
done:
  mem_free(name);
  return st;
}

static status concat(const job *j) {
  status st = STATUS_OK;
  const int64_t axis = number(j, "axis", 0);
  attribute *along = NULL;
  int *items = NULL, to = output(j);
  if (!j->from->n) return refuse(j, "the sequence is empty");
  TRY(mem_new(&items, (size_t)j->from->n, sizeof *items));
  memcpy(items, j->from->items, (size_t)j->from->n * sizeof *items);
  for (int i = 0; number(j, "new_axis", 0) && i < j->from->n; i++) {
    TRY(loader_spend(j->l, 2048));
    TRY(change_axis(j, "Unsqueeze", axis, &items[i], i));
  }
  TRY(loader_axis(&along, "axis", axis, false));
  TRY(loader_node(j->l, "", "Concat", 11, items, j->from->n, along, j->title, &to));
done:
  mem_free(items);
  return st;
}

/* ---- SplitToSequence ---- */

/* Sizes of the pieces, *n of them; *one_by_one: each a place, as no sizes are given. */
static status read_sizes(const job *j, int64_t axis, int64_t **sizes, int *n, bool *one_by_one) {
  status st = STATUS_OK;
  tensor *t = NULL;
  int64_t all, size = 1;
  *sizes = NULL;
  *one_by_one = input(j, 1) < 0;
  TRY(loader_length(j->l, input(j, 0), axis, j->title, &all));
  if (!*one_by_one) TRY(loader_probe(j->l, input(j, 1), &t));
  if (all < 0 ||
      (!*one_by_one && (!t || (t->type != DTYPE_INT64 && t->type != DTYPE_INT32) || t->shape.rank > 1)))
    TRY(refuse(j, "how many pieces it makes depends on the data or the number of rows"));
  const bool listed = t && t->shape.rank == 1;
  if (t && !listed) size = tensor_int(t, 0);
  if (size < 1) TRY(refuse(j, "makes pieces of no size"));
  const int64_t count = listed ? shape_count(&t->shape) : (all + size - 1) / size;
  TRY(loader_spend(j->l, (size_t)count > SIZE_MAX / 4096 ? SIZE_MAX : (size_t)count * 2048));
  TRY(mem_new(sizes, (size_t)count, sizeof **sizes));
  for (int64_t i = 0; i < count; i++)
    (*sizes)[i] = listed ? tensor_int(t, i) : i * size + size > all ? all - i * size : size;
  *n = (int)count;
done:
  mem_free(t);
  return st;
}

static status name_pieces(const job *j, int n, int *items) {
  status st = STATUS_OK;
  for (int i = 0; i < n && !st; i++) {
    char *name;
    TRY(mem_format(&name, "%s:piece %d", j->title, i));
    st = loader_name_file(j->l, graph_add_value(j->l->g, name, &items[i]));
    mem_free(name);
  }
done:
  return st;
}

/* items = Split(input 0) into pieces of those sizes. Takes sizes. */
static status split(const job *j, int64_t axis, int64_t *sizes, int n, const int *items) {
  status st = STATUS_OK;
  attribute *a = NULL;
  const int from = input(j, 0);
  if (!(st = mem_new(&a, 2, sizeof *a))) {
    a[0] = (attribute){.type = ATTRIBUTE_INTS, .ints = sizes, .n = n};
    a[1] = (attribute){.type = ATTRIBUTE_INT, .i = axis};
    sizes = NULL;
    TRY(mem_string(&a[0].name, "split"));
    TRY(mem_string(&a[1].name, "axis"));
    st = graph_add_node(j->l->g, j->title, op_find("", "Split", 11), 11, &from, 1, items, n, a, 2);
    a = NULL;
  }
done:
  for (int i = 0; a && i < 2; i++) attribute_clear(&a[i]);
  mem_free(a);
  mem_free(sizes);
  return loader_name_file(j->l, st);
}

static status split_to(const job *j) {
  status st = STATUS_OK;
  const int64_t axis = number(j, "axis", 0);
  int64_t *sizes = NULL;
  int *items = NULL, n = 0;
  bool one_by_one;
  TRY(read_sizes(j, axis, &sizes, &n, &one_by_one));
  if (!n) TRY(refuse(j, "makes no pieces"));
  TRY(mem_new(&items, (size_t)n, sizeof *items));
  TRY(name_pieces(j, n, items));
  int64_t *taken = sizes;
  sizes = NULL;
  TRY(split(j, axis, taken, n, items));
  for (int i = 0; one_by_one && !number(j, "keepdims", 1) && i < n; i++)
    TRY(change_axis(j, "Squeeze", axis, &items[i], i));
  TRY(sequence_set(j->l, output(j), items, n));
done:
  mem_free(sizes);
  mem_free(items);
  return st;
}

typedef struct kind {
  const char *name;
  bool reads; /* input 0 is a sequence */
  status (*add)(const job *j);
} kind;

static const kind kinds[] = {{"ConcatFromSequence", true, concat},
                             {"SequenceAt", true, at},
                             {"SequenceConstruct", false, construct},
                             {"SequenceEmpty", false, empty},
                             {"SequenceErase", true, erase},
                             {"SequenceInsert", true, insert},
                             {"SequenceLength", true, length},
                             {"SplitToSequence", false, split_to},
                             {0}};

status sequence_add(loader *l, size_t i) {
  status st = STATUS_OK;
  job j = {.l = l, .n = l->from->node[i]};
  const kind *k = kinds;
  while (strcmp(k->name, j.n->op_type) != 0) k++;
  TRY(loader_title(l, i, &j.title));
  if (j.n->n_output != 1 || !*j.n->output[0]) TRY(refuse(&j, "has not one output"));
  if (k->reads) j.from = sequence_find(l, input(&j, 0));
  if (k->reads && !j.from) TRY(refuse(&j, "its input is not a sequence that the model makes"));
  for (size_t x = k->reads; x < j.n->n_input; x++)
    if (sequence_find(l, input(&j, x))) TRY(refuse(&j, "holds or reads a sequence as if it were a tensor"));
  TRY(k->add(&j));
done:
  mem_free(j.title);
  return st;
}
