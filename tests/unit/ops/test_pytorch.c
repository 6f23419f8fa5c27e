/* Values and gradients of the cases of test_gradients.c against PyTorch's, in double precision: reference.py
 * stands beside this file and tells the format of what they exchange. Dropout draws other numbers there. */
#include "gradient.h"

#include <unistd.h>

static const gradient_case cases[] = {
#include "cases_basic.h"
#include "cases_nn.h"
#include "cases_seq.h"
};

enum { N_CASES = sizeof cases / sizeof cases[0] };

static bool is_compared(const gradient_case *c) {
  return !(case_op(c)->flags & OP_RANDOM);
}

static void write_floats(FILE *f, const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) fprintf(f, " %.9g", x[i]);
}

/* The words of case.inputs again, with the numbers that the graph got. */
static void write_inputs(FILE *f, const gradient_case *c, const one_graph *o) {
  char copy[256], *rest = NULL;
  int k = 0;
  snprintf(copy, sizeof copy, "%s", c->inputs);
  for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    const bool fixed = strchr(word, '=');
    if (word[0] == '-' || strcmp(word, "same") == 0) {
      fprintf(f, "input %s\n", word);
    } else if (fixed) {
      double dims[SHAPE_MAX_RANK], values[256];
      int rank = numbers_of(word + 1, dims, SHAPE_MAX_RANK),
          n = numbers_of(strchr(word, '=') + 1, values, 256);
      bool list = word[0] == 'i' && word[1] == '=';
      fprintf(f, "input %c %d", word[0], list ? 1 : rank);
      if (list) fprintf(f, " %d", n);
      for (int d = 0; d < rank; d++) fprintf(f, " %g", dims[d]);
      for (int i = 0; i < n; i++) fprintf(f, " %.9g", (double)(float)values[i]);
      fprintf(f, "\n");
    } else {
      const shape *sh = &o->shapes[k];
      fprintf(f, "input f %d", sh->rank);
      for (int d = 0; d < sh->rank; d++) fprintf(f, " %d", (int)sh->dims[d]);
      write_floats(f, o->values[k++], shape_count(sh));
      fprintf(f, "\n");
    }
  }
}

static void write_case(FILE *f, const gradient_case *c, const one_graph *o, const plan *p) {
  fprintf(f, "case %s %d %d %s\n", c->op, case_opset(c), o->g->n_outputs, c->attributes ? c->attributes : "");
  write_inputs(f, c, o);
  for (int i = 0; i < o->g->n_outputs; i++) {
    const int64_t n = shape_count(&plan_output(p, i)->shape);
    fprintf(f, "weights");
    for (int64_t k = 0; k < n; k++) fprintf(f, " %.9g", weight_of(i, k));
    fprintf(f, "\n");
  }
  fprintf(f, "end\n");
}

/* One line of the answer against what the plan holds. */
static void compare(const gradient_case *c, const char *line, const char *name, const tensor *got) {
  const float *x = got->data;
  const int64_t n = shape_count(&got->shape);
  double distance = 0, norm = 0;
  if (strncmp(line, name, strlen(name)) != 0)
    case_fail(c, "expected a line '%s', PyTorch says '%s'", name, line);
  const char *at = line + strlen(name);
  for (int64_t k = 0; k < n; k++) {
    char *end;
    double expected = strtod(at, &end);
    if (end == at) case_fail(c, "PyTorch has %d numbers where %d are expected: %s", (int)k, (int)n, name);
    distance += (x[k] - expected) * (x[k] - expected);
    norm += expected * expected;
    at = end;
  }
  if (strspn(at, " \n") != strlen(at)) case_fail(c, "PyTorch has more than %d numbers: %s", (int)n, name);
  double off = sqrt(distance) / (sqrt(norm) + 0.05);
  if (!(off <= 1e-5)) case_fail(c, "%s is off by %g", name, off);
}

static void next_line(FILE *f, char **line, size_t *room) {
  if (getline(line, room, f) <= 0) fail_msg("reference.py stopped early");
}

static void check_case(FILE *answer, const gradient_case *c, char **line, size_t *room) {
  one_graph o;
  one_graph_open(&o, c, 1, false);
  plan *p = one_plan(&o, c, false);
  differentiate(&o, p, c, 1, 0);
  for (int i = 0; i < o.g->n_outputs; i++) {
    next_line(answer, line, room);
    compare(c, *line, "output", plan_output(p, i));
  }
  for (int i = 0; i < o.n_floats; i++) {
    next_line(answer, line, room);
    compare(c, *line, "gradient", plan_input_gradient(p, i));
  }
  next_line(answer, line, room);
  if (strcmp(*line, "end\n") != 0) case_fail(c, "PyTorch has more results: %s", *line);
  plan_free(&p);
  one_graph_close(&o);
}

static void write_questions(const char *path) {
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  for (size_t i = 0; i < N_CASES; i++) {
    if (!is_compared(&cases[i])) continue;
    one_graph o;
    one_graph_open(&o, &cases[i], 1, false);
    plan *p = one_plan(&o, &cases[i], false);
    write_case(f, &cases[i], &o, p);
    plan_free(&p);
    one_graph_close(&o);
  }
  assert_int_equal(fclose(f), 0);
}

static void pytorch_agrees(void **state) {
  (void)state;
  char path[] = "/tmp/mpistill-cases-XXXXXX", command[512], *line = NULL;
  size_t room = 0;
  int file = mkstemp(path);
  assert_true(file >= 0);
  close(file);
  write_questions(path);
  const char *folder_end = strrchr(__FILE__, '/');
  snprintf(command, sizeof command, "/usr/bin/python3 %.*s/reference.py %s", (int)(folder_end - __FILE__),
           __FILE__, path);
  FILE *answer = popen(command, "r");
  assert_non_null(answer);
  for (size_t i = 0; i < N_CASES; i++) {
    if (is_compared(&cases[i])) check_case(answer, &cases[i], &line, &room);
  }
  free(line);
  assert_int_equal(pclose(answer), 0);
  unlink(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(pytorch_agrees)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
