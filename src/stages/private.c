#include "stages/private.h"

#include "base/mem.h"
#include "stages/common.h"
#include "stages/evaluate.h"
#include "stages/tasks.h"

#include <string.h>

static lesson *named(const teach_job *j, const char *text, size_t n) {
  for (int i = 0; i < j->n; i++)
    if (strlen(j->teachers[i].options->name) == n && !strncmp(j->teachers[i].options->name, text, n))
      return &j->teachers[i];
  return NULL;
}

status private_choose(teach_job *j) {
  for (int i = 0; i < j->n; i++) {
    j->teachers[i].is_private = j->teachers[i].options->is_private;
    j->teachers[i].data = j->teachers[i].options->data;
  }
  for (size_t k = 0; k < j->o->is_private.n; k++) {
    const char *text = j->o->is_private.items[k], *equals = strchr(text, '=');
    lesson *t = named(j, text, equals ? (size_t)(equals - text) : strlen(text));
    if (!t) return status_set(STATUS_BAD_INPUT, "--private %s: there is no teacher of that name", text);
    t->is_private = true;
    if (equals) t->data = equals + 1;
  }
  for (int i = 0; i < j->n; i++)
    if (j->teachers[i].is_private && j->teachers[i].n_taps)
      return status_set(STATUS_BAD_INPUT, "teacher '%s' is private: its inner tensors (taps) cannot leave it",
                        j->teachers[i].options->name);
  return STATUS_OK;
}

/* ---- whose ranks ---- */

static status take_rank(teach_job *j, int size, int i, int64_t rank) {
  const char *name = j->teachers[i].options->name;
  if (rank < 0 || rank >= size)
    return status_set(STATUS_BAD_INPUT, "teacher '%s': rank %lld is not there, the last is %d", name,
                      (long long)rank, size - 1);
  if (j->bound[rank] >= 0 && j->bound[rank] != i)
    return status_set(STATUS_BAD_INPUT, "teacher '%s': rank %lld belongs to '%s' already", name,
                      (long long)rank, j->teachers[j->bound[rank]].options->name);
  j->bound[rank] = i;
  return STATUS_OK;
}

/* Ranks that the teachers name. */
static status take_named(teach_job *j, int size, int n_others) {
  status st = STATUS_OK;
  int left = 0;
  for (int i = 0; i < j->n; i++) {
    const lesson *t = &j->teachers[i];
    if (!t->is_private) continue;
    if (!t->options->ranks.n)
      THROW(STATUS_BAD_INPUT, "teacher '%s': give its ranks, as those of the other private teachers",
            t->options->name);
    for (size_t k = 0; k < t->options->ranks.n; k++) TRY(take_rank(j, size, i, t->options->ranks.items[k]));
  }
  for (int rank = 0; rank < size; rank++) left += j->bound[rank] < 0;
  if (n_others && !left)
    THROW(STATUS_BAD_INPUT, "all ranks belong to private teachers; leave one for the teachers that are not");
done:
  return st;
}

static status take_ranges(teach_job *j, int size, int n_private, int n_others) {
  const int groups = n_private + (n_others > 0);
  int group = 0;
  if (size < groups)
    return status_set(
        STATUS_BAD_INPUT,
        "%d private teachers%s need %d ranks or more, not %d: a rank opens the files of one group", n_private,
        n_others ? " and the others" : "", groups, size);
  for (int i = 0; i < j->n; i++) {
    if (!j->teachers[i].is_private) continue;
    for (int rank = group * size / groups; rank < (group + 1) * size / groups; rank++) j->bound[rank] = i;
    group++;
  }
  return STATUS_OK;
}

status private_groups(teach_job *j, int size) {
  status st = STATUS_OK;
  int n_private = 0;
  bool has_ranks = false;
  for (int i = 0; i < j->n; i++) {
    n_private += j->teachers[i].is_private;
    has_ranks = has_ranks || (j->teachers[i].is_private && j->teachers[i].options->ranks.n);
  }
  if (!n_private) return st;
  TRY(mem_new(&j->bound, (size_t)size, sizeof *j->bound));
  for (int rank = 0; rank < size; rank++) j->bound[rank] = -1;
  TRY(has_ranks ? take_named(j, size, j->n - n_private) : take_ranges(j, size, n_private, j->n - n_private));
done:
  return st;
}

status private_check(int size, const mpistill_teachers *teachers) {
  status st = STATUS_OK;
  const mpistill_teach_options o = {.teachers = *teachers};
  teach_job j = {.o = &o};
  TRY(mem_new(&j.teachers, teachers->n, sizeof *j.teachers));
  for (size_t i = 0; i < teachers->n; i++)
    if (teachers->items[i].model) j.teachers[j.n++].options = &teachers->items[i];
  TRY(private_choose(&j));
  TRY(private_groups(&j, size));
done:
  mem_free(j.teachers);
  mem_free(j.bound);
  return st;
}

int private_reader(const teach_job *j, int i) {
  const int size = comm_size(j->c), whose = j->teachers[i].is_private ? i : -1;
  int n = 0, turn = 0;
  if (!j->bound) return i % size;
  for (int rank = 0; rank < size; rank++) n += j->bound[rank] == whose;
  for (int rank = 0; rank < size; rank++)
    if (j->bound[rank] == whose && turn++ == (whose < 0 ? i % n : 0)) return rank;
  return -1; /* there is always one */
}

/* ---- data of their own ---- */

static status measure(const teach_job *j, comm *group, const lesson *t) {
  status st = STATUS_OK;
  dataset *d = NULL;
  subject s = {0};
  score found = {0};
  const head_options head = teacher_head(t->options);
  const char *split_name = t->options->data_split ? t->options->data_split : "train";
  const model_source from = {
      .path = t->options->model, .pre = teach_preprocess(j->o, t->options), .heads = &head, .n_heads = 1};
  TRY(dataset_open(&d, group, t->data));
  TRY(subject_open_any(&s, group, &from, d, split_name, t->options->input));
  if (!t->options->classes.n) TRY(subject_order(&s, group, d));
  TRY(evaluate_rows(group, &s.k, s.block, d, s.sp, j->threads, false, &found));
  say(comm_rank(group) == 0 && !j->o->out.quiet,
      found.values ? "teacher '%s': mse %.4g, r2 %.4f on %.0f numbers of its own"
                   : "teacher '%s': accuracy %.4f, nll %.4f on %.0f rows of its own",
      t->options->name, found.values ? metric_mse(&found.sums) : metric_accuracy(&found.sums),
      found.values ? metric_r2(&found.sums) : metric_nll(&found.sums), found.sums.rows);
done:
  subject_close(&s);
  dataset_close(&d);
  return st;
}

status private_measure(teach_job *j) {
  status st = STATUS_OK, mine = STATUS_OK;
  comm *group = NULL;
  if (!j->bound) return st;
  const int teacher = j->bound[comm_rank(j->c)];
  TRY(comm_split(&group, j->c, teacher + 1));
  if (teacher >= 0 && j->teachers[teacher].data && !j->teachers[teacher].finished)
    mine = measure(j, group, &j->teachers[teacher]);
  TRY(comm_agree(j->c, mine));
done:
  comm_end(&group);
  return st;
}
