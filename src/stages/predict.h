/* A classifier at work: a model bound to input arrays, giving logits, or numbers, for rows of a dataset.
 * Shared by teach, evaluate and train. */
#ifndef MPISTILL_STAGES_PREDICT_H
#define MPISTILL_STAGES_PREDICT_H

#include "graph/plan.h"
#include "learn/augment.h"
#include "onnx/model.h"
#include "stages/head.h"
#include "stages/preprocess.h"
#include "store/dataset.h"

enum { CLASSIFIER_MAX_INNER = 64, CLASSIFIER_MAX_INPUTS = 8, CLASSIFIER_MAX_HEADS = 8 };

/* Which values of a model hold its logits, and how arrays of a dataset fit its inputs. */
typedef struct classifier {
  const graph *g;
  const char *path; /* of the model, for messages; borrowed */
  int n_heads;
  head heads[CLASSIFIER_MAX_HEADS]; /* the outputs that were chosen */
  int n_inputs;
  shape inputs[CLASSIFIER_MAX_INPUTS];        /* of one batch: dims[0] = -1 */
  const array *arrays[CLASSIFIER_MAX_INPUTS]; /* of the dataset, that they read; borrowed */
  preprocess pre;                             /* of a model of one input */
  int64_t work;                               /* multiply-adds and numbers written for one row */
  int n_inner; /* further values that plans keep readable: plan_tap(p, n_heads + i) */
  int inner[CLASSIFIER_MAX_INNER];
  const bool *frozen; /* of training plans (plan.h), borrowed; NULL: nothing is */
} classifier;

/* Local. The arrays of sp that the model's inputs read: by the input's name; for a model of one input the one
 * named, else the only one there is, else the one of its name. STATUS_BAD_INPUT where there are none. */
status classifier_arrays(const model *m, const dataset *d, const split *sp, const char *name,
                         const array *arrays[CLASSIFIER_MAX_INPUTS]);

/* Local. heads[n_heads] (n_heads 0: the one output there is) are the outputs to take. STATUS_BAD_INPUT when
 * the model has none of that name, or not one that could be meant, or when an input does not take the rows of
 * its array: an input [N, D] takes any array of D values a row, in row-major order; inputs are floats, or
 * int32 and int64 for arrays of integers. `pre`, NULL: nothing, says what is made of the array's rows first;
 * the model may then take uint8, int8 or int32 as well. */
status classifier_bind(classifier *k, const model *m, const array *const *arrays,
                       const mpistill_preprocess *pre, const char *dataset_path, const head_options *heads,
                       int n_heads);
/* Local. Adds an inner tensor of floats [rows, ...] by its name to k->inner; *place is its index there (an
 * older one for a name that was added before), *s its shape, dims[0] = -1. STATUS_BAD_INPUT when the model
 * has no such tensor, with the nearest name. */
status classifier_tap(classifier *k, const char *name, int *place, shape *s);

/* Local. What owns memory in k. */
void classifier_clear(classifier *k);

/* Local. Puts the model's path before the message of a failure; returns st. */
status classifier_name(const classifier *k, status st);

/* Local. classifier_bind's plan options for a batch of `rows`: reads head i with plan_tap(p, i). */
status classifier_plan(plan **out, const classifier *k, int64_t rows, bool training, arena *arena);
/* Local. For training; late: [k->g->n_values], see plan_late. */
status classifier_plan_late(plan **out, const classifier *k, int64_t rows, const bool *late, arena *arena);

/* Where a classifier's inputs come from: rows of the arrays of a split. */
typedef struct feed {
  rows *rows[CLASSIFIER_MAX_INPUTS];
  const augmenter *augment; /* of rows in views, borrowed; NULL or n 0: rows are read as they are */
} feed;
/* Collective. The arrays of sp, which may be another split than k was bound to, by the names k->arrays have.
 */
status feed_open(feed *f, const classifier *k, dataset *d, const split *sp);
void feed_close(feed *f); /* collective */
/* Local, any thread. Rows ids[0..n) into the inputs of a plan of n rows. */
status feed_read(const feed *f, const classifier *k, const int64_t *ids, int64_t n, const plan *p);
/* The same where f->augment changes rows: row r in view v is seen as v * rows + r. scratch:
 * [augmenter_scratch]. */
status feed_read_views(const feed *f, const classifier *k, const int64_t *seen, int64_t n, const plan *p,
                       float *scratch);

/* Plans of one classifier, one a thread, for batches of one size: the last of a call is filled up. So what a
 * row gives does not depend on the rows beside it (but for models that look across rows, as those that
 * quantise dynamically do). */
typedef struct predictor predictor;
/* Local. block: float[g->n_block], borrowed until predictor_free. batch_rows: rows of every forward pass. */
status predictor_new(predictor **out, const classifier *k, const float *block, int64_t batch_rows,
                     int threads);
/* Local. For rows in views: what the augmentation needs. */
status predictor_see(predictor *p, const augmenter *a);
void predictor_free(predictor **p);
/* The values in the block have changed. */
void predictor_touch(predictor *p);

/* Local. heads[k->n_heads], each the matrix [n * positions, C] of rows from..from+n of `input` (as
 * feed_read_views counts them), in batches of batch_rows counted from `from`, classes in the dataset's order;
 * and inner[k->n_inner] of [n, ...], the classifier's inner tensors (NULL: none). `idle`, if any, is called
 * by the calling thread between batches (to answer other ranks). */
status predictor_run(predictor *p, const feed *input, int64_t from, int64_t n, float *const *heads,
                     float *const *inner, status (*idle)(void *), void *idle_data);

/* Local. The same of rows in any order: seen[n]. */
status predictor_rows(predictor *p, const feed *input, const int64_t *seen, int64_t n, float *const *heads,
                      float *const *inner);

/* The batch of a forward pass by the model's cost alone: the same on every machine and rank count. */
int64_t predict_batch_rows(const classifier *k);

/* Rows of a unit of work whose metrics are added as one: fixed, so that sums do not depend on ranks. */
enum { PREDICT_BLOCK_BATCHES = 4 };

#endif
