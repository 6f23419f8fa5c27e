/* Runs ONNX's own operator tests (Debian: libonnx-testdata) through the engine.
 *
 *     conformance [--table] [--each] [--skips FILE] [--only PATTERN] [FOLDER ...]
 *
 * A test is a folder with model.onnx and test_data_set_*\/input_K.pb, output_K.pb. Outputs are compared as
 * ONNX's own runner does: |got - expected| <= 1e-7 + 1e-3 |expected| for real numbers, exactly for all
 * others, types and shapes too. Tests whose operators are not in ops.def are counted as not supported; the
 * others pass, fail, or are skipped for a reason given in the skips file (lines of a shell pattern and a
 * reason). Exit status 1 when one fails or when a line of the skips file matches nothing. */
#include "base/file.h"
#include "base/mem.h"
#include "graph/plan.h"
#include "onnx/load.h"
#include "onnx/loader.h"
#include "onnx/model.h"
#include "onnx/proto.h"
#include "onnx/tensor_proto.h"
#include "ops/ops.h"

#include <dirent.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ENDS_MAX = 16, ROWS_MAX = 512, SKIPS_MAX = 512 };

typedef enum outcome { PASSED, FAILED, SKIPPED, NOT_SUPPORTED, N_OUTCOMES } outcome;

/* How much of what the model takes as inputs is given as initializers instead: some operators need the values
 * of shapes, axes, pads before the first batch, as they stand in every exported model. */
typedef enum feeding { FEED_ALL, FEED_FIRST, FEED_NONE, N_FEEDINGS } feeding;

typedef struct row {
  char operator_name[64];
  int count[N_OUTCOMES];
} row;

typedef struct skip {
  char pattern[128], reason[256];
  int used;
} skip;

typedef struct suite {
  row rows[ROWS_MAX];
  int n_rows;
  skip skips[SKIPS_MAX];
  int n_skips;
  int count[N_OUTCOMES];
  int fed[N_FEEDINGS];
  const char *only;
  bool each; /* a line for every test, not only for those that fail */
} suite;

typedef struct tensors {
  Onnx__TensorProto *item[ENDS_MAX];
  int n;
} tensors;

static void tensors_free(tensors *t) {
  for (int i = 0; i < t->n; i++) proto_free(t->item[i]);
  t->n = 0;
}

/* FOLDER/WHAT_0.pb, FOLDER/WHAT_1.pb, ... */
static status tensors_read(tensors *t, const char *folder, const char *what) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  char path[4096];
  for (;;) {
    size_t n;
    snprintf(path, sizeof path, "%s/%s_%d.pb", folder, what, t->n);
    if (!file_exists(path)) break;
    if (t->n == ENDS_MAX) THROW(STATUS_FAILED, "%s: more than %d of them", path, ENDS_MAX);
    TRY(file_read(path, &bytes, &n));
    TRY(proto_unpack(&t->item[t->n], path, &onnx__tensor_proto__descriptor, bytes, n));
    t->n++;
    mem_free(bytes);
    bytes = NULL;
  }
done:
  mem_free(bytes);
  return st;
}

/* numpy has no bfloat16: the data of such inputs and outputs is stored as uint16. */
static void restore_bfloat16(tensors *t, Onnx__ValueInfoProto *const *declared, size_t n) {
  for (int i = 0; i < t->n && (size_t)i < n; i++) {
    const Onnx__TypeProto *type = declared[i]->type;
    if (!type || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) continue;
    bool is_bfloat16 = type->tensor_type->elem_type == ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16;
    if (is_bfloat16 && t->item[i]->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT16)
      t->item[i]->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16;
  }
}

static bool is_close(double got, double expected) {
  if (isnan(expected) || isnan(got)) return isnan(expected) && isnan(got);
  if (isinf(expected) || isinf(got)) return got == expected;
  return fabs(got - expected) <= 1e-7 + 1e-3 * fabs(expected);
}

static status compare(const tensor *got, const Onnx__TensorProto *proto, int k) {
  status st = STATUS_OK;
  tensor *expected = NULL;
  char a[128], b[128], what[32];
  snprintf(what, sizeof what, "output %d", k);
  TRY(tensor_from_proto(&expected, proto, what));
  if (got->type != expected->type)
    THROW(STATUS_FAILED, "%s is of type %s, not %s", what, dtype_name(got->type), dtype_name(expected->type));
  if (!shape_equal(&got->shape, &expected->shape))
    THROW(STATUS_FAILED, "%s has the shape %s, not %s", what, shape_text(&got->shape, a, sizeof a),
          shape_text(&expected->shape, b, sizeof b));
  int64_t n = shape_count(&expected->shape);
  for (int64_t i = 0; i < n; i++) {
    bool real = expected->type == DTYPE_FLOAT;
    double x = tensor_real(got, i), y = tensor_real(expected, i);
    if (real ? !is_close(x, y) : tensor_int(got, i) != tensor_int(expected, i))
      THROW(STATUS_FAILED, "%s, element %lld of %lld is %.9g, not %.9g", what, (long long)i, (long long)n, x,
            y);
  }
done:
  mem_free(expected);
  return st;
}

