#include "ops/dnnl.h"

#include "base/mem.h"
#include "ops/dnnl_pass.h"

#include <stdio.h>
#include <string.h>

const char *dnnl_description(void) {
  static const struct {
    dnnl_cpu_isa_t isa;
    const char *name;
  } names[] = {{dnnl_cpu_isa_avx512_core_amx, "AMX"},
               {dnnl_cpu_isa_avx512_core_bf16, "AVX512_BF16"},
               {dnnl_cpu_isa_avx512_core_vnni, "AVX512_VNNI"},
               {dnnl_cpu_isa_avx512_core, "AVX512"},
               {dnnl_cpu_isa_avx2_vnni, "AVX2_VNNI"},
               {dnnl_cpu_isa_avx2, "AVX2"},
               {dnnl_cpu_isa_avx, "AVX"},
               {dnnl_cpu_isa_sse41, "SSE4.1"}};
  static _Thread_local char text[64];
  const dnnl_version_t *v = dnnl_version();
  dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  const char *name = "scalar";
  for (int i = 0; i < COUNT(names); i++) {
    if (names[i].isa == isa) name = names[i].name;
  }
  snprintf(text, sizeof text, "oneDNN %d.%d.%d %s", v->major, v->minor, v->patch, name);
  return text;
}

/* The arrays and numbers of a convolution as the library wants them. */
typedef struct conv_formats {
  dnnl_memory_desc_t x, weight, bias, y;
  dnnl_dims_t stride, dilation, begin, end;
} conv_formats;

/* The padding behind that makes the windows end where the last one does: more than the model's with
 * ceil_mode. */
static int64_t end_of(const window *w, int axis) {
  return (w->out[axis] - 1) * w->stride[axis] + (w->kernel[axis] - 1) * w->dilation[axis] + 1 - w->in[axis] -
         w->begin[axis];
}

/* Spatial numbers of the model's own axes; a step of 1 between taps is a dilation of 0 in this library. */
static void window_numbers(const window *w, dnnl_dims_t stride, dnnl_dims_t dilation, dnnl_dims_t begin,
                           dnnl_dims_t end) {
  for (int i = 0; i < w->rank; i++) {
    int axis = WINDOW_RANK - w->rank + i;
    stride[i] = w->stride[axis];
    dilation[i] = w->dilation[axis] - 1;
    begin[i] = w->begin[axis];
    end[i] = end_of(w, axis);
  }
}

static int array_dims(const window *w, int64_t rows, int64_t channels, const int64_t *spatial,
                      dnnl_dims_t dims) {
  dims[0] = rows;
  dims[1] = channels;
  memcpy(dims + 2, spatial + WINDOW_RANK - w->rank, (size_t)w->rank * sizeof *dims);
  return 2 + w->rank;
}

static void conv_describe(const convolution *c, bool bias, conv_formats *f) {
  dnnl_dims_t dims;
  const window *w = &c->window;
  int rank = array_dims(w, c->rows, c->groups * c->channels, w->in, dims);
  f->x = pass_any_format(rank, dims);
  array_dims(w, c->rows, c->groups * c->filters, w->out, dims);
  f->y = pass_any_format(rank, dims);
  dnnl_dims_t filters = {c->groups * c->filters};
  f->bias = bias ? pass_any_format(1, filters) : (dnnl_memory_desc_t){0};
  array_dims(w, c->filters, c->channels, w->kernel, dims);
  if (c->groups > 1) {
    memmove(dims + 1, dims, (size_t)rank * sizeof *dims);
    dims[0] = c->groups;
  }
  f->weight = pass_any_format(c->groups > 1 ? rank + 1 : rank, dims);
  window_numbers(w, f->stride, f->dilation, f->begin, f->end);
}

struct conv_kernel {
  library library;
  pass forward, data, weight;
  bool has_data, has_weight;
  bool shared_dy; /* both backward passes want dy in one format: converted once */
};

static status forward_descriptor(const library *l, const conv_formats *f, dnnl_primitive_desc_t *pd) {
  dnnl_convolution_desc_t d;
  dnnl_status_t code = dnnl_dilated_convolution_forward_desc_init(
      &d, dnnl_forward_training, dnnl_convolution_direct, &f->x, &f->weight, f->bias.ndims ? &f->bias : NULL,
      &f->y, f->stride, f->dilation, f->begin, f->end);
  return pass_describe(l, code, &d, ACTIVATION_NONE, NULL, pd);
}

