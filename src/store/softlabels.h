/* Soft-label files: one per teacher, and the same for an ensemble.
 *
 *     /                  attributes: format="mpistill-softlabels", version=1, teacher, model_hash,
 *                        dataset_hash, split, encoding, block_rows, batch_rows; top-k: n_classes (C);
 *                        where the dataset has those: scale_offset_classes, their hash;
 *                        ensembles: method, teachers (names), weights, temperature; where they have them
 *                        calibration, floor, epsilon, delta; labels of changed rows: augment, augment_seed
 *                        (texts), views; regression: values = 1; made on unlike processors:
 *                        mixed_processors = 1
 *     /logits            [n, C(, ...)] float16 or float32, before any temperature; encoding = "dense"; with
 *                        values = 1 numbers that are no logits, [n, ...]; a model's [n, T, C] stands here as
 *                        [n, C, T]
 *     /answered          [n] uint8, 0: the teachers gave that row no answer, its logits say nothing
 *                        (optional, dense only)
 *     /topk/index        [n(, ...), K] int32, the K largest, largest first; encoding = "topk"
 *     /topk/logit        [n(, ...), K] float16 or float32
 *     /topk/rest         [n(, ...)] float32, log-sum-exp of all others; -infinity where there are none
 *                        (K = C), and only there
 *     /features/<tensor> [n, ...] float16 or float32 (optional): inner tensors of the teacher; a '/' in the
 *                        tensor's name is written '|'
 *     /classes           [C] strings or int32 (optional)
 *     /weights           [teachers, C] float64: of an ensemble with weights by class
 *     /blocks/done       [blocks] uint8, 1: the block's rows are complete
 *     /blocks/checksum   [blocks] uint64, XXH3 of the block's bytes of every array, in the order listed here,
 *                        features by name
 *
 * Files are made whole first (metadata, early allocation, no fill, flush) under NAME.part; then any rank
 * writes any block with raw writes only; the last step reads all blocks back, flushes and renames. Whatever
 * the number of ranks, the bytes are the same. Nothing orders a block's data, flag and checksum on the disk:
 * what counts as done is what matches its checksum.
 *
 * Labels of views (learn/augment.h): n is the number of views times that of the dataset's rows, and place
 * v * rows + r is that of row r in view v.
 *
 * A file of another system needs format, version, split, encoding, dataset_hash (dataset.h says how it is
 * computed) and /logits or /topk; without /blocks it counts as whole. Its numbers may be float64 and its
 * indices int64; it may be chunked and compressed. A top-k file needs n_classes or /classes. Other objects in
 * it are left alone. */
#ifndef MPISTILL_STORE_SOFTLABELS_H
#define MPISTILL_STORE_SOFTLABELS_H

#include "store/dataset.h"

enum { SOFTLABELS_MAX_FEATURES = 32 };

/* An inner tensor of the teacher, as a file has it. */
typedef struct softlabels_feature {
  char *name;                   /* of the tensor */
  char *object;                 /* "/features/<name>", set by this layer; NULL where a header is made */
  element type;                 /* of our own files: that of the logits */
  int rank;                     /* at least 2 */
  int64_t dims[ARRAY_MAX_RANK]; /* [n, ...] */
} softlabels_feature;

typedef struct softlabels_header {
  char *teacher;      /* name; "ensemble" for one */
  char *model_hash;   /* "" when unknown */
  char *dataset_hash; /* "" when the file has none */
  char *reading;      /* dataset_reading when they were made: attribute scale_offset_classes; "": none, or not
                         known */
  char *split;
  element type;                 /* of logits: FLOAT16 or FLOAT32 */
  int rank;                     /* of /logits: 2 for [n, C] */
  int64_t dims[ARRAY_MAX_RANK]; /* [n, C(, ...)] whatever the encoding */
  int64_t top_k;                /* 0: dense */
  int64_t values;               /* 1: /logits holds numbers that are no logits */
  int64_t block_rows;           /* rows a block (the last may have fewer) */
  int64_t batch_rows;           /* rows a forward pass */
  char *method;                 /* "" for a teacher's own file */
  int n_teachers;               /* ensemble: */
  char **teachers;
  double *weights;
  double *calibration;      /* [teachers] temperatures that their logits were divided by first; NULL: none */
  double *class_weights;    /* [teachers, C]; NULL: one weight a teacher */
  double temperature;       /* ensemble of a rule that is not linear in logits: made for this T; 0: any */
  double floor;             /* least probability that was given a logit; 0: none */
  double epsilon, delta;    /* what the ensemble reveals of the teachers' data at most; 0: not known */
  bool partial;             /* there is /answered */
  char *augment;            /* what the rows were changed by, as in distill's options; "": they were not */
  char *augment_seed;       /* a number; "" when they were not */
  int64_t views;            /* how many there are; 0: one */
  int64_t mixed_processors; /* 1: ranks might have unlike ones: not the same bytes again */
  int n_classes;            /* /classes; 0: the dataset's */
  char **classes;
  int n_features; /* in the order of softlabels_feature_order, each once */
  softlabels_feature *features;
} softlabels_header;

