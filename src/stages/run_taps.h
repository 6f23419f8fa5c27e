/* Which inner tensors the teachers of a recipe store, or compute where they are live. */
#ifndef MPISTILL_STAGES_RUN_TAPS_H
#define MPISTILL_STAGES_RUN_TAPS_H

#include "mpistill/mpistill.h"
#include "stages/tasks.h"

/* Local, all of them. */

/* Those its losses read, and, of one that stores them, those the recipe lists for it; strings_free. */
status run_taps(const mpistill_recipe *r, const mpistill_teacher *t, mpistill_strings *taps);
/* The teachers with those taps, or without any: for rows that the student does not learn from. Strings are
 * the recipe's. What a teacher's output is, where the recipe leaves it to its task, is that of `work`. */
status run_teachers(const mpistill_recipe *r, const tasks *work, bool with, mpistill_teachers *out);
void run_teachers_free(mpistill_teachers *t);

/* STATUS_BAD_INPUT when the model has no such tensor; when the student has not one that a loss reads. */
status run_check_tap(classifier *k, const char *name);
status run_check_student(const mpistill_recipe *r, classifier *k);

#endif
