/* What a run ends with: all of its models on the test rows, in result.json and as a table. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "stages/aggregate.h"
#include "stages/evaluate.h"
#include "stages/reduced.h"
#include "stages/run_job.h"
#include "stages/stages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static run_row *add_row(run_job *j, const char *kind, const char *name) {
  run_row *r = &j->rows[j->n_rows++];
  *r = (run_row){.name = name, .kind = kind};
  return r;
}

static status measure_model(run_job *j, run_row *r, const model_source *from, const char *input,
                            bool with_sums) {
  status st = STATUS_OK;
  subject s = {0};
  TRY(subject_open_any(&s, j->c, from, j->d, j->has_test ? j->r.distill.test_split : j->r.distill.split,
                       input));
  r->parameters = model_parameters(s.m);
  r->bytes = model_bytes(s.m);
  r->has_model = true;
  TRY(evaluate_latency(j->c, &s.k, s.block, &r->latency_s));
  if (!with_sums) goto done;
  TRY(subject_order(&s, j->c, j->d));
  TRY(evaluate_rows(j->c, &s.k, s.block, j->d, s.sp, stage_threads(j->r.threads), false, &r->score));
  r->measured = r->score.sums.rows > 0;
done:
  subject_close(&s);
  return st;
}

/* Teachers and ensemble on the test split, from their logits there; those made elsewhere have none. */
static status measure_teachers(run_job *j) {
  status st = STATUS_OK;
  mpistill_aggregate_options a = j->r.aggregate;
  mpistill_strings paths = {0};
  score *members = NULL;
  TRY(run_soft_paths(j, j->soft_test, false, &paths));
  bool all_live = paths.n == j->r.teachers.n, measured = j->has_test && paths.n > 0;
  TRY(comm_agree(j->c, mem_new(&members, paths.n + 1, sizeof *members)));
  a.inputs = paths;
  a.dataset = j->r.dataset;
  a.out = run_output(j);
  const bool together = run_combines_in_training(j), has_ensemble = all_live && !together;
  if (together) a.method = (char *)(uintptr_t) "probability-mean"; /* for the teachers' own figures */
  if (!all_live) a.weights = (mpistill_reals){0};
  if (measured) TRY(aggregate_measure(j->c, &a, has_ensemble ? j->ensemble : NULL, members));
  size_t live = 0;
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const mpistill_teacher *t = &j->r.teachers.items[i];
    run_row *r = add_row(j, "teacher", t->name);
    if (!t->model) continue;
    if (!t->is_private)
      TRY(measure_model(j, r, &(model_source){.path = t->model, .pre = teach_preprocess(&j->r.teach, t)},
                        t->input, false));
    r->score = members[live++];
    r->measured = measured && r->score.sums.rows > 0;
  }
  run_row *r = add_row(j, "ensemble", "ensemble");
  r->score = members[live];
  r->measured = measured && has_ensemble && r->score.sums.rows > 0;
  for (int i = 0; i < j->n_rows - 1; i++) {
    r->parameters += j->rows[i].parameters;
    r->bytes += j->rows[i].bytes;
    r->latency_s += j->rows[i].latency_s;
  }
  r->has_model = all_live;
  for (size_t i = 0; i < j->r.teachers.n; i++)
    r->has_model = r->has_model && !j->r.teachers.items[i].is_private;
done:
  strings_free(&paths);
  mem_free(members);
  return st;
}

static json_t *row_json(const run_row *r) {
  json_t *o = json_pack("{s:s, s:s}", "name", r->name, "kind", r->kind);
  if (r->measured) {
    json_t *m = score_json(&r->score);
    json_object_update(o, m);
    json_decref(m);
  }
  if (r->has_model) {
    json_object_set_new(o, "parameters", json_integer(r->parameters));
    json_object_set_new(o, "bytes", json_integer(r->bytes));
    json_object_set_new(o, "latency_s", json_number(r->latency_s));
  }
  return o;
}

static void print_table(const run_job *j) {
  printf("%-24s %12s %12s %9s %9s %11s\n", "", "parameters", "bytes", "accuracy", "nll", "latency");
  for (int i = 0; i < j->n_rows; i++) {
    const run_row *r = &j->rows[i];
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", strcmp(r->kind, "teacher") ? "" : "teacher ", r->name,
             strcmp(r->kind, "baseline") ? "" : " (hard labels)");
    printf("%-24.24s", name);
    if (r->has_model)
      printf(" %12lld %12lld", (long long)r->parameters, (long long)r->bytes);
    else
      printf(" %12s %12s", "-", "-");
    if (r->measured)
      printf(" %9.4f %9.4f", metric_accuracy(&r->score.sums), metric_nll(&r->score.sums));
    else
      printf(" %9s %9s", "-", "-");
    if (r->has_model)
      printf(" %8.1f us\n", 1e6 * r->latency_s);
    else
      printf(" %11s\n", "-");
  }
  fflush(stdout);
}

status run_report(run_job *j) {
  status st = STATUS_OK;
  char *path = NULL, *text = NULL;
  json_t *list = json_array();
  for (int i = 0; i < j->n_rows; i++) json_array_append_new(list, row_json(&j->rows[i]));
  json_t *result =
      json_pack("{s:s, s:s, s:o}", "split", j->has_test ? j->r.distill.test_split : j->r.distill.split,
                "student", "student.onnx", "models", list);
  if (comm_rank(j->c) == 0) {
    text = json_dumps(result, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    if (!text) THROW(STATUS_FAILED, "out of memory: the result could not be written");
    TRY(file_join(&path, j->r.output, "result.json"));
    TRY(file_write(path, text, strlen(text)));
    if (j->o->out.json)
      printf("%s\n", text);
    else
      print_table(j);
    fflush(stdout);
  }
done:
  json_decref(result);
  free(text);
  mem_free(path);
  return comm_agree(j->c, st);
}

status run_measure(run_job *j) {
  status st = STATUS_OK;
  char *full = NULL;
  TRY(comm_agree(j->c, mem_new(&j->rows, j->r.teachers.n + (size_t)j->students.n + 4, sizeof *j->rows)));
  if (j->r.teachers.n) TRY(measure_teachers(j));
  if (j->r.baseline)
    TRY(measure_model(j, add_row(j, "baseline", "baseline"), &(model_source){.path = j->baseline},
                      j->r.distill.input, true));
  for (int i = 0; i < j->students.n - 1; i++) {
    const chain_step *k = &j->students.steps[i];
    TRY(measure_model(j, add_row(j, k->kind, k->name), &(model_source){.path = k->output}, j->r.distill.input,
                      true));
  }
  if (reduced_wanted(&j->r.distill)) {
    TRY(comm_agree(j->c, reduced_full_path(&full, chain_last(&j->students)->output)));
    TRY(measure_model(j, add_row(j, "student", "student float32"), &(model_source){.path = full},
                      j->r.distill.input, true));
  }
  TRY(measure_model(j, add_row(j, "student", "student"),
                    &(model_source){.path = chain_last(&j->students)->output}, j->r.distill.input, true));
done:
  mem_free(full);
  return st;
}
