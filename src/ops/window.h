/* Where a sliding window stands: the geometry that convolution and pooling share. */
#ifndef MPISTILL_OPS_WINDOW_H
#define MPISTILL_OPS_WINDOW_H

#include "graph/op.h"

enum { WINDOW_RANK = 3 };

/* Always three axes (depth, height, width). The axes that a model of lower rank lacks come first and have
 * extent 1, so that one triple loop serves 1-D, 2-D and 3-D. Output o, tap k of an axis reads input o *
 * stride + k * dilation - begin. */
typedef struct window {
  int rank; /* spatial axes of the model: 1 to 3 */
  int64_t in[WINDOW_RANK], out[WINDOW_RANK];
  int64_t kernel[WINDOW_RANK], stride[WINDOW_RANK], dilation[WINDOW_RANK];
  int64_t begin[WINDOW_RANK], end[WINDOW_RANK]; /* padding, as the model asks for */
} window;

/* Local. Reads kernel_shape, strides, pads, dilations, auto_pad and ceil_mode of the node for an input [rows,
 * channels, spatial...] and sets all of w. kernel: the taps of each spatial axis where a weight decides them,
 * NULL: kernel_shape is required. With ceil_mode a last window that would start in the padding behind the
 * input is left out, as PyTorch does. STATUS_BAD_INPUT on a wrong rank, count or range, or when no window
 * fits. */
status window_read(const step *s, const shape *in, const int64_t *kernel, window *w);

/* Local. For ConvTranspose: the windows of the convolution that it turns around, whose output (w->out) is the
 * node's input `in` and whose input (w->in) is the node's output, by output_shape, or output_padding and
 * pads, or auto_pad. */
status window_read_transposed(const step *s, const shape *in, const int64_t *kernel, window *w);

/* Local. The window over a whole input: global pooling. */
status window_whole(const step *s, const shape *in, window *w);

/* Local. [rows, channels, out...]. */
void window_shape(const window *w, int64_t rows, int64_t channels, shape *out);

int64_t window_inputs(const window *w);  /* the product of in[] */
int64_t window_outputs(const window *w); /* the product of out[] */
int64_t window_taps(const window *w);    /* the product of kernel[] */

/* Local. The taps of an axis whose input lies inside: k in [*from, *to) for output o. */
static inline void window_inside(const window *w, int axis, int64_t o, int64_t *from, int64_t *to) {
  int64_t start = o * w->stride[axis] - w->begin[axis], step = w->dilation[axis];
  int64_t first = start < 0 ? (-start + step - 1) / step : 0;
  int64_t behind = start < w->in[axis] ? (w->in[axis] - 1 - start) / step + 1 : 0;
  *to = behind < w->kernel[axis] ? behind : w->kernel[axis];
  *from = first < *to ? first : *to;
}

#endif
