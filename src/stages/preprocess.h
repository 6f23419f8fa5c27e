/* Images made into what a teacher expects, which may be other than what the student gets. */
#ifndef MPISTILL_STAGES_PREPROCESS_H
#define MPISTILL_STAGES_PREPROCESS_H

#include "graph/tensor.h"
#include "mpistill/mpistill.h"
#include "store/dataset.h"

#include <stdbool.h>

/* Rows [C, H, W] of the dataset, as the student sees them, become in this order:
 *   size     bilinear, points in the middle of their squares (PyTorch's align_corners=False, no antialiasing)
 *   crop     the middle; odd rests fall to the lower right
 *   channel  last first (RGB to BGR)
 *   scale    x * scale + offset, per channel in the order they then have
 *   layout   [H, W, C]
 *   type     integers: rounded to the nearest and clamped to the range of the model's type */
typedef struct preprocess {
  bool active;
  int64_t channels, from[2], sized[2], out[2]; /* height, width */
  bool reversed, last;
  mpistill_reals scale, offset; /* borrowed */
} preprocess;

/* Local. A teacher's own, or that of all. */
const mpistill_preprocess *teach_preprocess(const mpistill_teach_options *o, const mpistill_teacher *t);

/* Local. Whether any of it is declared. */
bool preprocess_given(const mpistill_preprocess *o);
/* Local. For rows of `a`; STATUS_BAD_INPUT naming the array where these are no images [C, H, W], where
 * numbers do not go together, or where a crop is larger than the image. `dataset_path` begins the message. */
status preprocess_make(preprocess *p, const mpistill_preprocess *o, const array *a, const char *dataset_path);
/* The shape of n rows, -1: not known. */
shape preprocess_shape(const preprocess *p, int64_t n);
/* Local. Row after row: from [n, C, H, W], to preprocess_shape, of type float, uint8, int8 or int32. */
void preprocess_rows(const preprocess *p, const float *from, int64_t n, dtype type, void *to);
/* "size=224x224 layout=nhwc": the same text for what makes the same numbers; the caller's (mem_free). NULL
 * when nothing is given. */
status preprocess_text(const mpistill_preprocess *o, char **out);

#endif
