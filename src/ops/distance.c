/* CDist of ONNX Runtime, as skl2onnx writes nearest neighbours when asked to, and which its scans over rows
 * become (onnx/loop_scan.c): the distances of the rows of a [n, d] to those of b [m, d], sum_k (a_ik -
 * b_jk)^2 or its root. By differences, not by products: the products of large numbers would hide small
 * distances. */
#include "ops/support.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

static bool is_squared(const step *s) {
  return strcmp(node_string(s->node, "metric", "sqeuclidean"), "sqeuclidean") == 0;
}

static status distance_infer(step *s) {
  const char *metric = node_string(s->node, "metric", "sqeuclidean");
  if (!is_squared(s) && strcmp(metric, "euclidean") != 0)
    return step_error(s, "metric '%s' is not supported: euclidean and sqeuclidean are", metric);
  for (int i = 0; i < 2; i++) {
    status st = input_want(s, i, DTYPE_FLOAT);
    if (st) return st;
    if (s->in[i]->shape.rank != 2)
      return step_error(s, "needs matrices, not %d dimensions", s->in[i]->shape.rank);
  }
  const shape *a = &s->in[0]->shape, *b = &s->in[1]->shape;
  if (a->dims[1] != b->dims[1])
    return step_error(s, "rows of %lld numbers cannot be compared with rows of %lld", (long long)a->dims[1],
                      (long long)b->dims[1]);
  step_set_output(s, 0, DTYPE_FLOAT, &(shape){.rank = 2, .dims = {a->dims[0], b->dims[0]}});
  return STATUS_OK;
}

/* to[j] = the squared distance of row a to row j of b, in an order of additions that depends on d alone. */
FOR_EACH_PROCESSOR
static void row_distances(const float *a, const float *b, float *to, int64_t m, int64_t d) {
  for (int64_t j = 0; j < m; j++, b += d) {
    float lanes[LANES] = {0}, sum = 0;
    int64_t k = 0;
    for (; k + LANES <= d; k += LANES) EACH_ALONE for (int l = 0; l < LANES; l++) {
        const float x = a[k + l] - b[k + l];
        lanes[l] += x * x;
      }
    for (; k < d; k++) lanes[k % LANES] += (a[k] - b[k]) * (a[k] - b[k]);
    for (int l = 0; l < LANES; l++) sum += lanes[l];
    to[j] = sum;
  }
}

static status distance_forward(step *s) {
  const int64_t n = s->in[0]->shape.dims[0], m = s->in[1]->shape.dims[0], d = s->in[0]->shape.dims[1];
  const float *a = s->in[0]->data;
  float *to = s->out[0]->data;
  for (int64_t i = 0; i < n; i++) row_distances(a + i * d, s->in[1]->data, to + i * m, m, d);
  for (int64_t i = 0; !is_squared(s) && i < n * m; i++) to[i] = sqrtf(to[i]);
  return STATUS_OK;
}

const op op_CDist = {.name = "CDist",
                     .domain = "com.microsoft",
                     .since = 1,
                     .min_inputs = 2,
                     .max_inputs = 2,
                     .max_outputs = 1,
                     .attributes = (const char *const[]){"metric", NULL},
                     .infer = distance_infer,
                     .forward = distance_forward};
