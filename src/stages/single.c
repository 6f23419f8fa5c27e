/* The stages that one process does alone, without MPI. */
#include "base/file.h"
#include "base/options.h"
#include "base/progress.h"
#include "import/import.h"
#include "models/models.h"
#include "stages/common.h"
#include "stages/stages.h"

static status import_inputs(const mpistill_import_options *o, json_t **out) {
  status st = STATUS_OK;
  mpistill_strings hashes = {0};
  *out = NULL;
  TRY(import_hashes(o, &hashes));
  if (!hashes.n) goto done;
  json_t *sources = json_array();
  for (size_t i = 0; i < hashes.n; i++) json_array_append_new(sources, json_string(hashes.items[i]));
  *out =
      json_pack("{s:s, s:s?, s:o, s:s?, s:b, s:b, s:s?, s:s?, s:s?}", "command", "import", "format",
                o->format, "sources", sources, "label_column", o->label_column, "categorical", o->categorical,
                "standardize", o->standardize, "name", o->name, "source", o->source, "licence", o->licence);
  if (!*out) THROW(STATUS_FAILED, "out of memory: the inputs of %s could not be listed", o->output);
done:
  strings_free(&hashes);
  return st;
}

/* Files that can be read but once cannot be hashed before: then there is no mark. */
status stage_import(const mpistill_import_options *o) {
  status st = STATUS_OK;
  comm *c = NULL;
  lock *lock = NULL;
  json_t *inputs = NULL;
  mark found;
  if (!o->output) return import_run(o); /* which says so */
  TRY(comm_alone(&c));
  TRY(stage_lock(c, &lock, o->output, &o->out));
  TRY(import_inputs(o, &inputs));
  if (!inputs) {
    TRY(import_run(o));
    goto done;
  }
  TRY(mark_check(c, o->output, NULL, inputs, o->out.force, &found));
  if (found == MARK_DONE && stage_keeps_done(&o->out)) {
    stage_tell_done(c, o->output, &o->out, "");
    goto done;
  }
  TRY(import_prepare(o));
  TRY(mark_commit(o->output, NULL, inputs));
done:
  json_decref(inputs);
  lock_release(&lock);
  comm_end(&c);
  return st;
}

status stage_create(const mpistill_create_options *o) {
  status st = STATUS_OK;
  if (o->output && !o->out.force) {
    TRY(file_check_writable(o->output));
    if (file_exists(o->output))
      THROW(STATUS_BAD_INPUT, "%s: exists; use another output or --force", o->output);
  }
  TRY(model_create(o));
done:
  return st;
}
