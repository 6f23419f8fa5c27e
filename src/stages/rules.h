/* Rules across options: what no single row can say. The command line, recipes and the library's calls obey
 * the same ones. */
#ifndef MPISTILL_STAGES_RULES_H
#define MPISTILL_STAGES_RULES_H

#include "base/options.h"

/* Local, all of them. STATUS_BAD_INPUT listing every problem. seen: what was given and where (empty: a
 * program's own options). */

/* has_soft: soft labels are given, or will be made by the recipe. Gives kd losses without a temperature that
 * of o. */
status train_rules(mpistill_train_options *o, const options_seen *seen, bool has_soft);
/* The names of teachers become names of files; each has a model. */
status teach_rules(const mpistill_teach_options *o);
/* What the method needs is there, options that it does not read are refused. */
status aggregate_rules(const mpistill_aggregate_options *o, const options_seen *seen);
/* Options that the kind of model does not read are refused. */
status create_rules(const mpistill_create_options *o, const options_seen *seen);
/* The whole recipe, with the rules above. */
status recipe_rules(mpistill_recipe *r, const options_seen *seen);

#endif
