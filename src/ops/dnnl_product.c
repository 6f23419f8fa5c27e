#include "base/mem.h"
#include "ops/dnnl_pass.h"

#include <stdatomic.h>
#include <string.h>

struct product_kernel {
  library library;
  pass pass;
};

static const port_row ports[] = {{DNNL_ARG_SRC, PORT_OPAQUE, dnnl_query_src_md, 0, 0},
                                 {DNNL_ARG_WEIGHTS, PORT_OPAQUE, dnnl_query_weights_md, 0, 0},
                                 {DNNL_ARG_BIAS, PORT_IN, dnnl_query_weights_md, 1, 0},
                                 {DNNL_ARG_DST, PORT_OUT, dnnl_query_dst_md, 0, 0}};

/* A batch of [rows, columns]; one matrix is rank 2: the library knows more ways for that. turned: it holds
 * [columns, rows]. */
static dnnl_memory_desc_t matrices(int64_t batch, int64_t rows, int64_t columns, bool turned) {
  const int rank = batch > 1 ? 3 : 2;
  dnnl_dims_t dims = {batch}, strides = {rows * columns};
  dims[rank - 2] = rows;
  dims[rank - 1] = columns;
  if (!turned) return pass_plain_format(rank, dims);
  strides[rank - 2] = 1;
  strides[rank - 1] = rows;
  dnnl_memory_desc_t d;
  dnnl_memory_desc_init_by_strides(&d, rank, dims, dnnl_f32, strides);
  return d;
}

static status product_descriptor(const library *l, const product_shape *p, dnnl_primitive_desc_t *pd) {
  dnnl_memory_desc_t x = matrices(p->batch, p->m, p->k, p->turned),
                     w = matrices(p->batch, p->k, p->n, p->transposed);
  dnnl_memory_desc_t y = matrices(p->batch, p->m, p->n, false), bias = matrices(1, 1, p->n, false);
  dnnl_matmul_desc_t d;
  dnnl_status_t code = dnnl_matmul_desc_init(&d, &x, &w, p->bias ? &bias : NULL, &y);
  return pass_describe(l, code, &d, &(finish){.sum = p->add, .after = p->after}, NULL, pd);
}

/* Its kernels for AVX-512 copy at most a few rows and columns at a time; the others pack both matrices. */
static bool is_fast(const_dnnl_primitive_desc_t pd) {
  const char *name = "";
  dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
  return strstr(name, "brg") != NULL;
}

void product_kernel_free(product_kernel **k) {
  if (!*k) return;
  pass_free(&(*k)->pass);
  library_close(&(*k)->library);
  mem_free(*k);
  *k = NULL;
}

status product_kernel_new(product_kernel **out, const product_shape *p) {
  status st = STATUS_OK;
  product_kernel *k = NULL;
  dnnl_primitive_desc_t pd = NULL;
  TRY(mem_new(&k, 1, sizeof *k));
  TRY(library_open(&k->library));
  TRY(product_descriptor(&k->library, p, &pd));
  if (pd && p->fast && !is_fast(pd)) {
    dnnl_primitive_desc_destroy(pd);
    pd = NULL;
  }
  if (pd) TRY(pass_new(&k->pass, &k->library, pd, ports, COUNT(ports)));
done:
  if (k && (st || !pd)) product_kernel_free(&k);
  if (pd) dnnl_primitive_desc_destroy(pd);
  *out = k;
  return st;
}

size_t product_kernel_scratch_bytes(const product_kernel *k) {
  return k->pass.scratch_bytes;
}

status product_kernel_run(product_kernel *k, const float *x, const float *w, const float *bias, float *y,
                          void *scratch) {
  status st = STATUS_OK;
  const library *l = &k->library;
  TRY(pass_place(&k->pass, l, DNNL_ARG_SRC, x, scratch));
  TRY(pass_place(&k->pass, l, DNNL_ARG_WEIGHTS, w, scratch));
  TRY(pass_place(&k->pass, l, DNNL_ARG_BIAS, bias, scratch));
  TRY(pass_place(&k->pass, l, DNNL_ARG_DST, y, scratch));
  TRY(pass_run(&k->pass, l, 0, scratch));
done:
  return st;
}

static bool may_use(dnnl_cpu_isa_t least) {
  return (dnnl_get_effective_cpu_isa() & least) == least;
}

/* The library takes hundreds of instructions to answer. */
int dnnl_vector_floats(void) {
  static atomic_int known;
  int floats = atomic_load_explicit(&known, memory_order_relaxed);
  if (floats) return floats;
  floats = may_use(dnnl_cpu_isa_avx512_core) ? 16 : may_use(dnnl_cpu_isa_avx2) ? 8 : 4;
  atomic_store_explicit(&known, floats, memory_order_relaxed);
  return floats;
}

bool dnnl_product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t a_row, const float *b, int64_t b_row, float beta, float *y, int64_t y_row) {
  if (dnnl_vector_floats() < 8) return false;
  return dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, a_row, b, b_row, beta, y, y_row) ==
         dnnl_success;
}
