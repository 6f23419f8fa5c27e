/* Rules that make one set of soft labels out of several teachers': one struct a rule, a row in combine.c.
 *
 * z_k: the logits of teacher k, p_k = softmax(z_k/T), w_k its weight; y the label. What a rule leaves without
 * an answer (partial) is a row of NaN: files and losses know such rows. */
#ifndef MPISTILL_LEARN_COMBINE_H
#define MPISTILL_LEARN_COMBINE_H

#include "mpistill/mpistill.h"

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { COMBINE_MAX_TEACHERS = 4096, COMBINE_UNION_CLASSES = 16384 };

/* Of rules that learn weights with the student. */
typedef struct combine_learning {
  const float *features; /* [rows, width] of the student */
  int64_t width;
  const float *parameters; /* [n_parameters] */
  float *gradient;         /* [n_parameters] of scale * KL(out || student at T), added; NULL: not wanted */
  double scale;
} combine_learning;

typedef struct combine_batch {
  int n_teachers;             /* K, from 1 to COMBINE_MAX_TEACHERS */
  int64_t rows, classes;      /* C */
  const float *const *logits; /* [K] of [rows, C] */
  const float *student;       /* [rows, C] its logits, for rules of training; else NULL */
  const unsigned char *const
      *known;            /* [K] of [C], 1: the teacher knows the class; NULL: all of them. For rules
                            that unite; logits of others are -infinity, or that of its class '*' */
  const bool *others;    /* [K] the teacher has a class '*' for all that it does not know; NULL: none */
  const double *weights; /* [K], >= 0, sum 1 */
  const double *log_class_weights; /* [K, C], logarithms, in place of `weights`: learned; else NULL */
  double temperature;              /* T */
  const int32_t *labels;           /* [rows], -1: none; for rules that need them */
  const int64_t *ids;              /* [rows] their places in the dataset: what random numbers are drawn by */
  uint64_t seed;
  uint64_t step;                             /* of training, for rules of it */
  const combine_learning *learning;          /* for rules that learn; else NULL */
  const mpistill_aggregate_options *options; /* the noise of pate-*; else not read */
} combine_batch;

typedef struct combine_kind {
  const char *name;           /* "probability-mean" */
  const char *formula;        /* with source, for --help-methods */
  const char *needs;          /* in words, for --help-methods; NULL: nothing but the soft labels */
  bool linear;                /* the result serves every temperature: the file's temperature is 0 ("any") */
  bool of_one;                /* so it does of one teacher, whom it then leaves as it is */
  bool in_training;           /* reads the student or the step: a rule of distill, not of aggregate */
  bool unites;                /* takes teachers that know some of the classes */
  bool needs_labels;          /* reads the labels of the rows it combines */
  bool learned;               /* its weights are found from labelled rows first (stacking.h) */
  bool partial;               /* may leave rows without an answer */
  int max_teachers;           /* 0: COMBINE_MAX_TEACHERS */
  double floor;               /* the least probability it gives a class, 0: none */
  const char *const *options; /* of mpistill_aggregate_options by their keys, NULL-ended */
  /* out[rows, C]: logits whose softmax at T is the combination. Rows are independent; sums over teachers in
   * order, in double. STATUS_BAD_INPUT or STATUS_FAILED name the row (its id) that cannot be combined. */
  status (*rows)(const combine_batch *b, float *out);
  /* Numbers that are learned from a student's tensor of `width` values a row, and where they begin; NULL:
   * none. */
  int64_t (*n_parameters)(int n_teachers, int64_t width);
  void (*initial)(int n_teachers, int64_t width, uint64_t seed, float *to);
  status (*check)(const mpistill_aggregate_options *o); /* NULL: nothing to check */
  /* The epsilon of (epsilon, o->delta)-differential privacy towards any one teacher's data, whatever the data
   * are, of that many rows asked and answered. NULL: there is no such promise. */
  double (*epsilon)(const mpistill_aggregate_options *o, double asked, double answered);
} combine_kind;

const combine_kind *const *combine_kinds(void); /* NULL-ended */
const combine_kind *combine_find(const char *name);
/* Whether the combination of so many teachers serves every temperature that they serve. */
bool combine_any_temperature(const combine_kind *k, int64_t n_teachers);
/* Local. The rows of a kind as they are learned from and stored. One teacher stays as it is. Logits for one
 * temperature alone are the same with any number added to a row: the largest of each is 0, for at a high one,
 * among many classes, all would be near -T log C, where steps of float16 are coarse. */
status combine_rows(const combine_kind *k, const combine_batch *b, float *out);
/* Whether the kind reads that key of mpistill_aggregate_options. */
bool combine_reads(const combine_kind *k, const char *key);
/* Whether rows can be combined as they are read, in any order: no labels, nothing found first, no budget. */
bool combine_on_the_fly(const combine_kind *k);
/* Local. Of n <= 64 vectors whose products are a[n, n]: w[n] >= 0, of sum 1, none above `most`, that make
 * |sum_i w_i v_i| least. */
void combine_shortest(int n, const double *a, double most, double *w);

#endif
