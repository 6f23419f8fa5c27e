#include "ops/dnnl.h"

#include "base/mem.h"
#include "ops/dnnl_pass.h"

#include <stdio.h>
#include <string.h>

int64_t dnnl_block(void) {
  const dnnl_cpu_isa_t wide = dnnl_cpu_isa_avx512_core;
  return (dnnl_get_effective_cpu_isa() & wide) == wide ? 16 : 8;
}

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

/* as_given: arrays in blocks are wanted as they are, whatever the library likes best. */
static void conv_describe(const convolution *c, const conv_options *o, bool as_given, conv_formats *f) {
  dnnl_dims_t dims;
  const window *w = &c->window;
  int rank = array_dims(w, c->rows, c->groups * c->channels, w->in, dims);
  f->x = as_given && o->block_x ? pass_block_format(rank, dims, o->block_x) : pass_any_format(rank, dims);
  array_dims(w, c->rows, c->groups * c->filters, w->out, dims);
  f->y = as_given && o->block_y ? pass_block_format(rank, dims, o->block_y) : pass_any_format(rank, dims);
  dnnl_dims_t filters = {c->groups * c->filters};
  f->bias = o->bias ? pass_any_format(1, filters) : (dnnl_memory_desc_t){0};
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
  bool has_data;
  bool shared_dy; /* both backward passes want dy in one format: converted once */
};

static status forward_descriptor(const library *l, const conv_formats *f, const finish *done,
                                 dnnl_primitive_desc_t *pd) {
  dnnl_convolution_desc_t d;
  dnnl_status_t code = dnnl_dilated_convolution_forward_desc_init(
      &d, dnnl_forward_training, dnnl_convolution_direct, &f->x, &f->weight, f->bias.ndims ? &f->bias : NULL,
      &f->y, f->stride, f->dilation, f->begin, f->end);
  return pass_describe(l, code, &d, done->sum || done->after ? done : NULL, NULL, pd);
}

static status data_descriptor(const library *l, const conv_formats *f, const_dnnl_primitive_desc_t hint,
                              dnnl_primitive_desc_t *pd) {
  dnnl_convolution_desc_t d;
  dnnl_status_t code = dnnl_dilated_convolution_backward_data_desc_init(
      &d, dnnl_convolution_direct, &f->x, &f->weight, &f->y, f->stride, f->dilation, f->begin, f->end);
  return pass_describe(l, code, &d, NULL, hint, pd);
}

static status weight_descriptor(const library *l, const conv_formats *f, const_dnnl_primitive_desc_t hint,
                                dnnl_primitive_desc_t *pd) {
  dnnl_convolution_desc_t d;
  dnnl_status_t code = dnnl_dilated_convolution_backward_weights_desc_init(
      &d, dnnl_convolution_direct, &f->x, &f->weight, f->bias.ndims ? &f->bias : NULL, &f->y, f->stride,
      f->dilation, f->begin, f->end);
  return pass_describe(l, code, &d, NULL, hint, pd);
}

/* The descriptors of the passes that are wanted, NULL where the library has none. */
typedef struct conv_descriptors {
  dnnl_primitive_desc_t forward, data, weight;
} conv_descriptors;

static void descriptors_free(conv_descriptors *d) {
  if (d->forward) dnnl_primitive_desc_destroy(d->forward);
  if (d->data) dnnl_primitive_desc_destroy(d->data);
  if (d->weight) dnnl_primitive_desc_destroy(d->weight);
  *d = (conv_descriptors){0};
}

/* Ways that are slower than conversion and a faster way. */
static bool is_makeshift(const_dnnl_primitive_desc_t pd) {
  const char *name = "";
  dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
  return strstr(name, "ref") || strstr(name, "gemm:");
}

