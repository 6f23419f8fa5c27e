/* What the files of softlabels_*.c share. */
#ifndef MPISTILL_STORE_SOFTLABELS_PRIVATE_H
#define MPISTILL_STORE_SOFTLABELS_PRIVATE_H

#include "store/column.h"
#include "store/softlabels.h"
#include "store/wire.h"

/* The arrays that hold the logits: /logits and perhaps /answered, or those of /topk; then those of /features.
 * A block's checksum runs over them in this order. */
enum {
  PART_LOGITS = 0,
  PART_ANSWERED = 1,
  PART_INDEX = 0,
  PART_LOGIT = 1,
  PART_REST = 2,
  LOGIT_PARTS_MAX = 3,
  PARTS_MAX = LOGIT_PARTS_MAX + SOFTLABELS_MAX_FEATURES
};
typedef struct part {
  const char *object; /* borrowed: of the program's text, or of a feature in the header */
  int type, rank;
  int64_t dims[ARRAY_MAX_RANK];
  size_t row_bytes;
} part;

typedef struct softlabels_raw { /* this rank's handle for writing blocks, opened with its first one */
  hid_t file;
  h5_array parts[PARTS_MAX], done, checksum;
  unsigned char *bytes; /* of one block */
  int descriptor;       /* of the same file, to have the disk begin early; 0, -1: none */
} softlabels_raw;

struct softlabels {
  comm *c; /* borrowed */
  char *path, *part_path;
  softlabels_header h;
  int64_t classes, positions; /* C, and the product of the dimensions behind it */
  int n_parts, n_logit_parts;
  part parts[PARTS_MAX];
  int n_blocks;
  bool has_blocks;
  unsigned char *done;       /* [n_blocks] when has_blocks */
  column columns[PARTS_MAX]; /* reading */
  softlabels_raw raw;        /* writing */
};

enum { BLOCK_MISSING, BLOCK_GOOD, BLOCK_BAD };

/* softlabels_header.c */
status softlabels_fetch(softlabels *s, comm *c,
                        const char *path); /* collective; what the headers show into s */
status softlabels_layout(softlabels *s);   /* parts and blocks from s->h */
status softlabels_header_copy(softlabels_header *to, const softlabels_header *from);

/* softlabels_features.c */
void softlabels_features_clear(softlabels_header *h);
status softlabels_features_parse(softlabels *s, hid_t file); /* /features of a file into s->h */
status softlabels_features_wire(wire *w, softlabels_header *h);
status softlabels_features_layout(softlabels *s); /* checks them, adds their parts */
status softlabels_features_same(const char *path, const softlabels_header *begun,
                                const softlabels_header *now);
void softlabels_part_add(softlabels *s, const char *object, int type, int rank, const int64_t *dims);
status softlabels_header_write(hid_t file, const char *path, const softlabels *s);
status softlabels_header_same(const char *path, const softlabels_header *begun, const softlabels_header *now);

/* softlabels_verify.c: collective; states[n_blocks], the same on all ranks, of what is in the file at path.
 */
status softlabels_states(softlabels *s, const char *path, int64_t *states);
/* "3, 7, 9, ..." */
void softlabels_list(const softlabels *s, const int64_t *states, int64_t state, char *text, size_t room);
int64_t softlabels_count(const softlabels *s, const int64_t *states, int64_t state);

static inline int64_t softlabels_block_rows(const softlabels *s, int64_t block) {
  int64_t left = s->h.dims[0] - block * s->h.block_rows;
  return left < s->h.block_rows ? left : s->h.block_rows;
}

#endif
