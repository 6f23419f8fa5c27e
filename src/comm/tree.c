#include "comm/tree.h"

#include "base/bfloat16.h"
#include "base/mem.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#include <string.h>

status tree_new(tree **out, int n_inputs) {
  status st = STATUS_OK;
  TRY(mem_new(out, 1, sizeof **out));
  (*out)->room = 2 * n_inputs; /* a merge an input, a copy an output */
  TRY(mem_new(&(*out)->adds, (size_t)(*out)->room, sizeof *(*out)->adds));
done:
  if (st) tree_free(out);
  return st;
}

void tree_free(tree **t) {
  if (!*t) return;
  mem_free((*t)->adds);
  mem_free(*t);
  *t = NULL;
}

void tree_start(tree *t, int n_shards) {
  t->n_shards = n_shards;
  t->n_inputs = t->n_adds = t->n_left = 0;
}

/* The place of scratch for stack position j. */
static int scratch_place(int j) {
  return -1 - j;
}

/* A left child without a sibling is its parent. */
static tree_node pass_through(tree_node node, int n_shards) {
  while (node.index > 0 && node.index % 2 == 0 && ((long long)node.index + 1) << node.level >= n_shards) {
    node.level++;
    node.index /= 2;
  }
  return node;
}

/* Two sums just made of the same number of inputs, where one pass can read them all: it does. */
static bool fuse(tree *t, int j) {
  int a = t->maker[j - 1], b = t->maker[j];
  if (a < 0 || b != a + 1 || b != t->n_adds - 1 || t->adds[a].n != t->adds[b].n) return false;
  int n = t->adds[a].n;
  if (2 * n > TREE_FUSED) return false;
  memcpy(t->adds[a].from + n, t->adds[b].from, (size_t)n * sizeof(int));
  t->adds[a].n = 2 * n;
  t->n_adds--;
  return true;
}

static void merge(tree *t, int j) {
  if (!fuse(t, j)) {
    t->adds[t->n_adds] = (tree_add){.n = 2, .from = {t->place[j - 1], t->place[j]}};
    t->maker[j - 1] = t->n_adds++;
  }
  tree_node left = t->left[j - 1];
  t->left[j - 1] = pass_through((tree_node){left.level + 1, left.index / 2}, t->n_shards);
  t->adds[t->maker[j - 1]].to = t->place[j - 1] = scratch_place(j - 1);
  t->n_left--;
}

void tree_push(tree *t, tree_node node) {
  int j = t->n_left++;
  t->left[j] = pass_through(node, t->n_shards);
  t->place[j] = t->first[j] = t->n_inputs++;
  t->maker[j] = -1;
  for (; j > 0; j--) {
    tree_node a = t->left[j - 1], b = t->left[j];
    if (a.level != b.level || b.index % 2 == 0 || a.index + 1 != b.index) break;
    merge(t, j);
  }
}

void tree_end(tree *t) {
  /* The last add of an output writes there at once. */
  for (int j = 0; j < t->n_left; j++) {
    if (t->maker[j] >= 0)
      t->adds[t->maker[j]].to = t->n_inputs + j;
    else
      t->adds[t->n_adds++] = (tree_add){.to = t->n_inputs + j, .n = 1, .from = {t->place[j]}};
  }
}

/* `to` may be v[0]. */
static void add(float *to, float *const *v, int n_vectors, size_t n) {
  const float *a = v[0], *b = v[1], *c = v[2], *d = v[3], *e = v[4], *f = v[5], *g = v[6], *h = v[7];
  switch (n_vectors) {
  case 2:
#pragma omp simd aligned(to, a, b : 64)
    for (size_t i = 0; i < n; i++) to[i] = a[i] + b[i];
    break;
  case 4:
#pragma omp simd aligned(to, a, b, c, d : 64)
    for (size_t i = 0; i < n; i++) to[i] = (a[i] + b[i]) + (c[i] + d[i]);
    break;
  case 8:
#pragma omp simd aligned(to, a, b, c, d, e, f, g, h : 64)
    for (size_t i = 0; i < n; i++) to[i] = ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]));
    break;
  default: /* a copy */
    if (to != a) memcpy(to, a, n * sizeof *to);
  }
}

static inline float sum(float a, float b) {
  return bfloat16_round(bfloat16_round(a) + bfloat16_round(b));
}

/* The same, rounded. */
static void add_rounded(float *to, float *const *v, int n_vectors, size_t n) {
  const float *a = v[0], *b = v[1], *c = v[2], *d = v[3], *e = v[4], *f = v[5], *g = v[6], *h = v[7];
  switch (n_vectors) {
  case 2:
#pragma omp simd aligned(to, a, b : 64)
    for (size_t i = 0; i < n; i++) to[i] = sum(a[i], b[i]);
    break;
  case 4:
#pragma omp simd aligned(to, a, b, c, d : 64)
    for (size_t i = 0; i < n; i++) to[i] = sum(sum(a[i], b[i]), sum(c[i], d[i]));
    break;
  case 8:
#pragma omp simd aligned(to, a, b, c, d, e, f, g, h : 64)
    for (size_t i = 0; i < n; i++)
      to[i] = sum(sum(sum(a[i], b[i]), sum(c[i], d[i])), sum(sum(e[i], f[i]), sum(g[i], h[i])));
    break;
  default: /* a copy */
#pragma omp simd aligned(to, a : 64)
    for (size_t i = 0; i < n; i++) to[i] = bfloat16_round(a[i]);
  }
}

/* What the threads of one tree_run share. */
typedef struct run {
  const tree *t;
  const tree_vector *inputs, *outputs;
} run;

static float *at(const run *r, int place, size_t begin, float *scratch) {
  if (place < 0) return scratch + (size_t)(-1 - place) * TREE_CHUNK;
  const tree_vector *v = place < r->t->n_inputs ? &r->inputs[place] : &r->outputs[place - r->t->n_inputs];
  return v->data + (begin - v->origin);
}

static void run_chunk(const run *r, size_t begin, size_t n, float *scratch) {
  for (int i = 0; i < r->t->n_adds; i++) {
    const tree_add *op = &r->t->adds[i];
    float *v[TREE_FUSED] = {NULL};
    for (int k = 0; k < op->n; k++) v[k] = at(r, op->from[k], begin, scratch);
    (r->t->bfloat16 ? add_rounded : add)(at(r, op->to, begin, scratch), v, op->n, n);
  }
}

void tree_run(const tree *t, const tree_vector *inputs, const tree_vector *outputs, size_t begin, size_t end,
              int threads, float *scratch) {
  const run r = {t, inputs, outputs};
  size_t n_chunks = (end - begin + TREE_CHUNK - 1) / TREE_CHUNK;
#pragma omp parallel num_threads(threads) if (threads > 1 && n_chunks > 1)
  {
    int thread = 0;
#ifdef _OPENMP
    thread = omp_get_thread_num();
#endif
    float *mine = scratch + (size_t)thread * TREE_DEPTH * TREE_CHUNK;
#pragma omp for schedule(static)
    for (size_t i = 0; i < n_chunks; i++) {
      size_t from = begin + i * TREE_CHUNK;
      run_chunk(&r, from, end - from < TREE_CHUNK ? end - from : TREE_CHUNK, mine);
    }
  }
}

void tree_rows(double *rows, int n, int width) {
  for (int step = 1; step < n; step *= 2)
    for (int i = 0; i + step < n; i += 2 * step)
      for (int k = 0; k < width; k++) rows[(size_t)i * width + k] += rows[(size_t)(i + step) * width + k];
}