/* All passes that are wanted, or none. fast: none that are makeshift. */
static status descriptors_new(conv_descriptors *d, const library *l, const convolution *c,
                              const conv_options *o, bool as_given, bool fast) {
  status st = STATUS_OK;
  conv_formats f;
  conv_describe(c, o, as_given, &f);
  TRY(forward_descriptor(l, &f, &o->finish, &d->forward));
  if (d->forward && o->data) TRY(data_descriptor(l, &f, d->forward, &d->data));
  if (d->forward && o->weight) TRY(weight_descriptor(l, &f, d->forward, &d->weight));
  const dnnl_primitive_desc_t all[] = {d->forward, d->data, d->weight};
  const bool wanted[] = {true, o->data, o->weight};
  bool complete = true;
  for (int i = 0; i < COUNT(all); i++) complete &= !wanted[i] || (all[i] && !(fast && is_makeshift(all[i])));
  if (!complete) descriptors_free(d);
done:
  return st;
}

status conv_kernel_exists(const convolution *c, const conv_options *o, bool *out) {
  status st = STATUS_OK;
  library l = {0};
  conv_descriptors d = {0};
  TRY(library_open(&l));
  TRY(descriptors_new(&d, &l, c, o, true, o->block_x || o->block_y));
  *out = d.forward != NULL;
done:
  descriptors_free(&d);
  library_close(&l);
  return st;
}

enum { PORT_X = 1, PORT_Y = 2 }; /* marks of port_row.block: arrays of the caller */

/* dy comes first in both backward passes, so that its converted array has the same place in the scratch. */
static const port_row forward_ports[] = {{DNNL_ARG_SRC, PORT_IN, dnnl_query_src_md, 0, PORT_X},
                                         {DNNL_ARG_WEIGHTS, PORT_PACKED, dnnl_query_weights_md, 0, 0},
                                         {DNNL_ARG_BIAS, PORT_IN, dnnl_query_weights_md, 1, 0},
                                         {DNNL_ARG_DST, PORT_OUT, dnnl_query_dst_md, 0, PORT_Y}};
static const port_row data_ports[] = {{DNNL_ARG_DIFF_DST, PORT_IN, dnnl_query_diff_dst_md, 0, PORT_Y},
                                      {DNNL_ARG_WEIGHTS, PORT_PACKED, dnnl_query_weights_md, 0, 0},
                                      {DNNL_ARG_DIFF_SRC, PORT_OUT, dnnl_query_diff_src_md, 0, PORT_X}};
static const port_row weight_ports[] = {{DNNL_ARG_DIFF_DST, PORT_IN, dnnl_query_diff_dst_md, 0, PORT_Y},
                                        {DNNL_ARG_SRC, PORT_IN, dnnl_query_src_md, 0, PORT_X},
                                        {DNNL_ARG_DIFF_WEIGHTS, PORT_OUT, dnnl_query_diff_weights_md, 0, 0},
                                        {DNNL_ARG_DIFF_BIAS, PORT_OUT, dnnl_query_diff_weights_md, 1, 0}};

static status pass_between(pass *p, const library *l, dnnl_primitive_desc_t pd, const port_row *rows,
                           int n_rows, int64_t block_x, int64_t block_y, bool sum) {
  port_row own[MAX_PORTS];
  for (int i = 0; i < n_rows; i++) {
    own[i] = rows[i];
    own[i].block = rows[i].block == PORT_X ? block_x : rows[i].block == PORT_Y ? block_y : 0;
    if (rows[i].argument == DNNL_ARG_DST && sum) own[i].kind = PORT_IN_OUT;
  }
  return pass_new(p, l, pd, own, n_rows);
}

