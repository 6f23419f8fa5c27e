/* What the cores can do at most, on one thread for SECONDS: start one a core to see them share the machine.
 *
 *     bench_limits product SECONDS
 *         Prints the GFLOP/s of large products.
 *     bench_limits conv SECONDS ROWS [CHANNELS HEIGHT WIDTH FILTERS KERNEL STRIDE PADDING DATA]...
 *         Prints the milliseconds that these convolutions of ROWS images take by themselves: forward, for the
 *         gradient of the weight, and, where DATA is 1, for that of the images; each in the library's own
 *         formats, with nothing converted. */
#include "base/mem.h"
#include "base/progress.h"
#include "ops/blas.h"
#include "ops/dnnl_pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 1536, MOST_PASSES = 10000, WARM_UP = 2, NUMBERS = 8, ARGUMENTS = 3 };

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The median time of a call, in seconds. */
static status median_of(status (*call)(void *), void *data, double seconds, double *median) {
  status st = STATUS_OK;
  static double times[MOST_PASSES];
  const double started = clock_seconds();
  int n = 0;
  for (int i = 0; n < MOST_PASSES && (n < 3 || clock_seconds() - started < seconds); i++) {
    const double at = clock_seconds();
    TRY(call(data));
    if (i >= WARM_UP) times[n++] = clock_seconds() - at;
  }
  qsort(times, (size_t)n, sizeof *times, by_value);
  *median = times[n / 2];
done:
  return st;
}

static status multiply(void *data) {
  float **x = data;
  blas_product(false, false, SIDE, SIDE, SIDE, 1, x[0], x[1], false, x[2]);
  return STATUS_OK;
}

static status products(double seconds) {
  status st = STATUS_OK;
  float *x[3] = {NULL};
  double s;
  blas_init();
  for (int i = 0; i < 3; i++) TRY(mem_new(&x[i], (size_t)SIDE * SIDE, sizeof **x));
  for (size_t i = 0; i < (size_t)SIDE * SIDE; i++) x[0][i] = x[1][i] = (float)(i % 17) - 8;
  TRY(median_of(multiply, x, seconds, &s));
  printf("%.2f\n", 2e-9 * SIDE * SIDE * SIDE / s);
done:
  for (int i = 0; i < 3; i++) mem_free(x[i]);
  return st;
}

typedef struct call {
  const library *l;
  dnnl_primitive_t primitive;
  dnnl_exec_arg_t arguments[ARGUMENTS];
  void *arrays[ARGUMENTS];
} call;

static status run(void *data) {
  status st = STATUS_OK;
  const call *c = data;
  LIBRARY(dnnl_primitive_execute(c->primitive, c->l->stream, ARGUMENTS, c->arguments));
  LIBRARY(dnnl_stream_wait(c->l->stream));
done:
  return st;
}

typedef struct array {
  int argument;
  dnnl_query_t query;
} array;

/* A primitive of that description over arrays of zeros. */
static status time_primitive(const library *l, dnnl_primitive_desc_t pd, const array *arrays, double seconds,
                             double *s) {
  status st = STATUS_OK;
  call c = {.l = l};
  LIBRARY(dnnl_primitive_create(&c.primitive, pd));
  for (int i = 0; i < ARGUMENTS; i++) {
    const dnnl_memory_desc_t *d = dnnl_primitive_desc_query_md(pd, arrays[i].query, 0);
    c.arguments[i].arg = arrays[i].argument;
    TRY(mem_new(&c.arrays[i], dnnl_memory_desc_get_size(d), 1));
    LIBRARY(dnnl_memory_create(&c.arguments[i].memory, d, l->engine, c.arrays[i]));
  }
  TRY(median_of(run, &c, seconds, s));
done:
  for (int i = 0; i < ARGUMENTS; i++) {
    if (c.arguments[i].memory) dnnl_memory_destroy(c.arguments[i].memory);
    mem_free(c.arrays[i]);
  }
  if (c.primitive) dnnl_primitive_destroy(c.primitive);
  return st;
}

