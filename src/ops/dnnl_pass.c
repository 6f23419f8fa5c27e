#include "ops/dnnl_pass.h"

#include "base/mem.h"

#include <string.h>

status library_error(dnnl_status_t code, const char *what) {
  return status_set(STATUS_FAILED, "oneDNN: %s failed (dnnl_status %d)", what, (int)code);
}

status library_open(library *l) {
  status st = STATUS_OK;
  LIBRARY(dnnl_engine_create(&l->engine, dnnl_cpu, 0));
  LIBRARY(dnnl_stream_create(&l->stream, l->engine, dnnl_stream_default_flags));
done:
  return st;
}

void library_close(library *l) {
  if (l->stream) dnnl_stream_destroy(l->stream);
  if (l->engine) dnnl_engine_destroy(l->engine);
  *l = (library){0};
}

dnnl_memory_desc_t pass_plain_format(int rank, const dnnl_dim_t *dims) {
  dnnl_memory_desc_t d;
  dnnl_dims_t strides = {0};
  dnnl_dim_t stride = 1;
  for (int i = rank - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= dims[i];
  }
  dnnl_memory_desc_init_by_strides(&d, rank, dims, dnnl_f32, strides);
  return d;
}

dnnl_memory_desc_t pass_block_format(int rank, const dnnl_dim_t *dims, int64_t block) {
  static const dnnl_format_tag_t tags[2][3] = {{dnnl_aBc8b, dnnl_aBcd8b, dnnl_aBcde8b},
                                               {dnnl_aBc16b, dnnl_aBcd16b, dnnl_aBcde16b}};
  dnnl_memory_desc_t d;
  if (!block) return pass_plain_format(rank, dims);
  dnnl_memory_desc_init_by_tag(&d, rank, dims, dnnl_f32, tags[block == 16][rank - 3]);
  return d;
}

dnnl_memory_desc_t pass_any_format(int rank, const dnnl_dim_t *dims) {
  dnnl_memory_desc_t d;
  dnnl_memory_desc_init_by_tag(&d, rank, dims, dnnl_f32, dnnl_format_tag_any);
  return d;
}

static size_t aligned(size_t bytes) {
  return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static const dnnl_alg_kind_t activations[] = {[ACTIVATION_GELU] = dnnl_eltwise_gelu_erf,
                                              [ACTIVATION_GELU_TANH] = dnnl_eltwise_gelu_tanh,
                                              [ACTIVATION_RELU] = dnnl_eltwise_relu,
                                              [ACTIVATION_CLIP] = dnnl_eltwise_clip,
                                              [ACTIVATION_HARD_SWISH] = dnnl_eltwise_hardswish};

/* The library's own scratchpad would belong to the thread that made the primitive; the caller's belongs to
 * the call. */
static status attributes_new(dnnl_primitive_attr_t *a, const finish *f) {
  status st = STATUS_OK;
  dnnl_post_ops_t more = NULL;
  LIBRARY(dnnl_primitive_attr_create(a));
  LIBRARY(dnnl_primitive_attr_set_scratchpad_mode(*a, dnnl_scratchpad_mode_user));
  if (!f) goto done;
  LIBRARY(dnnl_post_ops_create(&more));
  if (f->sum) LIBRARY(dnnl_post_ops_append_sum(more, 1));
  if (f->after) LIBRARY(dnnl_post_ops_append_eltwise(more, 1, activations[f->after], f->a, f->b));
  LIBRARY(dnnl_primitive_attr_set_post_ops(*a, more));
done:
  if (more) dnnl_post_ops_destroy(more);
  return st;
}

status pass_describe(const library *l, dnnl_status_t initialised, const_dnnl_op_desc_t operation,
                     const finish *f, const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd) {
  status st = STATUS_OK;
  dnnl_primitive_attr_t a = NULL;
  dnnl_status_t code = initialised;
  TRY(attributes_new(&a, f));
  *pd = NULL;
  if (code == dnnl_success) code = dnnl_primitive_desc_create(pd, operation, a, l->engine, hint);
  if (code == dnnl_unimplemented || code == dnnl_invalid_arguments) {
    *pd = NULL;
  } else if (code != dnnl_success) {
    st = library_error(code, "dnnl_primitive_desc_create");
  }
done:
  if (a) dnnl_primitive_attr_destroy(a);
  return st;
}

static status reorder_new(const library *l, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                          dnnl_primitive_t *out) {
  status st = STATUS_OK;
  dnnl_primitive_desc_t pd = NULL;
  LIBRARY(dnnl_reorder_primitive_desc_create(&pd, from, l->engine, to, l->engine, NULL));
  LIBRARY(dnnl_primitive_create(out, pd));
done:
  if (pd) dnnl_primitive_desc_destroy(pd);
  return st;
}

static status port_reorders(const library *l, port *p, const dnnl_memory_desc_t *plain,
                            const dnnl_memory_desc_t *own) {
  status st = STATUS_OK;
  if (p->kind != PORT_OUT) TRY(reorder_new(l, plain, own, &p->in));
  if (p->kind == PORT_OUT || p->kind == PORT_IN_OUT) TRY(reorder_new(l, own, plain, &p->out));
  p->plain_own[0] = (dnnl_exec_arg_t){DNNL_ARG_FROM, p->plain};
  p->plain_own[1] = (dnnl_exec_arg_t){DNNL_ARG_TO, p->own};
  p->own_plain[0] = (dnnl_exec_arg_t){DNNL_ARG_FROM, p->own};
  p->own_plain[1] = (dnnl_exec_arg_t){DNNL_ARG_TO, p->plain};
done:
  return st;
}

static status port_new(const library *l, port *p, const dnnl_memory_desc_t *own, int64_t block,
                       size_t *scratch_bytes) {
  status st = STATUS_OK;
  dnnl_memory_desc_t plain = pass_block_format(own->ndims, own->dims, block);
  LIBRARY(dnnl_memory_create(&p->own, own, l->engine, DNNL_MEMORY_NONE));
  p->plain = p->own;
  if (p->kind == PORT_OPAQUE || dnnl_memory_desc_equal(&plain, own)) return STATUS_OK;
  LIBRARY(dnnl_memory_create(&p->plain, &plain, l->engine, DNNL_MEMORY_NONE));
  TRY(port_reorders(l, p, &plain, own));
  size_t bytes = dnnl_memory_desc_get_size(own);
  if (p->kind == PORT_PACKED) {
    TRY(mem_new(&p->packed, bytes, 1));
    LIBRARY(dnnl_memory_set_data_handle_v2(p->own, p->packed, l->stream));
  } else {
    p->offset = *scratch_bytes;
    *scratch_bytes += aligned(bytes);
  }
done:
  return st;
}

void pass_free(pass *p) {
  for (int i = 0; i < p->n_ports; i++) {
    port *q = &p->ports[i];
    if (q->plain && q->plain != q->own) dnnl_memory_destroy(q->plain);
    if (q->own) dnnl_memory_destroy(q->own);
    if (q->in) dnnl_primitive_destroy(q->in);
    if (q->out) dnnl_primitive_destroy(q->out);
    mem_free(q->packed);
  }
  if (p->scratchpad) dnnl_memory_destroy(p->scratchpad);
  if (p->primitive) dnnl_primitive_destroy(p->primitive);
  *p = (pass){0};
}

status pass_new(pass *p, const library *l, dnnl_primitive_desc_t pd, const port_row *rows, int n_rows) {
  status st = STATUS_OK;
  LIBRARY(dnnl_primitive_create(&p->primitive, pd));
  for (int i = 0; i < n_rows; i++) {
    const dnnl_memory_desc_t *own = dnnl_primitive_desc_query_md(pd, rows[i].query, rows[i].index);
    if (!own || own->ndims == 0) continue; /* no such array in this variant: no workspace of an average */
    port *q = &p->ports[p->n_ports++];
    q->argument = rows[i].argument;
    q->kind = rows[i].kind;
    TRY(port_new(l, q, own, rows[i].block, &p->scratch_bytes));
    p->arguments[p->n_ports - 1] = (dnnl_exec_arg_t){q->argument, q->own};
  }
  const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  LIBRARY(dnnl_memory_create(&p->scratchpad, pad, l->engine, DNNL_MEMORY_NONE));
  p->arguments[p->n_ports] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratchpad};
  p->scratchpad_offset = p->scratch_bytes;
  p->scratch_bytes += aligned(dnnl_memory_desc_get_size(pad));
done:
  return st;
}