static status data_descriptor(const library *l, const conv_formats *f, const_dnnl_primitive_desc_t hint,
                              dnnl_primitive_desc_t *pd) {
  dnnl_convolution_desc_t d;
  dnnl_status_t code = dnnl_dilated_convolution_backward_data_desc_init(
      &d, dnnl_convolution_direct, &f->x, &f->weight, &f->y, f->stride, f->dilation, f->begin, f->end);
  return pass_describe(l, code, &d, ACTIVATION_NONE, hint, pd);
}

static status weight_descriptor(const library *l, const conv_formats *f, const_dnnl_primitive_desc_t hint,
                                dnnl_primitive_desc_t *pd) {
  dnnl_convolution_desc_t d;
  dnnl_status_t code = dnnl_dilated_convolution_backward_weights_desc_init(
      &d, dnnl_convolution_direct, &f->x, &f->weight, f->bias.ndims ? &f->bias : NULL, &f->y, f->stride,
      f->dilation, f->begin, f->end);
  return pass_describe(l, code, &d, ACTIVATION_NONE, hint, pd);
}

/* dy comes first in both backward passes, so that its converted array has the same place in the scratch. */
static const port_row forward_ports[] = {{DNNL_ARG_SRC, PORT_IN, dnnl_query_src_md, 0},
                                         {DNNL_ARG_WEIGHTS, PORT_PACKED, dnnl_query_weights_md, 0},
                                         {DNNL_ARG_BIAS, PORT_IN, dnnl_query_weights_md, 1},
                                         {DNNL_ARG_DST, PORT_OUT, dnnl_query_dst_md, 0}};
static const port_row data_ports[] = {{DNNL_ARG_DIFF_DST, PORT_IN, dnnl_query_diff_dst_md, 0},
                                      {DNNL_ARG_WEIGHTS, PORT_PACKED, dnnl_query_weights_md, 0},
                                      {DNNL_ARG_DIFF_SRC, PORT_OUT, dnnl_query_diff_src_md, 0}};
static const port_row weight_ports[] = {{DNNL_ARG_DIFF_DST, PORT_IN, dnnl_query_diff_dst_md, 0},
                                        {DNNL_ARG_SRC, PORT_IN, dnnl_query_src_md, 0},
                                        {DNNL_ARG_DIFF_WEIGHTS, PORT_OUT, dnnl_query_diff_weights_md, 0},
                                        {DNNL_ARG_DIFF_BIAS, PORT_OUT, dnnl_query_diff_weights_md, 1}};

/* *complete: the library has all passes that were asked for. */
static status conv_passes(conv_kernel *k, const conv_formats *f, bool *complete) {
  status st = STATUS_OK;
  const library *l = &k->library;
  dnnl_primitive_desc_t forward = NULL, data = NULL, weight = NULL;
  *complete = false;
  TRY(forward_descriptor(l, f, &forward));
  if (!forward) goto done;
  if (k->has_data) TRY(data_descriptor(l, f, forward, &data));
  if (k->has_weight) TRY(weight_descriptor(l, f, forward, &weight));
  *complete = (data || !k->has_data) && (weight || !k->has_weight);
  if (!*complete) goto done;
  TRY(pass_new(&k->forward, l, forward, forward_ports, COUNT(forward_ports)));
  if (data) TRY(pass_new(&k->data, l, data, data_ports, COUNT(data_ports)));
  if (weight) TRY(pass_new(&k->weight, l, weight, weight_ports, COUNT(weight_ports)));
  k->shared_dy = data && weight && pass_same_format(&k->data.ports[0], &k->weight.ports[0]);
done:
  if (forward) dnnl_primitive_desc_destroy(forward);
  if (data) dnnl_primitive_desc_destroy(data);
  if (weight) dnnl_primitive_desc_destroy(weight);
  return st;
}

void conv_kernel_free(conv_kernel **k) {
  if (!*k) return;
  pass_free(&(*k)->forward);
  pass_free(&(*k)->data);
  pass_free(&(*k)->weight);
  library_close(&(*k)->library);
  mem_free(*k);
  *k = NULL;
}

