#include "ops/window.h"

#include <string.h>

enum { LARGEST = 1 << 30 }; /* of any number of a window: products of two stay exact */

/* One list of integers of the node into the last `rank` entries of `to`; those before stay as they are. */
static status read_axes(const step *s, const char *name, int rank, int64_t least, int64_t *to) {
  const attribute *a = node_attribute(s->node, name);
  if (!a) return STATUS_OK;
  if (a->type != ATTRIBUTE_INTS || a->n != rank) {
    return step_error(s, "%s: expected %d integers, one for each spatial axis of the input", name, rank);
  }
  for (int i = 0; i < rank; i++) {
    if (a->ints[i] < least || a->ints[i] > LARGEST) {
      return step_error(s, "%s: %lld is not in [%lld, %d]", name, (long long)a->ints[i], (long long)least,
                        LARGEST);
    }
    to[WINDOW_RANK - rank + i] = a->ints[i];
  }
  return STATUS_OK;
}

static status read_pads(const step *s, window *w) {
  const attribute *a = node_attribute(s->node, "pads");
  if (!a) return STATUS_OK;
  if (a->type != ATTRIBUTE_INTS || a->n != 2 * w->rank) {
    return step_error(s, "pads: expected %d integers, begin and end of each spatial axis", 2 * w->rank);
  }
  for (int i = 0; i < 2 * w->rank; i++) {
    if (a->ints[i] < 0 || a->ints[i] > LARGEST) {
      return step_error(s, "pads: %lld is not in [0, %d]", (long long)a->ints[i], LARGEST);
    }
    int64_t *to = i < w->rank ? w->begin : w->end;
    to[WINDOW_RANK - w->rank + i % w->rank] = a->ints[i];
  }
  return STATUS_OK;
}

/* SAME keeps ceil(in / stride) outputs; an odd pad goes to the end (UPPER) or the begin (LOWER). */
static void pad_same(window *w, int axis, int64_t extent, bool upper) {
  w->out[axis] = (w->in[axis] + w->stride[axis] - 1) / w->stride[axis];
  int64_t pad = (w->out[axis] - 1) * w->stride[axis] + extent - w->in[axis];
  if (pad < 0) pad = 0;
  w->begin[axis] = upper ? pad / 2 : pad - pad / 2;
  w->end[axis] = pad - w->begin[axis];
}

static status place_axis(const step *s, window *w, int axis, bool ceil) {
  int64_t extent = (w->kernel[axis] - 1) * w->dilation[axis] + 1;
  int64_t padded = w->in[axis] + w->begin[axis] + w->end[axis];
  if (extent > padded) {
    return step_error(s, "the kernel covers %lld elements of an axis that has %lld with its padding",
                      (long long)extent, (long long)padded);
  }
  int64_t room = padded - extent;
  w->out[axis] = room / w->stride[axis] + 1;
  if (ceil && room % w->stride[axis] && w->out[axis] * w->stride[axis] < w->in[axis] + w->begin[axis])
    w->out[axis]++;
  return STATUS_OK;
}

static status place(const step *s, window *w) {
  const char *mode = node_string(s->node, "auto_pad", "NOTSET");
  bool ceil = node_int(s->node, "ceil_mode", 0) != 0;
  bool upper = strcmp(mode, "SAME_UPPER") == 0, lower = strcmp(mode, "SAME_LOWER") == 0;
  if (!upper && !lower && strcmp(mode, "NOTSET") != 0 && strcmp(mode, "VALID") != 0 && *mode) {
    return step_error(s, "auto_pad: '%s' is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID", mode);
  }
  if (strcmp(mode, "VALID") == 0) {
    memset(w->begin, 0, sizeof w->begin);
    memset(w->end, 0, sizeof w->end);
  }
  for (int axis = 0; axis < WINDOW_RANK; axis++) {
    if (upper || lower) {
      pad_same(w, axis, (w->kernel[axis] - 1) * w->dilation[axis] + 1, upper);
      continue;
    }
    status st = place_axis(s, w, axis, ceil);
    if (st) return st;
  }
  return STATUS_OK;
}

static status start(const step *s, const shape *in, window *w) {
  char text[128];
  if (in->rank < 3 || in->rank > 2 + WINDOW_RANK) {
    return step_error(s, "expected an input [rows, channels, ...] with 1 to 3 spatial axes, got %s",
                      shape_text(in, text, sizeof text));
  }
  *w = (window){.rank = in->rank - 2};
  for (int axis = 0; axis < WINDOW_RANK; axis++) {
    int from = axis - (WINDOW_RANK - w->rank) + 2;
    w->in[axis] = from >= 2 ? in->dims[from] : 1;
    w->kernel[axis] = w->stride[axis] = w->dilation[axis] = 1;
    if (w->in[axis] < 1 || w->in[axis] > LARGEST) {
      return step_error(s, "cannot slide a window over an input of shape %s",
                        shape_text(in, text, sizeof text));
    }
  }
  return STATUS_OK;
}

