/* What the rules of single stages (rules.c) lend to those of recipes (recipe_rules.c). */
#ifndef MPISTILL_STAGES_RULES_PRIVATE_H
#define MPISTILL_STAGES_RULES_PRIVATE_H

#include "base/options.h"
#include "base/problems.h"

/* Local, all of them: what is wrong is added to p. */

void rules_train(mpistill_train_options *o, const options_seen *seen, bool has_soft, problems *p);
void rules_teachers(const mpistill_teachers *t, problems *p);
/* Which task a teacher is of must be told where there are several. where: what lists them. */
void rules_task_teachers(const mpistill_teachers *teachers, const mpistill_tasks *tasks, const char *where,
                         problems *p);
/* n: the teachers to combine, what: what they are in words. */
void rules_aggregate(const mpistill_aggregate_options *o, const options_seen *seen, size_t n,
                     const char *what, bool has_dataset, problems *p);
void rules_create(const mpistill_create_options *o, const options_seen *seen, problems *p);
void rules_file_name(const char *what, const char *name, problems *p);

#endif