void softlabels_header_clear(softlabels_header *h);
static inline int64_t softlabels_views(const softlabels_header *h) {
  return h->views > 0 ? h->views : 1;
}

typedef struct softlabels softlabels;

/* Collective. Makes PATH.part complete with its metadata. With `resume`, an existing PATH.part whose header
 * equals h is opened instead, and every block marked done is verified by its checksum (shared among the
 * ranks); done[] (owned by the object, softlabels_done) tells which remain. */
status softlabels_create(softlabels **out, comm *c, const char *path, const softlabels_header *h,
                         bool resume);
const unsigned char *softlabels_done(const softlabels *s); /* [n_blocks] */

/* Local. Writes one block: logits [rows_of_block, C, ...] float. Converts to the file's type, or takes the
 * top k (ties: the lower class first); marks it done. h->partial: a row that begins with NaN has no
 * answer. STATUS_BAD_INPUT naming teacher, row and class for NaN
 * or infinity, and for values too large for float16 ("--dtype float32"). */
status softlabels_write(softlabels *s, int64_t block, const float *logits);
/* The same for a file with features: features[n_features] of [rows_of_block, ...] float, in the header's
 * order. */
status softlabels_write_all(softlabels *s, int64_t block, const float *logits, const float *const *features);

/* Collective. Flushes to disk, reads all blocks back and renames PATH.part to PATH; every rank says with
 * `mine` whether it succeeded. On failure PATH.part stays. */
status softlabels_finish(softlabels *s, status mine);
/* Collective. The same without renaming: PATH.part is whole, for the caller to commit (base/file.h). */
status softlabels_complete(softlabels *s, status mine);

/* Collective. Closes a file that was not finished and removes PATH.part. */
void softlabels_discard(softlabels **s);

/* Collective. *is: the file says of itself that it holds soft labels. */
status softlabels_recognise(comm *c, const char *path, bool *is);

/* Collective. Opens PATH for reading and checks what the headers show. */
status softlabels_open(softlabels **out, comm *c, const char *path);
void softlabels_close(softlabels **s); /* collective */
const softlabels_header *softlabels_get(const softlabels *s);
const char *softlabels_path(const softlabels *s);
int64_t softlabels_n_blocks(const softlabels *s);

/* Collective. STATUS_BAD_INPUT unless the file belongs to that split of that dataset (hash, split, rows).
 * trust_rows: a missing hash is accepted. */
status softlabels_match(const softlabels *s, dataset *d, const split *sp, bool trust_rows);

/* Local. Rows [from, from + n) as float logits [n, C, ...]. Top-k files: the rest's mass is spread evenly
 * over the other classes (rest - log(C - K) each), exact for k = C. Rows without an answer are NaN.
 * STATUS_BAD_INPUT naming file, row and class for NaN or infinity. */
status softlabels_read(softlabels *s, int64_t from, int64_t n, float *out);

/* Collective. All logits in memory shared by the node (or on demand), for training; softlabels_rows then
 * gives any rows, from any thread. */
status softlabels_load(softlabels *s, size_t memory_limit);
status softlabels_rows(softlabels *s, const int64_t *ids, int64_t n, float *out);

/* Local. Less than, equal to or greater than 0: the order of the features in a header by their names. */
int softlabels_feature_order(const char *a, const char *b);
/* Local. The place of a tensor among the features, -1: the file has none of that name. */
int softlabels_feature_find(const softlabels *s, const char *name);
/* As softlabels_load and softlabels_rows, of one feature: out[n, ...]. */
status softlabels_feature_load(softlabels *s, int feature, size_t memory_limit); /* collective */
status softlabels_feature_rows(softlabels *s, int feature, const int64_t *ids, int64_t n, float *out);

/* Collective. Reads everything and checks the checksums: STATUS_BAD_INPUT naming the blocks that do not
 * match. Without checksums: that all numbers are finite. */
status softlabels_verify(softlabels *s);
/* Collective. The same before a file is used, where it has checksums; numbers of others are looked at as they
 * are read. */
status softlabels_check(softlabels *s);
bool softlabels_has_checksums(const softlabels *s);

#endif
