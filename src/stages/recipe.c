#include "stages/recipe.h"

#include "base/file.h"
#include "base/mem.h"
#include "learn/loss.h"
#include "stages/options.h"
#include "stages/rules.h"

#include <string.h>

double recipe_temperature(const mpistill_train_options *o, const mpistill_losses *own, const char *task) {
  const mpistill_losses *list = own && own->n ? own : &o->losses;
  for (size_t i = 0; i < list->n; i++) {
    const mpistill_loss *l = &list->items[i];
    const loss_kind *k = loss_find(l->kind);
    if (l->task && task && strcmp(l->task, task)) continue;
    if (k && k->needs_soft && !k->of_values) return loss_temperature(l, 0);
  }
  return o->temperature;
}

static void hand_down(mpistill_recipe *r) {
  r->student.create.seed = r->seed;
  r->distill.seed = r->seed;
  r->aggregate.seed = r->seed;
  r->teach.seed = r->seed;
  r->distill.threads = r->threads;
  r->teach.threads = r->threads;
}

static void choose_temperature(mpistill_recipe *r, const options_seen *seen) {
  if (!options_given(seen, &r->aggregate.temperature))
    r->aggregate.temperature = r->distill.tasks.n ? 0 : recipe_temperature(&r->distill, NULL, NULL);
}

static status parse(const char *path, const unsigned char *text, size_t n, const mpistill_strings *set,
                    mpistill_recipe *out) {
  status st = STATUS_OK;
  options_seen seen = {0};
  char *folder = NULL;
  TRY(file_folder(&folder, path));
  TRY(options_recipe(recipe_option_rows, out, path, (const char *)text, n, folder, set, &seen));
  hand_down(out);
  st = recipe_rules(out, &seen);
  if (st == STATUS_BAD_INPUT) {
    char *problems;
    TRY(mem_string(&problems, status_message()));
    st = status_set(STATUS_BAD_INPUT, "%s: cannot be followed:\n%s", path, problems);
    mem_free(problems);
  }
  if (!st) choose_temperature(out, &seen);
done:
  mem_free(folder);
  options_seen_free(&seen);
  return st;
}

status recipe_read(comm *c, const char *path, const mpistill_strings *set, mpistill_recipe *out) {
  status st = STATUS_OK;
  unsigned char *text = NULL;
  size_t n;
  memset(out, 0, sizeof *out);
  TRY(comm_agree(c, options_defaults(recipe_option_rows, out)));
  TRY(comm_read_file(c, path, &text, &n));
  TRY(comm_agree(c, parse(path, text, n, set, out)));
done:
  mem_free(text);
  return st;
}

void recipe_free(mpistill_recipe *r) {
  options_free(recipe_option_rows, r);
  memset(r, 0, sizeof *r);
}