static bool is_initializer(const Onnx__GraphProto *g, const char *name) {
  for (size_t i = 0; i < g->n_initializer; i++)
    if (strcmp(proto_text(g->initializer[i]->name), name) == 0) return true;
  return false;
}

/* The model with its inputs from the `first` on as initializers. */
static status parse_fed(model **out, const char *path, const Onnx__ModelProto *from, const tensors *inputs,
                        int first) {
  status st = STATUS_OK;
  Onnx__ModelProto m = *from;
  Onnx__GraphProto g = *from->graph;
  Onnx__TensorProto given[ENDS_MAX], **list = NULL;
  unsigned char *bytes = NULL;
  size_t n;
  int position = 0;
  TRY(mem_new(&list, g.n_initializer + ENDS_MAX, sizeof *list));
  for (size_t i = 0; i < g.n_initializer; i++) list[i] = g.initializer[i];
  for (size_t i = 0; i < g.n_input; i++) {
    if (is_initializer(from->graph, g.input[i]->name)) continue;
    if (position >= first && position < inputs->n) {
      given[position] = *inputs->item[position];
      given[position].name = g.input[i]->name;
      list[g.n_initializer++] = &given[position];
    }
    position++;
  }
  g.initializer = list;
  m.graph = &g;
  TRY(proto_pack(&m, &bytes, &n));
  TRY(model_parse(out, path, bytes, n));
done:
  mem_free(list);
  mem_free(bytes);
  return st;
}

static status set_inputs(plan *p, const graph *g, tensor *const *inputs) {
  for (int i = 0; i < g->n_inputs; i++) {
    tensor *to = plan_input(p, i);
    if (to->type != inputs[i]->type)
      return status_set(STATUS_FAILED, "input %d is of type %s in the plan and %s in the data", i,
                        dtype_name(to->type), dtype_name(inputs[i]->type));
    if (to->data) memcpy(to->data, inputs[i]->data, (size_t)shape_count(&to->shape) * dtype_bytes(to->type));
  }
  return STATUS_OK;
}

/* The data of an input: a model has none of those that nothing reads. */
static const Onnx__TensorProto *data_of(const Onnx__GraphProto *from, const tensors *inputs,
                                        const char *name) {
  int position = 0;
  for (size_t i = 0; i < from->n_input; i++) {
    if (is_initializer(from, from->input[i]->name)) continue;
    if (position < inputs->n && strcmp(from->input[i]->name, name) == 0) return inputs->item[position];
    position++;
  }
  return NULL;
}

