/* Rows that several tables of options take in. */
#ifndef MPISTILL_STAGES_OPTIONS_ROWS_H
#define MPISTILL_STAGES_OPTIONS_ROWS_H

#include "stages/options.h"

enum { THREADS_MAX = 1024 };

extern const option quiet_rows[]; /* of mpistill_output_options, as the five below */
extern const option json_rows[];
extern const option log_rows[];
extern const option force_rows[];
extern const option stall_rows[]; /* of commands that ranks work at together */
extern const option stop_rows[];  /* of commands that can go on */
#define OUT(options, rows)                                                                                   \
  { .type = OPTION_GROUP, .at = offsetof(options, out), .fields = rows }

extern const option training_rows[];      /* of mpistill_train_options: what train and distill share */
extern const option task_fields[];        /* of mpistill_task */
extern const option tasks_rows[];         /* of mpistill_tasks */
extern const option soft_rows[];          /* of the same: soft labels */
extern const option preprocess_fields[];  /* of mpistill_preprocess */
extern const option teacher_fields[];     /* of mpistill_teacher */
extern const option loss_fields[];        /* of mpistill_loss */
extern const option feature_fields[];     /* of mpistill_feature */
extern const option feature_rows[];       /* of mpistill_train_options: losses between inner tensors */
extern const option augment_fields[];     /* of mpistill_augment */
extern const option augment_rows[];       /* of mpistill_train_options: changes of the rows */
extern const option live_option_rows[];   /* of mpistill_train_options: live teachers */
extern const option teach_augment_rows[]; /* of mpistill_teach_options */

/* STATUS_BAD_INPUT: "loss 'kd' has no alpha (its options: ...)". */
status loss_refuse_option(const char *kind, const char *key);
/* The same of a loss between inner tensors. */
status feature_refuse_option(const char *kind, const char *key);
/* "NAME=FILE[:KEY=VALUE...]", or "FILE...": the name is the file's without folder and ".onnx". item: an
 * mpistill_teacher. */
status parse_teacher(const char *text, void *item);
/* The same of an augmentation that there is. */
status augment_refuse_option(const char *kind, const char *key);
/* A list as views_text writes it; augments_free in any case. */
status augments_parse(const char *text, mpistill_augments *out);
void augments_free(mpistill_augments *list);

/* CHOICE names from the tables of other layers. */
const char *combine_choice(int i);
const char *model_choice(int i);
const char *dtype_choice(int i);
const char *axis_choice(int i);

#endif