static port *pass_port(pass *p, int argument) {
  for (int i = 0; i < p->n_ports; i++) {
    if (p->ports[i].argument == argument) return &p->ports[i];
  }
  return NULL;
}

/* A pass that needs no scratch may get none. */
static void *scratch_at(void *scratch, size_t offset) {
  return scratch ? (char *)scratch + offset : NULL;
}

status pass_place(pass *p, const library *l, int argument, const void *array, void *scratch) {
  status st = STATUS_OK;
  port *q = pass_port(p, argument);
  if (!q) return STATUS_OK;
  LIBRARY(dnnl_memory_set_data_handle_v2(q->plain, (void *)array, l->stream));
  if (q->plain != q->own) {
    LIBRARY(dnnl_memory_set_data_handle_v2(q->own, scratch_at(scratch, q->offset), l->stream));
  }
done:
  return st;
}

status pass_pack(pass *p, const library *l, int argument, const float *array) {
  status st = STATUS_OK;
  port *q = pass_port(p, argument);
  LIBRARY(dnnl_memory_set_data_handle_v2(q->plain, (void *)array, l->stream));
  if (q->in) LIBRARY(dnnl_primitive_execute(q->in, l->stream, 2, q->plain_own));
done:
  return st;
}

status pass_run(pass *p, const library *l, int skip, void *scratch) {
  status st = STATUS_OK;
  LIBRARY(
      dnnl_memory_set_data_handle_v2(p->scratchpad, scratch_at(scratch, p->scratchpad_offset), l->stream));
  for (int i = 0; i < p->n_ports; i++) {
    const port *q = &p->ports[i];
    if (!q->in || q->kind == PORT_PACKED || q->argument == skip) continue;
    LIBRARY(dnnl_primitive_execute(q->in, l->stream, 2, q->plain_own));
  }
  LIBRARY(dnnl_primitive_execute(p->primitive, l->stream, p->n_ports + 1, p->arguments));
  for (int i = 0; i < p->n_ports; i++) {
    const port *q = &p->ports[i];
    if (q->out) LIBRARY(dnnl_primitive_execute(q->out, l->stream, 2, q->own_plain));
  }
done:
  return st;
}

bool pass_same_format(const port *a, const port *b) {
  const dnnl_memory_desc_t *da, *db;
  if (!a->in || !b->in) return false;
  return dnnl_memory_get_memory_desc(a->own, &da) == dnnl_success &&
         dnnl_memory_get_memory_desc(b->own, &db) == dnnl_success && dnnl_memory_desc_equal(da, db);
}
