#include "stages/run_chain.h"

#include "base/mem.h"
#include "learn/loss.h"
#include "models/models.h"

#include <string.h>

/* Whether the losses of a task read soft labels, as those do that need not be listed. */
static bool reads_soft(const mpistill_losses *losses, const task *x) {
  bool usual = true;
  if (x->losses) losses = x->losses;
  for (size_t i = 0; i < losses->n; i++) {
    const mpistill_loss *l = &losses->items[i];
    const loss_kind *k = loss_find(l->kind);
    if (l->task && x->name && strcmp(l->task, x->name)) continue;
    if (k && k->needs_soft) return true;
    usual = false;
  }
  return usual;
}

static bool is_taught(const mpistill_recipe *r, const tasks *work, int task) {
  bool taught = !r->teachers.n;
  for (size_t i = 0; i < r->teachers.n; i++)
    taught = taught || tasks_find(work, r->teachers.items[i].task) == task;
  return taught && reads_soft(&r->distill.losses, &work->items[task]);
}

static status add_lessons(chain_step *s, const mpistill_recipe *r, const tasks *work) {
  status st = STATUS_OK;
  for (int i = 0; i < work->n; i++) {
    if (!is_taught(r, work, i)) continue;
    chain_lesson *x = &s->lessons[s->n_lessons++];
    x->task = i;
    if (work->n > 1)
      TRY(mem_format(&x->name, "%s.%s", s->name, work->items[i].name));
    else
      TRY(mem_string(&x->name, s->name));
    TRY(mem_format(&x->labels, "%s/soft/%s.h5", r->output, x->name));
  }
done:
  return st;
}

static status name_paths(chain_step *s, const mpistill_recipe *r) {
  status st = STATUS_OK;
  TRY(mem_format(&s->output, "%s/%s.onnx", r->output, s->name));
  TRY(mem_format(&s->checkpoint, "%s/checkpoint/%s", r->output, s->name));
done:
  return st;
}

static status make_model(chain_step *s, const char *model, const mpistill_create_options *create) {
  status st = STATUS_OK;
  mpistill_create_options o = *create;
  size_t n;
  s->source.path = model;
  if (model) goto done;
  o.seed = s->seed;
  TRY(model_create_bytes(&o, &s->bytes, &n));
  s->source = (model_source){.path = s->name, .bytes = s->bytes, .n = n};
done:
  return st;
}

static status add_assistant(chain *k, const mpistill_recipe *r, const tasks *work,
                            const mpistill_assistant *a) {
  status st = STATUS_OK;
  chain_step *s = &k->steps[k->n++];
  *s =
      (chain_step){.kind = "assistant", .epochs = a->epochs ? a->epochs : r->distill.epochs, .seed = r->seed};
  TRY(mem_string(&s->name, a->name));
  TRY(name_paths(s, r));
  TRY(add_lessons(s, r, work));
  TRY(make_model(s, a->model, &a->create));
done:
  return st;
}

static status add_generation(chain *k, const mpistill_recipe *r, const tasks *work, int64_t generation) {
  status st = STATUS_OK;
  chain_step *s = &k->steps[k->n++];
  const bool last = generation == r->generations;
  *s = (chain_step){.kind = last ? "student" : "generation",
                    .epochs = r->distill.epochs,
                    .seed = r->seed + (uint64_t)(generation - 1)};
  if (last)
    TRY(mem_string(&s->name, "student"));
  else
    TRY(mem_format(&s->name, "generation-%lld", (long long)generation));
  TRY(name_paths(s, r));
  if (!last) TRY(add_lessons(s, r, work));
  TRY(make_model(s, r->student.model, &r->student.create));
done:
  return st;
}

status chain_make(chain *out, const mpistill_recipe *r, const tasks *work) {
  status st = STATUS_OK;
  *out = (chain){0};
  TRY(mem_new(&out->steps, r->assistants.n + (size_t)r->generations, sizeof *out->steps));
  for (size_t i = 0; i < r->assistants.n; i++) TRY(add_assistant(out, r, work, &r->assistants.items[i]));
  for (int64_t i = 1; i <= r->generations; i++) TRY(add_generation(out, r, work, i));
done:
  return st;
}

void chain_free(chain *k) {
  for (int i = 0; i < k->n; i++) {
    chain_step *s = &k->steps[i];
    mem_free(s->name);
    mem_free(s->output);
    mem_free(s->checkpoint);
    for (int t = 0; t < s->n_lessons; t++) {
      mem_free(s->lessons[t].name);
      mem_free(s->lessons[t].labels);
    }
    mem_free(s->bytes);
  }
  mem_free(k->steps);
  *k = (chain){0};
}