status conv_kernel_new(conv_kernel **out, const convolution *c, bool bias, bool data, bool weight) {
  status st = STATUS_OK;
  conv_kernel *k = NULL;
  conv_formats f;
  bool complete = false;
  TRY(mem_new(&k, 1, sizeof *k));
  k->has_data = data;
  k->has_weight = weight;
  TRY(library_open(&k->library));
  conv_describe(c, bias, &f);
  TRY(conv_passes(k, &f, &complete));
done:
  if (k && !complete) conv_kernel_free(&k);
  *out = k;
  return st;
}

static size_t larger(size_t a, size_t b) {
  return a > b ? a : b;
}

size_t conv_kernel_scratch_bytes(const conv_kernel *k) {
  return larger(k->forward.scratch_bytes, larger(k->data.scratch_bytes, k->weight.scratch_bytes));
}

status conv_kernel_load(conv_kernel *k, const float *weight) {
  status st = pass_pack(&k->forward, &k->library, DNNL_ARG_WEIGHTS, weight);
  if (!st && k->has_data) st = pass_pack(&k->data, &k->library, DNNL_ARG_WEIGHTS, weight);
  return st;
}

status conv_kernel_forward(conv_kernel *k, const float *x, const float *bias, float *y, void *scratch) {
  status st = STATUS_OK;
  const library *l = &k->library;
  TRY(pass_place(&k->forward, l, DNNL_ARG_SRC, x, scratch));
  TRY(pass_place(&k->forward, l, DNNL_ARG_BIAS, bias, scratch));
  TRY(pass_place(&k->forward, l, DNNL_ARG_DST, y, scratch));
  TRY(pass_run(&k->forward, l, 0, scratch));
done:
  return st;
}

status conv_kernel_backward(conv_kernel *k, const float *x, const float *dy, float *dx, float *dw, float *db,
                            void *scratch) {
  status st = STATUS_OK;
  const library *l = &k->library;
  if (dx) {
    TRY(pass_place(&k->data, l, DNNL_ARG_DIFF_DST, dy, scratch));
    TRY(pass_place(&k->data, l, DNNL_ARG_DIFF_SRC, dx, scratch));
    TRY(pass_run(&k->data, l, 0, scratch));
  }
  if (dw) {
    TRY(pass_place(&k->weight, l, DNNL_ARG_DIFF_DST, dy, scratch));
    TRY(pass_place(&k->weight, l, DNNL_ARG_SRC, x, scratch));
    TRY(pass_place(&k->weight, l, DNNL_ARG_DIFF_WEIGHTS, dw, scratch));
    TRY(pass_place(&k->weight, l, DNNL_ARG_DIFF_BIAS, db, scratch));
    TRY(pass_run(&k->weight, l, dx && k->shared_dy ? DNNL_ARG_DIFF_DST : 0, scratch));
  }
done:
  return st;
}

struct pool_kernel {
  library library;
  pass forward, backward;
  bool has_backward;
  size_t saved_bytes;
};

static const port_row pool_forward_ports[] = {{DNNL_ARG_SRC, PORT_IN, dnnl_query_src_md, 0},
                                              {DNNL_ARG_DST, PORT_OUT, dnnl_query_dst_md, 0},
                                              {DNNL_ARG_WORKSPACE, PORT_OPAQUE, dnnl_query_workspace_md, 0}};
static const port_row pool_backward_ports[] = {{DNNL_ARG_DIFF_DST, PORT_IN, dnnl_query_diff_dst_md, 0},
                                               {DNNL_ARG_DIFF_SRC, PORT_OUT, dnnl_query_diff_src_md, 0},
                                               {DNNL_ARG_WORKSPACE, PORT_OPAQUE, dnnl_query_workspace_md, 0}};

static dnnl_alg_kind_t pool_algorithm(pool_kind kind) {
  if (kind == POOL_MAX) return dnnl_pooling_max;
  return kind == POOL_AVERAGE ? dnnl_pooling_avg_exclude_padding : dnnl_pooling_avg_include_padding;
}

