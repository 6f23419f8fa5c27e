/* What the outputs of a student are for: each task one output, an array of labels or targets, and the
 * soft-label files of its teachers. Without a list there is one task, at the only output. */
#ifndef MPISTILL_STAGES_TASKS_H
#define MPISTILL_STAGES_TASKS_H

#include "stages/predict.h"
#include "stages/sources.h"

enum { TASKS_MAX = CLASSIFIER_MAX_HEADS };

typedef struct task {
  const char *name; /* NULL: the one that has none */
  double weight;
  const mpistill_losses *losses; /* its own; NULL: those of the training options that are meant for it */
  bool values;                   /* numbers and targets, not logits and labels */
  const char *mask;              /* of its soft losses (mpistill_task); NULL: none */
  sources soft;                  /* n = 0: none */
  int tensor;                    /* of a rule that learns: among the student's inner tensors */
  int64_t width, spread;         /* its channels, and values of each */
} task;

typedef struct tasks {
  int n;
  task items[TASKS_MAX];
  head_options heads[TASKS_MAX]; /* of the student */
} tasks;

/* Collective. For training: with their soft-label files. tasks_close in any case. Strings and lists of o are
 * borrowed. STATUS_BAD_INPUT for arrays and tasks that are not there. */
status tasks_open(tasks *t, comm *c, const mpistill_train_options *o, dataset *d, const split *sp);
void tasks_close(tasks *t); /* collective */

/* Local. o's live teachers, in place of soft-label files: each of its task, for a student k. */
status tasks_ask(tasks *t, const mpistill_train_options *o, const classifier *k, const struct live *live);

/* Local. Confidence is a probability of a class: STATUS_BAD_INPUT where it is asked for (above 0) and no task
 * of classes is among those taught by soft labels. */
status tasks_check_confidence(const tasks *t, double confidence, const bool taught[TASKS_MAX]);

/* Local. The tensor that rules learn weights from becomes one of k's inner tensors. STATUS_BAD_INPUT when
 * there is no such tensor. */
status tasks_tap(tasks *t, classifier *k, const char *name);

/* Local. For measuring, without soft-label files. losses, NULL: none: what they are of tells what the outputs
 * are where the dataset does not. */
status tasks_describe(tasks *t, const mpistill_tasks *list, const mpistill_losses *losses, const dataset *d);

/* Local. A recipe's teacher, with what it does not say taken from its task; strings borrowed. */
mpistill_teacher tasks_teacher(const tasks *t, const mpistill_teacher *its);
int tasks_find(const tasks *t, const char *name); /* NULL: the first; -1: there is none of that name */

/* Local. The output that a teacher's logits or numbers come from. */
head_options teacher_head(const mpistill_teacher *t);

/* Local. Which task an item of soft_labels is of, -1: none, and its file. */
int tasks_of_file(const tasks *t, const char *item, const char **file);

#endif