/* The taps that the weight has; kernel_shape may only say the same. */
static status take_kernel(const step *s, const int64_t *kernel, window *w) {
  memcpy(w->kernel + WINDOW_RANK - w->rank, kernel, (size_t)w->rank * sizeof *kernel);
  int64_t said[WINDOW_RANK];
  memcpy(said, w->kernel, sizeof said);
  status st = read_axes(s, "kernel_shape", w->rank, 1, said);
  for (int axis = 0; !st && axis < WINDOW_RANK; axis++) {
    if (said[axis] != w->kernel[axis]) {
      return step_error(s, "kernel_shape says %lld where the weight has %lld", (long long)said[axis],
                        (long long)w->kernel[axis]);
    }
  }
  return st;
}

status window_read(const step *s, const shape *in, const int64_t *kernel, window *w) {
  status st = STATUS_OK;
  TRY(start(s, in, w));
  if (kernel) {
    TRY(take_kernel(s, kernel, w));
  } else if (node_attribute(s->node, "kernel_shape")) {
    TRY(read_axes(s, "kernel_shape", w->rank, 1, w->kernel));
  } else {
    return step_error(s, "kernel_shape is missing");
  }
  TRY(read_axes(s, "strides", w->rank, 1, w->stride));
  TRY(read_axes(s, "dilations", w->rank, 1, w->dilation));
  TRY(read_pads(s, w));
  TRY(place(s, w));
done:
  return st;
}

/* An axis of window_read_transposed: in[] holds a wish for the output (0: none), begin and end the pads that
 * go without. */
static status place_transposed(const step *s, window *w, int axis, int64_t extra, bool same, bool upper) {
  int64_t full = (w->out[axis] - 1) * w->stride[axis] + extra + (w->kernel[axis] - 1) * w->dilation[axis] + 1;
  if (same && !w->in[axis]) w->in[axis] = w->out[axis] * w->stride[axis];
  if (w->in[axis]) {
    int64_t total = full > w->in[axis] ? full - w->in[axis] : 0;
    w->begin[axis] = upper ? total / 2 : total - total / 2;
    w->end[axis] = total - w->begin[axis];
  } else {
    w->in[axis] = full - w->begin[axis] - w->end[axis];
  }
  int64_t reach = w->in[axis] + w->begin[axis] + w->end[axis] - (w->kernel[axis] - 1) * w->dilation[axis] - 1;
  if (w->in[axis] < 1 || w->in[axis] > LARGEST || reach / w->stride[axis] + 1 != w->out[axis] || reach < 0) {
    return step_error(s, "an output of %lld elements on an axis does not fit the input's %lld",
                      (long long)w->in[axis], (long long)w->out[axis]);
  }
  return STATUS_OK;
}

status window_read_transposed(const step *s, const shape *in, const int64_t *kernel, window *w) {
  status st = STATUS_OK;
  int64_t extra[WINDOW_RANK] = {0};
  const char *mode = node_string(s->node, "auto_pad", "NOTSET");
  bool upper = strcmp(mode, "SAME_UPPER") == 0, same = upper || strcmp(mode, "SAME_LOWER") == 0;
  TRY(start(s, in, w));
  memcpy(w->out, w->in, sizeof w->out);
  for (int axis = WINDOW_RANK - w->rank; axis < WINDOW_RANK; axis++) w->in[axis] = 0;
  TRY(read_axes(s, "output_shape", w->rank, 1, w->in));
  TRY(read_axes(s, "output_padding", w->rank, 0, extra));
  TRY(read_axes(s, "strides", w->rank, 1, w->stride));
  TRY(read_axes(s, "dilations", w->rank, 1, w->dilation));
  TRY(read_pads(s, w));
  TRY(take_kernel(s, kernel, w));
  for (int axis = 0; axis < WINDOW_RANK; axis++) TRY(place_transposed(s, w, axis, extra[axis], same, upper));
done:
  return st;
}

status window_whole(const step *s, const shape *in, window *w) {
  status st = start(s, in, w);
  if (st) return st;
  memcpy(w->kernel, w->in, sizeof w->kernel);
  for (int axis = 0; axis < WINDOW_RANK; axis++) w->out[axis] = 1;
  return STATUS_OK;
}

void window_shape(const window *w, int64_t rows, int64_t channels, shape *out) {
  *out = (shape){.rank = 2 + w->rank, .dims = {rows, channels}};
  for (int i = 0; i < w->rank; i++) out->dims[2 + i] = w->out[WINDOW_RANK - w->rank + i];
}

int64_t window_inputs(const window *w) {
  return w->in[0] * w->in[1] * w->in[2];
}

int64_t window_outputs(const window *w) {
  return w->out[0] * w->out[1] * w->out[2];
}

int64_t window_taps(const window *w) {
  return w->kernel[0] * w->kernel[1] * w->kernel[2];
}
