#include "stages/run_chain.h"

#include "base/mem.h"
#include "models/models.h"

static status name_paths(chain_step *s, const mpistill_recipe *r, bool teaches) {
  status st = STATUS_OK;
  TRY(mem_format(&s->output, "%s/%s.onnx", r->output, s->name));
  TRY(mem_format(&s->checkpoint, "%s/checkpoint/%s", r->output, s->name));
  if (teaches) TRY(mem_format(&s->labels, "%s/soft/%s.h5", r->output, s->name));
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

static status add_assistant(chain *k, const mpistill_recipe *r, const mpistill_assistant *a) {
  status st = STATUS_OK;
  chain_step *s = &k->steps[k->n++];
  *s =
      (chain_step){.kind = "assistant", .epochs = a->epochs ? a->epochs : r->distill.epochs, .seed = r->seed};
  TRY(mem_string(&s->name, a->name));
  TRY(name_paths(s, r, true));
  TRY(make_model(s, a->model, &a->create));
done:
  return st;
}

static status add_generation(chain *k, const mpistill_recipe *r, int64_t generation) {
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
  TRY(name_paths(s, r, !last));
  TRY(make_model(s, r->student.model, &r->student.create));
done:
  return st;
}

status chain_make(chain *out, const mpistill_recipe *r) {
  status st = STATUS_OK;
  *out = (chain){0};
  TRY(mem_new(&out->steps, r->assistants.n + (size_t)r->generations, sizeof *out->steps));
  for (size_t i = 0; i < r->assistants.n; i++) TRY(add_assistant(out, r, &r->assistants.items[i]));
  for (int64_t i = 1; i <= r->generations; i++) TRY(add_generation(out, r, i));
done:
  return st;
}

void chain_free(chain *k) {
  for (int i = 0; i < k->n; i++) {
    chain_step *s = &k->steps[i];
    mem_free(s->name);
    mem_free(s->output);
    mem_free(s->checkpoint);
    mem_free(s->labels);
    mem_free(s->bytes);
  }
  mem_free(k->steps);
  *k = (chain){0};
}
