#include "comm/tree.h"

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
  return -2 - j;
}

/* A left child without a sibling is its parent. */
static tree_node pass_through(tree_node node, int n_shards) {
  while (node.index > 0 && node.index % 2 == 0 && ((long long)node.index + 1) << node.level >= n_shards) {
    node.level++;
    node.index /= 2;
  }
  return node;
}

void tree_push(tree *t, tree_node node) {
  int j = t->n_left++;
  t->left[j] = pass_through(node, t->n_shards);
  t->place[j] = t->n_inputs++;
  t->maker[j] = -1;
  for (; j > 0; j--) {
    tree_node a = t->left[j - 1], b = t->left[j];
    if (a.level != b.level || b.index % 2 == 0 || a.index + 1 != b.index) break;
    t->adds[t->n_adds] = (tree_add){scratch_place(j - 1), t->place[j - 1], t->place[j]};
    t->left[j - 1] = pass_through((tree_node){a.level + 1, a.index / 2}, t->n_shards);
    t->place[j - 1] = scratch_place(j - 1);
    t->maker[j - 1] = t->n_adds++;
    t->n_left--;
  }
}

void tree_end(tree *t) {
  /* The last add of an output writes there at once. */
  for (int j = 0; j < t->n_left; j++) {
    if (t->maker[j] >= 0)
      t->adds[t->maker[j]].to = t->n_inputs + j;
    else
      t->adds[t->n_adds++] = (tree_add){t->n_inputs + j, t->place[j], TREE_COPY};
  }
}

static void add(float *to, const float *a, const float *b, size_t n) {
#pragma omp simd aligned(to, a, b : 64)
  for (size_t i = 0; i < n; i++) to[i] = a[i] + b[i];
}

/* What the threads of one tree_run share. */
typedef struct run {
  const tree *t;
  const tree_vector *inputs, *outputs;
} run;

static float *at(const run *r, int place, size_t begin, float *scratch) {
  if (place <= scratch_place(0)) return scratch + (size_t)(scratch_place(0) - place) * TREE_CHUNK;
  const tree_vector *v = place < r->t->n_inputs ? &r->inputs[place] : &r->outputs[place - r->t->n_inputs];
  return v->data + (begin - v->origin);
}

static void run_chunk(const run *r, size_t begin, size_t n, float *scratch) {
  for (int i = 0; i < r->t->n_adds; i++) {
    const tree_add *op = &r->t->adds[i];
    float *to = at(r, op->to, begin, scratch), *a = at(r, op->a, begin, scratch);
    if (op->b == TREE_COPY) {
      if (to != a) memcpy(to, a, n * sizeof *to);
    } else {
      add(to, a, at(r, op->b, begin, scratch), n);
    }
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
