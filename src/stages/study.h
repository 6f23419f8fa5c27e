/* One task in training: an output of the student, its losses, and the labels and teachers they read. */
#ifndef MPISTILL_STAGES_STUDY_H
#define MPISTILL_STAGES_STUDY_H

#include "stages/objective.h"
#include "stages/views.h"

typedef struct study {
  const task *t;
  const head *h;
  int tap; /* of the student's plans */
  objective goal;
  truth labels;
  const views *seen;
  augment_shape planes;  /* of a row's labels, where they move with the image; values 0: they do not */
  augment_shape fixed;   /* the same of soft labels, where those of the image as it is are moved */
  int tensor;            /* of the plans, for a rule that learns */
  int64_t first_learned; /* what it learns beside the student, among that of all tasks */
} study;

/* Collective. Everything is checked here. t, k, d, sp, seen are borrowed; study_close in any case. */
status study_open(study *s, comm *c, const mpistill_train_options *o, task *t, const classifier *k, int tap,
                  dataset *d, const split *sp, const views *seen);
void study_close(study *s); /* collective */

/* Local. The rows (positions) of a global batch that means are over: all, and those with a label, or mixed
 * with such; labelled 0 where labels move (study_count_moved). */
void study_count(const study *s, int64_t epoch, const int64_t *ids, int64_t n, int64_t *rows,
                 int64_t *labelled);

/* Local, any thread. Labels that move are counted as they lie in the view, which takes reading them: adds
 * those of rows ids[0..n), nothing where none move. */
status study_count_moved(const study *s, int64_t epoch, const int64_t *ids, int64_t n, int64_t *labelled);

/* What one thread works with, for shards of up to a number of samples. */
typedef struct study_desk {
  int32_t *labels;
  float *targets;
  float *logits, *gradient; /* matrices, NULL: the tensors are */
  float *teachers;          /* [n_teachers, rows, C] */
  float *raw;               /* [rows, C] */
  float *combined;          /* [rows, C] the combination for one temperature */
  float *scratch;           /* for the losses */
  float *features;          /* [samples, width], for a rule that learns */
  int64_t *row_ids;
  int32_t *mask_room; /* [positions] */
  float *moving;      /* [3, positions] */
  int32_t *origin;    /* [positions] where what lies there now came from, -1: from outside */
  mixing mixed;
} study_desk;

status study_desk_new(study_desk *w, const study *s, int64_t samples);
void study_desk_clear(study_desk *w);
/* Local. Labels and teachers of samples ids[0..n), whose soft labels lie in rows `stored`. */
status study_read(const study *s, study_desk *w, int64_t epoch, const int64_t *ids, const int64_t *stored,
                  int64_t n);

/* A shard of a global batch. */
typedef struct study_shard {
  const int64_t *ids; /* [n] */
  int64_t n;
  int64_t batch_rows, batch_labelled; /* study_count of the whole batch */
  double progress;
  uint64_t seed, step;
  const float *learned; /* of this task */
  float *learned_gradient;
} study_shard;

/* Local. parts[goal.n] of a shard that was run forward; the gradient of the weighted sum goes into that of
 * the plan's tap. */
status study_evaluate(const study *s, study_desk *w, const study_shard *shard, const plan *p, double *parts);

#endif
