#include "stages/compare.h"

#include "base/mem.h"
#include "stages/evaluate.h"

#include <math.h>

enum { BLOCK_ROWS = 256 };

/* Of one block; only doubles, so that an array of it can be summed as numbers. */
typedef struct sums {
  double rows, same, distance, largest;
} sums;

typedef struct side {
  predictor *p;
  feed input;
  float *logits;
} side;

static status side_open(side *s, const classifier *k, const float *block, int threads) {
  status st = STATUS_OK;
  TRY(predictor_new(&s->p, k, block, predict_batch_rows(k), threads));
  TRY(mem_new(&s->logits, BLOCK_ROWS, (size_t)head_row_values(&k->heads[0]) * sizeof *s->logits));
done:
  return st;
}

static void side_close(side *s) {
  predictor_free(&s->p);
  feed_close(&s->input);
  mem_free(s->logits);
}

static void add_row(sums *to, const float *a, const float *b, int64_t classes) {
  double distance = 0;
  for (int64_t j = 0; j < classes; j++) {
    double d = fabs((double)a[j] - b[j]);
    distance += d;
    to->largest = fmax(to->largest, d);
  }
  to->rows++;
  to->same += metric_argmax(a, classes) == metric_argmax(b, classes);
  to->distance += distance / (double)classes;
}

static status compare_block(side *a, side *b, int64_t from, int64_t n, const head *h, sums *to) {
  status st = STATUS_OK;
  TRY(predictor_run(a->p, &a->input, from, n, &a->logits, NULL, NULL, NULL));
  TRY(predictor_run(b->p, &b->input, from, n, &b->logits, NULL, NULL, NULL));
  for (int64_t i = 0; i < n * h->positions; i++)
    add_row(to, a->logits + i * h->classes, b->logits + i * h->classes, h->classes);
done:
  return st;
}

static status compare_mine(comm *c, side *a, side *b, int64_t n, const head *h, sums *all, int64_t n_blocks) {
  status st = STATUS_OK;
  for (int64_t i = n_blocks * comm_rank(c) / comm_size(c); i < n_blocks * (comm_rank(c) + 1) / comm_size(c);
       i++) {
    int64_t from = i * BLOCK_ROWS, count = n - from < BLOCK_ROWS ? n - from : BLOCK_ROWS;
    TRY(compare_block(a, b, from, count, h, &all[i]));
  }
done:
  return st;
}

static void add_up(const sums *all, int64_t n_blocks, comparison *out) {
  for (int64_t i = 0; i < n_blocks; i++) {
    out->rows += all[i].rows;
    out->same += all[i].same;
    out->distance += all[i].distance;
    out->largest = fmax(out->largest, all[i].largest);
  }
}

status compare_models(comm *c, const classifier *k, const float *block, dataset *d, const split *sp,
                      const mpistill_evaluate_options *o, const head_options *heads, comparison *out) {
  status st = STATUS_OK, mine;
  subject s = {0};
  side a = {0}, b = {0};
  sums *all = NULL;
  int threads = stage_threads(o->threads);
  int64_t n_blocks = (sp->n + BLOCK_ROWS - 1) / BLOCK_ROWS;
  *out = (comparison){0};
  TRY(subject_open(&s, c,
                   &(model_source){.path = o->against, .pre = &o->preprocess, .heads = heads, .n_heads = 1},
                   d, sp->name, o->input));
  TRY(subject_order(&s, c, d));
  const head *mine_is = &k->heads[0], *its = &s.k.heads[0];
  if (k->n_heads > 1 || mine_is->values)
    THROW(STATUS_BAD_INPUT, "against: models of one task are compared, with classes");
  if (its->classes != mine_is->classes || its->positions != mine_is->positions)
    THROW(STATUS_BAD_INPUT, "%s: gives %lld classes, but %s %lld: they cannot be compared", o->against,
          (long long)its->classes, k->path, (long long)mine_is->classes);
  TRY(evaluate_rows(c, &s.k, s.block, d, sp, threads, false, &out->other));
  TRY(feed_open(&a.input, k, d, sp));
  TRY(feed_open(&b.input, &s.k, d, sp));
  mine = side_open(&a, k, block, threads);
  if (!mine) mine = side_open(&b, &s.k, s.block, threads);
  if (!mine) mine = mem_new(&all, (size_t)n_blocks, sizeof *all);
  if (!mine) mine = compare_mine(c, &a, &b, sp->n, mine_is, all, n_blocks);
  TRY(comm_agree(c, mine));
  TRY(comm_combine(c, (double *)all, (size_t)n_blocks * (sizeof *all / sizeof(double))));
  add_up(all, n_blocks, out);
done:
  side_close(&b);
  side_close(&a);
  mem_free(all);
  subject_close(&s);
  return st;
}