static status time_convolution(const library *l, int rows, const int *n, double seconds, double *s) {
  static const array forward[] = {{DNNL_ARG_SRC, dnnl_query_src_md},
                                  {DNNL_ARG_WEIGHTS, dnnl_query_weights_md},
                                  {DNNL_ARG_DST, dnnl_query_dst_md}};
  static const array weight[] = {{DNNL_ARG_SRC, dnnl_query_src_md},
                                 {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md},
                                 {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md}};
  static const array images[] = {{DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md},
                                 {DNNL_ARG_WEIGHTS, dnnl_query_weights_md},
                                 {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md}};
  status st = STATUS_OK;
  const int channels = n[0], filters = n[3], kernel = n[4], stride = n[5], padding = n[6];
  const dnnl_dims_t strides = {stride, stride}, pads = {padding, padding};
  dnnl_memory_desc_t x = pass_any_format(4, (dnnl_dim_t[]){rows, channels, n[1], n[2]});
  dnnl_memory_desc_t w = pass_any_format(4, (dnnl_dim_t[]){filters, channels, kernel, kernel});
  dnnl_memory_desc_t y =
      pass_any_format(4, (dnnl_dim_t[]){rows, filters, (n[1] + 2 * padding - kernel) / stride + 1,
                                        (n[2] + 2 * padding - kernel) / stride + 1});
  dnnl_primitive_desc_t first = NULL, pd = NULL;
  dnnl_convolution_desc_t d;
  double some[3] = {0};
  const int n_ways = n[7] ? 3 : 2;
  for (int i = 0; i < n_ways; i++) {
    if (i == 0)
      LIBRARY(dnnl_convolution_forward_desc_init(&d, dnnl_forward_training, dnnl_convolution_direct, &x, &w,
                                                 NULL, &y, strides, pads, pads));
    else if (i == 1)
      LIBRARY(dnnl_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, &x, &w, NULL, &y,
                                                          strides, pads, pads));
    else
      LIBRARY(dnnl_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, &x, &w, &y, strides, pads,
                                                       pads));
    LIBRARY(dnnl_primitive_desc_create(&pd, &d, NULL, l->engine, first));
    TRY(time_primitive(l, pd, i == 0 ? forward : i == 1 ? weight : images, seconds / n_ways, &some[i]));
    if (!first)
      first = pd;
    else
      dnnl_primitive_desc_destroy(pd);
    pd = NULL;
  }
  *s += some[0] + some[1] + some[2];
done:
  if (pd) dnnl_primitive_desc_destroy(pd);
  if (first) dnnl_primitive_desc_destroy(first);
  return st;
}

static status convolutions(double seconds, int rows, int n, char **numbers) {
  status st = STATUS_OK;
  library l = {0};
  double s = 0;
  TRY(library_open(&l));
  for (int i = 0; i + NUMBERS <= n; i += NUMBERS) {
    int c[NUMBERS];
    for (int k = 0; k < NUMBERS; k++) c[k] = atoi(numbers[i + k]);
    TRY(time_convolution(&l, rows, c, seconds * NUMBERS / n, &s));
  }
  printf("%.4f\n", 1e3 * s);
done:
  library_close(&l);
  return st;
}

int main(int n, char **arguments) {
  status st = STATUS_BAD_INPUT;
  if (n == 3 && strcmp(arguments[1], "product") == 0) {
    st = products(atof(arguments[2]));
  } else if (n > 4 && strcmp(arguments[1], "conv") == 0 && (n - 4) % NUMBERS == 0) {
    st = convolutions(atof(arguments[2]), atoi(arguments[3]), n - 4, arguments + 4);
  } else {
    status_set(st, "usage: bench_limits product SECONDS | conv SECONDS ROWS [8 NUMBERS]...");
  }
  if (st) fprintf(stderr, "%s\n", status_message());
  return st;
}
