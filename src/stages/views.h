/* The views of its rows that a student is trained on (learn/augment.h), and whether soft labels are of the
 * same. Where there is no augmentation rows are what they are in the dataset. */
#ifndef MPISTILL_STAGES_VIEWS_H
#define MPISTILL_STAGES_VIEWS_H

#include "learn/augment.h"
#include "learn/loss_mixed.h"
#include "stages/features.h"
#include "stages/tasks.h"

typedef struct views {
  augmenter augment; /* n 0: none */
  int64_t rows;      /* of the split */
  int64_t stored;    /* views that the soft labels are of; 0: they are of the rows as they are, or live */
  bool fixed;        /* soft labels are of the rows as they are: those of mixed rows are mixed, too */
} views;

/* Local. "shift:pixels=2 flip:probability=0.5": the same text for what does the same; "" for nothing. The
 * caller's (mem_free). */
status views_text(const mpistill_augments *list, char **out);

/* Local. For the rows that k reads. STATUS_BAD_INPUT when the model's rows cannot be changed so. */
status views_make(augmenter *a, const mpistill_augments *list, const classifier *k, uint64_t seed);

/* Local. What o asks for, against what the soft labels and inner tensors were made of: STATUS_BAD_INPUT
 * naming the difference. The seed is theirs, where they are of views. */
status views_open(views *v, const mpistill_train_options *o, const classifier *k, const tasks *work,
                  const features *inner, int64_t rows);

/* Local. The same before there are soft labels or inner tensors: they will be of `stored` views, of the rows
 * as they are (fixed), or there will be none. */
status views_foresee(views *v, const mpistill_train_options *o, const classifier *k, int64_t rows,
                     int64_t stored, bool fixed);

/* Local. The kind that mixes rows, if always: all of them; NULL: none does. */
const char *views_mixing(const mpistill_augments *list, bool always);
/* Local. STATUS_BAD_INPUT unless what a head gives of rows that are so mixed can be learned. */
status views_check_mixed(const char *kind, const head *h);

/* Local. The rows ids[n] in the view of an epoch, as feed_read takes them: in room[n], or ids where rows are
 * as they are. */
const int64_t *views_rows(const views *v, int64_t epoch, const int64_t *ids, int64_t n, int64_t *room);
/* The same for soft labels and inner tensors. */
const int64_t *views_labels(const views *v, const int64_t *ids, const int64_t *seen);

/* Local. The seed of the views that a file is of. */
status views_seed(const softlabels *s, uint64_t *seed);

/* Local. Whether rows of [n, ..., H, W] are of the pixels of the image, and the planes of such a row. */
bool views_pixels(const augment_shape *image, const int64_t *dims, int rank);
augment_shape views_planes(const augment_shape *image, int64_t values);

/* Local, any thread. Labels (positions of one image, -1 coming in) or targets (NaN coming in) of row id as
 * they lie in the view of an epoch; the other is NULL. planes: their shape, values of them; room[3 values].
 */
void views_move(const views *v, int64_t epoch, int64_t id, const augment_shape *planes, int32_t *labels,
                float *targets, float *room);

/* What a thread needs to mix labels as rows are mixed. */
typedef struct mixing {
  loss_mix mix;
  int64_t *partners;
  double *shares;
  int32_t *labels;
  float *teachers, *combined; /* the partners': NULL unless soft labels are fixed */
} mixing;

/* Local. For shards of up to `rows`; n_teachers 0: no loss reads soft labels. */
status mixing_new(mixing *m, const views *v, int64_t rows, int64_t classes, int n_teachers);
void mixing_clear(mixing *m);
/* Local. Partners of rows ids[n]; their labels are the caller's to read: here they become -1. */
void mixing_draw(mixing *m, const views *v, int64_t epoch, const int64_t *ids, int64_t n);
/* Local. Whether row id, or what it is mixed with, has a label: known[rows] is how many labels a row has. */
bool mixing_labelled(const views *v, int64_t epoch, int64_t id, const int64_t *known);

#endif
