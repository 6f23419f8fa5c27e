/* The library's calls: checked options, then the stage. */
#include "mpistill/mpistill.h"

#include "base/mem.h"
#include "stages/options_rows.h"
#include "stages/rules.h"
#include "stages/stages.h"

#include <pthread.h>
#include <string.h>

struct mpistill {
  comm *c;
};

static const options_seen nothing_seen;

int mpistill_open(mpistill **out, const void *parent_comm) {
  status st = mem_new(out, 1, sizeof **out);
  MPI_Comm parent;
  if (st) return st;
  memcpy(&parent, parent_comm, sizeof parent);
  st = comm_from(&(*out)->c, parent);
  if (st) mpistill_close(out);
  return st;
}

void mpistill_close(mpistill **m) {
  if (!*m) return;
  comm_end(&(*m)->c);
  mem_free(*m);
  *m = NULL;
}

int mpistill_train(mpistill *m, const mpistill_train_options *o) {
  status st = STATUS_OK;
  mpistill_train_options own = *o;
  mpistill_loss *losses = NULL; /* the rules fill temperatures in: not in the caller's */
  bool has_soft = o->soft_labels.n > 0 || o->live_teachers.n > 0;
  TRY(comm_agree(m->c, mem_new(&losses, o->losses.n, sizeof *losses)));
  if (o->losses.n) memcpy(losses, o->losses.items, o->losses.n * sizeof *losses);
  own.losses.items = losses;
  TRY(comm_agree(m->c, options_check(has_soft ? distill_option_rows : train_option_rows, &own)));
  TRY(comm_agree(m->c, train_rules(&own, &nothing_seen, has_soft)));
  TRY(stage_train(m->c, &own));
done:
  mem_free(losses);
  return st;
}

int mpistill_teach(mpistill *m, const mpistill_teach_options *o) {
  status st = STATUS_OK;
  TRY(comm_agree(m->c, options_check(teach_option_rows, o)));
  TRY(comm_agree(m->c, teach_rules(o)));
  TRY(stage_teach(m->c, o));
done:
  return st;
}

int mpistill_aggregate(mpistill *m, const mpistill_aggregate_options *o) {
  status st = STATUS_OK;
  TRY(comm_agree(m->c, options_check(aggregate_option_rows, o)));
  TRY(comm_agree(m->c, aggregate_rules(o, &nothing_seen)));
  TRY(stage_aggregate(m->c, o));
done:
  return st;
}

int mpistill_evaluate(mpistill *m, const mpistill_evaluate_options *o, mpistill_evaluation *result) {
  status st = STATUS_OK;
  TRY(comm_agree(m->c, options_check(evaluate_option_rows, o)));
  TRY(stage_evaluate(m->c, o, result));
done:
  return st;
}

int mpistill_run(mpistill *m, const mpistill_run_options *o) {
  status st = STATUS_OK;
  if (!o->recipe) THROW(STATUS_BAD_INPUT, "recipe: is needed");
  TRY(stage_run(m->c, o));
done:
  return st;
}

int mpistill_create(const mpistill_create_options *o) {
  status st = STATUS_OK;
  TRY(options_check(create_option_rows, o));
  TRY(stage_create(o));
done:
  return st;
}

int mpistill_import(const mpistill_import_options *o) {
  status st = STATUS_OK;
  TRY(options_check(import_option_rows, o));
  TRY(stage_import(o));
done:
  return st;
}

/* Made once and never freed: callers get copies whose strings stay valid. Without memory for these few words
 * the fields stay empty, which every call refuses by name. */
static struct {
  mpistill_train_options train;
  mpistill_teach_options teach;
  mpistill_aggregate_options aggregate;
  mpistill_evaluate_options evaluate;
  mpistill_create_options create;
  mpistill_import_options import;
} defaults;
static pthread_once_t defaults_made = PTHREAD_ONCE_INIT;

static void make(const option *rows, void *o) {
  if (options_defaults(rows, o)) options_free(rows, o);
}

static void make_defaults(void) {
  make(distill_option_rows, &defaults.train);
  make(teach_option_rows, &defaults.teach);
  make(aggregate_option_rows, &defaults.aggregate);
  make(evaluate_option_rows, &defaults.evaluate);
  make(create_option_rows, &defaults.create);
  make(import_option_rows, &defaults.import);
}

void mpistill_train_defaults(mpistill_train_options *o) {
  pthread_once(&defaults_made, make_defaults);
  *o = defaults.train;
}

void mpistill_loss_defaults(mpistill_loss *l) {
  if (options_defaults(loss_fields, l)) *l = (mpistill_loss){0};
}

void mpistill_task_defaults(mpistill_task *t) {
  if (options_defaults(task_fields, t)) *t = (mpistill_task){0};
}

void mpistill_feature_defaults(mpistill_feature *f) {
  if (options_defaults(feature_fields, f)) *f = (mpistill_feature){0};
}

void mpistill_teach_defaults(mpistill_teach_options *o) {
  pthread_once(&defaults_made, make_defaults);
  *o = defaults.teach;
}

void mpistill_aggregate_defaults(mpistill_aggregate_options *o) {
  pthread_once(&defaults_made, make_defaults);
  *o = defaults.aggregate;
}

void mpistill_evaluate_defaults(mpistill_evaluate_options *o) {
  pthread_once(&defaults_made, make_defaults);
  *o = defaults.evaluate;
}

void mpistill_create_defaults(mpistill_create_options *o) {
  pthread_once(&defaults_made, make_defaults);
  *o = defaults.create;
}

void mpistill_import_defaults(mpistill_import_options *o) {
  pthread_once(&defaults_made, make_defaults);
  *o = defaults.import;
}

const char *mpistill_message(void) {
  return status_message();
}

const char *mpistill_version(void) {
  return MPISTILL_VERSION;
}
