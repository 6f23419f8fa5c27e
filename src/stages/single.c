/* The stages that one process does alone, without MPI. */
#include "import/import.h"
#include "models/models.h"
#include "stages/stages.h"

status stage_import(const mpistill_import_options *o) {
  return import_run(o);
}

status stage_create(const mpistill_create_options *o) {
  return model_create(o);
}