static status conv_passes(conv_kernel *k, const conv_descriptors *d, const conv_options *o) {
  status st = STATUS_OK;
  const int64_t x = o->block_x, y = o->block_y;
  const library *l = &k->library;
  TRY(pass_between(&k->forward, l, d->forward, forward_ports, COUNT(forward_ports), x, y, o->finish.sum));
  if (d->data) TRY(pass_between(&k->data, l, d->data, data_ports, COUNT(data_ports), x, y, false));
  if (d->weight) TRY(pass_between(&k->weight, l, d->weight, weight_ports, COUNT(weight_ports), x, y, false));
  k->shared_dy = d->data && d->weight && pass_same_format(&k->data.ports[0], &k->weight.ports[0]);
done:
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

status conv_kernel_new(conv_kernel **out, const convolution *c, const conv_options *o) {
  status st = STATUS_OK;
  conv_kernel *k = NULL;
  conv_descriptors d = {0};
  TRY(mem_new(&k, 1, sizeof *k));
  k->has_data = o->data;
  TRY(library_open(&k->library));
  if (o->block_x || o->block_y) TRY(descriptors_new(&d, &k->library, c, o, true, true));
  if (!d.forward) TRY(descriptors_new(&d, &k->library, c, o, false, false));
  if (d.forward) TRY(conv_passes(k, &d, o));
done:
  if (k && (st || !d.forward)) conv_kernel_free(&k);
  descriptors_free(&d);
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

/* The operation takes x's format, so that is never converted. */
static const port_row pool_ports[] = {{DNNL_ARG_SRC, PORT_OPAQUE, dnnl_query_src_md, 0, 0},
                                      {DNNL_ARG_DST, PORT_OUT, dnnl_query_dst_md, 0, PORT_Y},
                                      {DNNL_ARG_WORKSPACE, PORT_OPAQUE, dnnl_query_workspace_md, 0, 0}};
static const port_row pool_backward_ports[] = {
    {DNNL_ARG_DIFF_DST, PORT_IN, dnnl_query_diff_dst_md, 0, PORT_Y},
    {DNNL_ARG_DIFF_SRC, PORT_OPAQUE, dnnl_query_diff_src_md, 0, 0},
    {DNNL_ARG_WORKSPACE, PORT_OPAQUE, dnnl_query_workspace_md, 0, 0}};

static dnnl_alg_kind_t pool_algorithm(pool_kind kind) {
  if (kind == POOL_MAX) return dnnl_pooling_max;
  return kind == POOL_AVERAGE ? dnnl_pooling_avg_exclude_padding : dnnl_pooling_avg_include_padding;
}

/* In the format that x has: the library's pooling reads rows at the speed at which we could convert. */
static status pool_passes(pool_kernel *k, pool_kind kind, const window *w, int64_t rows, int64_t channels,
                          int64_t block_x, int64_t block_y) {
  status st = STATUS_OK;
  const library *l = &k->library;
  dnnl_primitive_desc_t forward = NULL, backward = NULL;
  dnnl_pooling_v2_desc_t d;
  dnnl_status_t code;
  dnnl_dims_t dims, stride, dilation, begin, end;
  int rank = array_dims(w, rows, channels, w->in, dims);
  dnnl_memory_desc_t x = pass_block_format(rank, dims, block_x);
  array_dims(w, rows, channels, w->out, dims);
  dnnl_memory_desc_t y = pass_block_format(rank, dims, block_x);
  window_numbers(w, stride, dilation, begin, end);
  array_dims(w, 0, 0, w->kernel, dims);
  memmove(dims, dims + 2, (size_t)w->rank * sizeof *dims);
  dnnl_prop_kind_t way = k->has_backward ? dnnl_forward_training : dnnl_forward_inference;
  code = dnnl_pooling_v2_forward_desc_init(&d, way, pool_algorithm(kind), &x, &y, stride, dims, dilation,
                                           begin, end);
  TRY(pass_describe(l, code, &d, NULL, NULL, &forward));
  if (forward && k->has_backward) {
    code = dnnl_pooling_v2_backward_desc_init(&d, pool_algorithm(kind), &x, &y, stride, dims, dilation, begin,
                                              end);
    TRY(pass_describe(l, code, &d, NULL, forward, &backward));
  }
  if (!forward || (k->has_backward && !backward)) goto done;
  TRY(pass_between(&k->forward, l, forward, pool_ports, COUNT(pool_ports), block_x, block_y, false));
  if (backward)
    TRY(pass_between(&k->backward, l, backward, pool_backward_ports, COUNT(pool_backward_ports), block_x,
                     block_y, false));
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
                       int64_t block_x, int64_t block_y, bool backward) {
  status st = STATUS_OK;
  pool_kernel *k = NULL;
  TRY(mem_new(&k, 1, sizeof *k));
  k->has_backward = backward;
  TRY(library_open(&k->library));
  TRY(pool_passes(k, kind, w, rows, channels, block_x, block_y));
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
