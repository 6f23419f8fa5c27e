/* The option rows of every stage: the command line, recipes and the library's defaults read the same ones. */
#ifndef MPISTILL_STAGES_OPTIONS_H
#define MPISTILL_STAGES_OPTIONS_H

#include "base/options.h"

extern const option train_option_rows[];     /* mpistill_train_options, no soft labels */
extern const option distill_option_rows[];   /* mpistill_train_options */
extern const option teach_option_rows[];     /* mpistill_teach_options */
extern const option aggregate_option_rows[]; /* mpistill_aggregate_options; inputs are arguments */
extern const option evaluate_option_rows[];  /* mpistill_evaluate_options */
extern const option
    create_option_rows[]; /* mpistill_create_options; the kind is an argument, or the key "create" */
extern const option import_option_rows[]; /* mpistill_import_options; format and sources are arguments */
extern const option run_option_rows[];    /* mpistill_run_options; the recipe is an argument */
extern const option recipe_option_rows[]; /* mpistill_recipe */

#endif