/* *planned: the model can be made ready; what fails after that is no matter of how it is fed. */
static status run(const model *m, const Onnx__GraphProto *from, const tensors *inputs, const tensors *outputs,
                  bool *planned) {
  status st = STATUS_OK;
  const graph *g = model_graph(m);
  plan *p = NULL;
  float *block = NULL;
  tensor *data[ENDS_MAX] = {0};
  shape shapes[ENDS_MAX] = {0};
  run_context context = {0};
  if (g->n_inputs > inputs->n || g->n_outputs != outputs->n)
    THROW(STATUS_FAILED, "the model has %d inputs and %d outputs, the data %d and %d", g->n_inputs,
          g->n_outputs, inputs->n, outputs->n);
  for (int i = 0; i < g->n_inputs; i++) {
    const Onnx__TensorProto *given = data_of(from, inputs, g->values[g->inputs[i]].name);
    if (!given) THROW(STATUS_FAILED, "there is no data for input '%s'", g->values[g->inputs[i]].name);
    TRY(tensor_from_proto(&data[i], given, "input"));
    shapes[i] = data[i]->shape;
  }
  TRY(plan_new(&p, g, &(plan_options){.rows = 1, .input_shapes = shapes}));
  *planned = true;
  TRY(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  plan_set_parameters(p, block);
  TRY(set_inputs(p, g, data));
  TRY(plan_forward(p, &context));
  for (int i = 0; i < g->n_outputs; i++) TRY(compare(plan_output(p, i), outputs->item[i], i));
done:
  for (int i = 0; i < ENDS_MAX; i++) mem_free(data[i]);
  plan_free(&p);
  mem_free(block);
  return st;
}

static status try_data_set(const char *path, const char *folder, const Onnx__ModelProto *proto,
                           feeding *how) {
  static const int first[] = {[FEED_ALL] = ENDS_MAX, [FEED_FIRST] = 1, [FEED_NONE] = 0};
  status st = STATUS_OK;
  tensors inputs = {0}, outputs = {0};
  char message[1024] = "";
  bool planned = false;
  TRY(tensors_read(&inputs, folder, "input"));
  TRY(tensors_read(&outputs, folder, "output"));
  restore_bfloat16(&inputs, proto->graph->input, proto->graph->n_input);
  restore_bfloat16(&outputs, proto->graph->output, proto->graph->n_output);
  for (int f = FEED_ALL; f < N_FEEDINGS && !planned; f++) {
    model *m = NULL;
    *how = f;
    st = parse_fed(&m, path, proto, &inputs, first[f]);
    if (!st) st = run(m, proto->graph, &inputs, &outputs, &planned);
    if (st && !*message) snprintf(message, sizeof message, "%s", status_message());
    model_free(&m);
  }
  if (st && !planned) status_set(st, "%s", message);
done:
  tensors_free(&inputs);
  tensors_free(&outputs);
  return st;
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a folder that begin with `prefix`, sorted; owned by the caller. */
static status list_folder(const char *folder, const char *prefix, char ***out, size_t *n) {
  status st = STATUS_OK;
  DIR *d = opendir(folder);
  *n = 0;
  TRY(mem_new(out, 1, sizeof **out));
  if (!d) THROW(STATUS_BAD_INPUT, "%s: cannot be read", folder);
  for (struct dirent *e; (e = readdir(d));) {
    if (strncmp(e->d_name, prefix, strlen(prefix)) != 0) continue;
    TRY(mem_resize(out, *n, *n + 1, sizeof **out));
    TRY(mem_string(&(*out)[(*n)++], e->d_name));
  }
  qsort(*out, *n, sizeof **out, by_name);
done:
  if (d) closedir(d);
  return st;
}

static void list_free(char ***list, size_t n) {
  for (size_t i = 0; *list && i < n; i++) mem_free((*list)[i]);
  mem_free(*list);
  *list = NULL;
}

static status try_model(const char *path, const char *folder, const Onnx__ModelProto *proto, feeding *how) {
  status st = STATUS_OK;
  char **sets = NULL;
  size_t n = 0;
  TRY(list_folder(folder, "test_data_set_", &sets, &n));
  if (!n) THROW(STATUS_FAILED, "there is no data set");
  for (size_t i = 0; i < n; i++) {
    char set[4096];
    snprintf(set, sizeof set, "%s/%s", folder, sets[i]);
    TRY(try_data_set(path, set, proto, how));
  }
done:
  list_free(&sets, n);
  return st;
}

static skip *find_skip(suite *s, const char *test) {
  for (int i = 0; i < s->n_skips; i++)
    if (fnmatch(s->skips[i].pattern, test, 0) == 0) return &s->skips[i];
  return NULL;
}

/* The operator a test is about: the one in its model, or "(several)". *all: every one is in ops.def. */
static const char *find_operator(const Onnx__ModelProto *m, bool *all) {
  const char *name = NULL;
  *all = true;
  for (size_t i = 0; i < m->graph->n_node; i++) {
    const Onnx__NodeProto *n = m->graph->node[i];
    const char *type = proto_text(n->op_type);
    name = !name || strcmp(name, type) == 0 ? type : "(several)";
    *all &= inlined_find(n) || op_find(proto_text(n->domain), type, load_opset(m, n->domain)) != NULL;
  }
  return name ? name : "(none)";
}

static row *find_row(suite *s, const char *name) {
  for (int i = 0; i < s->n_rows; i++)
    if (strcmp(s->rows[i].operator_name, name) == 0) return &s->rows[i];
  if (s->n_rows == ROWS_MAX) return &s->rows[ROWS_MAX - 1];
  row *r = &s->rows[s->n_rows++];
  snprintf(r->operator_name, sizeof r->operator_name, "%s", name);
  return r;
}

static outcome judge(suite *s, const char *test, const char *folder, const char *path,
                     const Onnx__ModelProto *proto) {
  bool all;
  feeding how = FEED_ALL;
  const char *name = find_operator(proto, &all);
  skip *because = find_skip(s, test);
  if (!all) return NOT_SUPPORTED;
  if (because) {
    because->used++;
    if (s->each) printf("skip %s: %s\n", test, because->reason);
    return SKIPPED;
  }
  status st = try_model(path, folder, proto, &how);
  if (st) printf("not ok %s (%s): %s\n", test, name, status_message());
  if (!st && s->each) printf("ok %s\n", test);
  if (!st) s->fed[how]++;
  return st ? FAILED : PASSED;
}

static status run_test(suite *s, const char *root, const char *test) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  Onnx__ModelProto *proto = NULL;
  size_t n;
  char folder[2048], path[4096];
  bool unused;
  snprintf(folder, sizeof folder, "%s/%s", root, test);
  snprintf(path, sizeof path, "%s/model.onnx", folder);
  if (!file_exists(path) || (s->only && fnmatch(s->only, test, 0) != 0)) return STATUS_OK;
  TRY(file_read(path, &bytes, &n));
  TRY(proto_unpack(&proto, path, &onnx__model_proto__descriptor, bytes, n));
  if (!proto->graph) THROW(STATUS_BAD_INPUT, "%s: holds no graph", path);
  outcome o = judge(s, test, folder, test, proto);
  s->count[o]++;
  find_row(s, find_operator(proto, &unused))->count[o]++;
done:
  proto_free(proto);
  mem_free(bytes);
  return st;
}

static status run_folder(suite *s, const char *root) {
  status st = STATUS_OK;
  char **tests = NULL;
  size_t n = 0;
  TRY(list_folder(root, "test_", &tests, &n));
  for (size_t i = 0; i < n; i++) TRY(run_test(s, root, tests[i]));
done:
  list_free(&tests, n);
  return st;
}

static status read_skips(suite *s, const char *path) {
  FILE *f = fopen(path, "r");
  char line[512];
  if (!f) return status_set(STATUS_BAD_INPUT, "%s: cannot be read", path);
  for (int number = 1; fgets(line, sizeof line, f); number++) {
    if (line[0] == '#' || line[0] == '\n') continue;
    skip *k = &s->skips[s->n_skips];
    if (s->n_skips == SKIPS_MAX || sscanf(line, "%127s %255[^\n]", k->pattern, k->reason) != 2) {
      fclose(f);
      return status_set(STATUS_BAD_INPUT, "%s:%d: a pattern and a reason are expected, at most %d times",
                        path, number, SKIPS_MAX);
    }
    s->n_skips++;
  }
  fclose(f);
  return STATUS_OK;
}

static int by_operator(const void *a, const void *b) {
  return strcmp(((const row *)a)->operator_name, ((const row *)b)->operator_name);
}

static void print_table(suite *s) {
  qsort(s->rows, (size_t)s->n_rows, sizeof *s->rows, by_operator);
  printf("%-28s %7s %7s %7s %14s\n", "operator", "passed", "failed", "skipped", "not supported");
  for (int i = 0; i < s->n_rows; i++) {
    const int *c = s->rows[i].count;
    printf("%-28s %7d %7d %7d %14d\n", s->rows[i].operator_name, c[PASSED], c[FAILED], c[SKIPPED],
           c[NOT_SUPPORTED]);
  }
}

/* A line of the skips file that matches nothing hides nothing: it is stale. */
static int report_stale(const suite *s) {
  int n = 0;
  for (int i = 0; !s->only && i < s->n_skips; i++)
    if (!s->skips[i].used && ++n)
      printf("not ok skips: nothing matches '%s': %s\n", s->skips[i].pattern, s->skips[i].reason);
  return n;
}

int main(int argc, char **argv) {
  static suite s;
  static char *const standard[] = {"/usr/share/libonnx-testdata/data/node",
                                   "/usr/share/libonnx-testdata/data/simple",
                                   "/usr/share/libonnx-testdata/data/pytorch-converted",
                                   "/usr/share/libonnx-testdata/data/pytorch-operator"};
  const char *skips = "tests/conformance/skips.txt";
  bool table = false;
  int i = 1;
  for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
    if (strcmp(argv[i], "--table") == 0)
      table = true;
    else if (strcmp(argv[i], "--each") == 0)
      s.each = true;
    else if (strcmp(argv[i], "--skips") == 0 && i + 1 < argc)
      skips = argv[++i];
    else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
      s.only = argv[++i];
    else
      return fprintf(stderr, "usage: %s [--table] [--each] [--skips FILE] [--only PATTERN] [FOLDER ...]\n",
                     argv[0]),
             2;
  }
  char *const *folders = i < argc ? argv + i : standard;
  int n = i < argc ? argc - i : (int)(sizeof standard / sizeof *standard);
  status st = ops_init();
  if (!st) st = read_skips(&s, skips);
  for (int k = 0; !st && k < n; k++) st = run_folder(&s, folders[k]);
  if (st) return fprintf(stderr, "%s\n", status_message()), st;
  if (table) print_table(&s);
  int stale = i < argc ? 0 : report_stale(&s);
  printf("%d tests use operators that are not in ops.def\n", s.count[NOT_SUPPORTED]);
  printf("of those passed, %d take all their inputs at run time, %d only the first, %d none\n",
         s.fed[FEED_ALL], s.fed[FEED_FIRST], s.fed[FEED_NONE]);
  printf("%d passed, %d failed, %d skipped\n", s.count[PASSED], s.count[FAILED], s.count[SKIPPED]);
  return s.count[FAILED] || stale || !s.count[PASSED] ? 1 : 0;
}
