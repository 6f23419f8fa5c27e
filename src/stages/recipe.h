/* Recipes: one YAML file for a whole run. */
#ifndef MPISTILL_STAGES_RECIPE_H
#define MPISTILL_STAGES_RECIPE_H

#include "comm/comm.h"
#include "mpistill/mpistill.h"

/* Collective. Rank 0 reads the file, every rank parses the same bytes, then the "key=value" settings. Paths
 * of the file become relative to the working directory. What stages share is handed down: seed to
 * student.create, teach, aggregate and distill, threads to teach and distill, the first kd temperature to
 * aggregate unless that has its own. STATUS_BAD_INPUT lists every problem with its line. recipe_free in any
 * case. */
status recipe_read(comm *c, const char *path, const mpistill_strings *set, mpistill_recipe *out);
/* Local. The temperature an ensemble is made for: that of the first loss of the task that softens logits;
 * own: the losses that the task lists, NULL or empty: those of o that are meant for it. With tasks
 * aggregate.temperature is 0 where the recipe does not give it. */
double recipe_temperature(const mpistill_train_options *o, const mpistill_losses *own, const char *task);
/* Local. */
void recipe_free(mpistill_recipe *r);

#endif
