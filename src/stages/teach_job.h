/* What the parts of `teach` share. */
#ifndef MPISTILL_STAGES_TEACH_JOB_H
#define MPISTILL_STAGES_TEACH_JOB_H

#include "base/lock.h"
#include "base/log.h"
#include "base/progress.h"
#include "comm/queue.h"
#include "stages/predict.h"
#include "stages/watch.h"
#include "stages/weights.h"
#include "store/softlabels.h"

typedef struct facts { /* what every rank must know of a teacher; integers, so that they can be summed over
                          ranks */
  int64_t work, hash, batch_rows, n_floats;
  int64_t classes, positions, rank, dims[ARRAY_MAX_RANK]; /* of its output: as the file has them */
  int64_t inputs[CLASSIFIER_MAX_INPUTS]; /* its arrays' places in the split, from 1 on; 0: no more */
  int64_t probabilities;                 /* 1: they become log-probabilities */
  int64_t tap_rank[SOFTLABELS_MAX_FEATURES], tap_dims[SOFTLABELS_MAX_FEATURES][ARRAY_MAX_RANK];
} facts;

typedef struct lesson { /* one teacher and its file */
  const mpistill_teacher *options;
  int n_taps;
  const char *taps[SOFTLABELS_MAX_FEATURES]; /* in the order of the file */
  const array *inputs[CLASSIFIER_MAX_INPUTS];
  feed feed; /* of the job's arrays */
  augmenter augment;
  bool is_private;  /* see private.h */
  const char *data; /* its own, to be measured on; NULL: none */
  facts f;
  char *path;
  softlabels_header header;
  softlabels *file; /* NULL: finished before */
  bool finished;
} lesson;

typedef struct teach_job {
  comm *c;
  const mpistill_teach_options *o;
  int threads;
  dataset *d;
  const split *sp;
  char hash[HASH_TEXT_BYTES], reading[HASH_TEXT_BYTES];
  int64_t rows;  /* of the split, times views */
  char *augment; /* as text */
  int n;
  lesson *teachers;
  int *bound;    /* [ranks] the private teacher whose files a rank opens alone, -1: those of all others; NULL:
                    none is private */
  rows **arrays; /* [sp->n_inputs] those that some teacher reads */
  weights *weights; /* of all teachers, once a node; NULL: each rank has its own */
  queue *q;
  /* The teacher this rank holds: */
  int held;
  model *m;
  float *block; /* its own; NULL: that of the node */
  classifier k;
  predictor *p;
  float *logits, *turned; /* of a block, positions first; classes first, NULL: the same */
  float *features[SOFTLABELS_MAX_FEATURES];
  progress bar;
  watch seen;
  run_log *log;
  lock *lock;
  bool makes_folder; /* the output's, on rank 0 */
} teach_job;

/* Local. The teachers to ask, with their taps. */
status teach_choose(teach_job *j);
/* Collective. Each model is read by one rank, of its own where it is private, which tells the others;
 * STATUS_BAD_INPUT for those that cannot teach. */
status teach_share_facts(teach_job *j);
/* Local. Classes that are listed belong to the model's outputs in that order, whatever it says itself. */
status teach_check_classes(const teach_job *j, const lesson *t, classifier *k);
/* Local. f: what the taps are goes there; NULL where it is known. */
status teach_bind_taps(const lesson *t, classifier *k, facts *f);

/* Local. STATUS_BAD_INPUT for a teacher whose k largest logits cannot be stored alone; k 0: all are. */
status teach_check_top_k(int64_t k, const char *teacher, bool values, int64_t classes);

#endif