/* Both arrays stay row-major: the library's pooling reads that at the speed at which we could convert. */
static status pool_passes(pool_kernel *k, pool_kind kind, const window *w, int64_t rows, int64_t channels) {
  status st = STATUS_OK;
  const library *l = &k->library;
  dnnl_primitive_desc_t forward = NULL, backward = NULL;
  dnnl_pooling_v2_desc_t d;
  dnnl_status_t code;
  dnnl_dims_t dims, stride, dilation, begin, end;
  int rank = array_dims(w, rows, channels, w->in, dims);
  dnnl_memory_desc_t x = pass_plain_format(rank, dims);
  array_dims(w, rows, channels, w->out, dims);
  dnnl_memory_desc_t y = pass_plain_format(rank, dims);
  window_numbers(w, stride, dilation, begin, end);
  array_dims(w, 0, 0, w->kernel, dims);
  memmove(dims, dims + 2, (size_t)w->rank * sizeof *dims);
  dnnl_prop_kind_t way = k->has_backward ? dnnl_forward_training : dnnl_forward_inference;
  code = dnnl_pooling_v2_forward_desc_init(&d, way, pool_algorithm(kind), &x, &y, stride, dims, dilation,
                                           begin, end);
  TRY(pass_describe(l, code, &d, ACTIVATION_NONE, NULL, &forward));
  if (forward && k->has_backward) {
    code = dnnl_pooling_v2_backward_desc_init(&d, pool_algorithm(kind), &x, &y, stride, dims, dilation, begin,
                                              end);
    TRY(pass_describe(l, code, &d, ACTIVATION_NONE, forward, &backward));
  }
  if (!forward || (k->has_backward && !backward)) goto done;
  TRY(pass_new(&k->forward, l, forward, pool_forward_ports, COUNT(pool_forward_ports)));
  if (backward) TRY(pass_new(&k->backward, l, backward, pool_backward_ports, COUNT(pool_backward_ports)));
  const dnnl_memory_desc_t *saved = dnnl_primitive_desc_query_md(forward, dnnl_query_workspace_md, 0);
  k->saved_bytes = saved ? dnnl_memory_desc_get_size(saved) : 0;
done:
  if (forward) dnnl_primitive_desc_destroy(forward);
  if (backward) dnnl_primitive_desc_destroy(backward);
  return st;
}

void pool_kernel_free(pool_kernel **k) {
  if (!*k) return;
  pass_free(&(*k)->forward);
  pass_free(&(*k)->backward);
  library_close(&(*k)->library);
  mem_free(*k);
  *k = NULL;
}

status pool_kernel_new(pool_kernel **out, pool_kind kind, const window *w, int64_t rows, int64_t channels,
                       bool backward) {
  status st = STATUS_OK;
  pool_kernel *k = NULL;
  TRY(mem_new(&k, 1, sizeof *k));
  k->has_backward = backward;
  TRY(library_open(&k->library));
  TRY(pool_passes(k, kind, w, rows, channels));
done:
  if (k && (st || !k->forward.primitive)) pool_kernel_free(&k);
  *out = k;
  return st;
}

size_t pool_kernel_scratch_bytes(const pool_kernel *k) {
  return larger(k->forward.scratch_bytes, k->backward.scratch_bytes);
}

size_t pool_kernel_saved_bytes(const pool_kernel *k) {
  return k->saved_bytes;
}

status pool_kernel_forward(pool_kernel *k, const float *x, float *y, void *saved, void *scratch) {
  status st = STATUS_OK;
  TRY(pass_place(&k->forward, &k->library, DNNL_ARG_SRC, x, scratch));
  TRY(pass_place(&k->forward, &k->library, DNNL_ARG_DST, y, scratch));
  TRY(pass_place(&k->forward, &k->library, DNNL_ARG_WORKSPACE, saved, scratch));
  TRY(pass_run(&k->forward, &k->library, 0, scratch));
done:
  return st;
}

status pool_kernel_backward(pool_kernel *k, const float *dy, float *dx, const void *saved, void *scratch) {
  status st = STATUS_OK;
  TRY(pass_place(&k->backward, &k->library, DNNL_ARG_DIFF_DST, dy, scratch));
  TRY(pass_place(&k->backward, &k->library, DNNL_ARG_DIFF_SRC, dx, scratch));
  TRY(pass_place(&k->backward, &k->library, DNNL_ARG_WORKSPACE, saved, scratch));
  TRY(pass_run(&k->backward, &k->library, 0, scratch));
done:
  return st;
}
