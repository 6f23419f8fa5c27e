#include "store/softlabels_private.h"

#include "base/mem.h"
#include "base/profile.h"

#include <stdio.h>

typedef struct reader {
  hid_t file;
  h5_array parts[PARTS_MAX], done, checksum;
  unsigned char *bytes;
} reader;

static void reader_close(reader *r) {
  for (int i = 0; i < PARTS_MAX; i++) h5_array_close(&r->parts[i]);
  h5_array_close(&r->done);
  h5_array_close(&r->checksum);
  h5_close(&r->file);
  mem_free(r->bytes);
}

static status reader_open(reader *r, const softlabels *s, const char *path) {
  status st = STATUS_OK;
  size_t row_bytes = 0;
  int64_t longest = s->h.block_rows < s->h.dims[0] ? s->h.block_rows : s->h.dims[0];
  TRY(h5_open(&r->file, path));
  for (int i = 0; i < s->n_parts; i++) {
    TRY(h5_array_open(&r->parts[i], r->file, path, s->parts[i].object));
    if (r->parts[i].dims[0] != s->h.dims[0] || r->parts[i].row_bytes != s->parts[i].row_bytes)
      THROW(STATUS_BAD_INPUT, "%s: its type or shape has changed since the file was opened",
            r->parts[i].label);
    row_bytes += s->parts[i].row_bytes;
  }
  TRY(h5_array_open(&r->done, r->file, path, "/blocks/done"));
  TRY(h5_array_open(&r->checksum, r->file, path, "/blocks/checksum"));
  TRY(mem_new(&r->bytes, (size_t)longest, row_bytes));
done:
  return st;
}

/* Reads that fail (a torn chunk, a bad sector) make the block a bad one, not the whole file. */
static status block_state(reader *r, const softlabels *s, int64_t block, int64_t *state) {
  status st = STATUS_OK;
  unsigned char done, *at = r->bytes;
  uint64_t checksum;
  int64_t n = softlabels_block_rows(s, block);
  *state = BLOCK_MISSING;
  TRY(h5_array_read(&r->done, block, 1, &done));
  if (done != 1) goto done;
  *state = BLOCK_BAD;
  TRY(h5_array_read(&r->checksum, block, 1, &checksum));
  for (int i = 0; i < s->n_parts; i++) {
    if (h5_array_read(&r->parts[i], block * s->h.block_rows, n, at)) goto done;
    at += (size_t)n * s->parts[i].row_bytes;
  }
  if (hash_bytes(r->bytes, (size_t)(at - r->bytes)) == checksum) *state = BLOCK_GOOD;
done:
  return st;
}

status softlabels_states(softlabels *s, const char *path, int64_t *states) {
  status st = STATUS_OK;
  reader r = {0};
  int64_t rank = comm_rank(s->c), size = comm_size(s->c), n = s->n_blocks;
  for (int64_t i = 0; i < n; i++) states[i] = 0;
  st = reader_open(&r, s, path);
  for (int64_t i = n * rank / size; i < n * (rank + 1) / size && !st; i++)
    st = block_state(&r, s, i, &states[i]);
  TRY(comm_agree(s->c, st));
  TRY(comm_combine_counts(s->c, states, (size_t)n));
done:
  reader_close(&r);
  return st;
}

int64_t softlabels_count(const softlabels *s, const int64_t *states, int64_t state) {
  int64_t n = 0;
  for (int i = 0; i < s->n_blocks; i++) n += states[i] == state;
  return n;
}

void softlabels_list(const softlabels *s, const int64_t *states, int64_t state, char *text, size_t room) {
  enum { SHOWN = 10 };
  size_t used = 0;
  int shown = 0;
  text[0] = '\0';
  for (int i = 0; i < s->n_blocks && used < room; i++) {
    if (states[i] != state) continue;
    if (shown == SHOWN) {
      snprintf(text + used, room - used, ", ...");
      return;
    }
    used += (size_t)snprintf(text + used, room - used, "%s%d", shown++ ? ", " : "", i);
  }
}

static status check_finite_feature(softlabels *s, int feature) {
  status st = STATUS_OK;
  float *values = NULL;
  const part *p = &s->parts[s->n_logit_parts + feature];
  int64_t n = s->h.dims[0], end = n * (comm_rank(s->c) + 1) / comm_size(s->c);
  TRY(mem_new(&values, p->row_bytes, sizeof *values));
  for (int64_t row = n * comm_rank(s->c) / comm_size(s->c); row < end; row++)
    TRY(softlabels_feature_rows(s, feature, &row, 1, values));
done:
  mem_free(values);
  return st;
}

/* Without /blocks: this rank's share of the rows is finite. */
static status check_finite(softlabels *s) {
  status st = STATUS_OK;
  float *values = NULL;
  int64_t row_values = s->classes * s->positions, n = s->h.dims[0],
          step = row_values < (1 << 22) ? (1 << 22) / row_values : 1;
  int64_t row = n * comm_rank(s->c) / comm_size(s->c), end = n * (comm_rank(s->c) + 1) / comm_size(s->c);
  TRY(mem_new(&values, (size_t)step, (size_t)row_values * sizeof *values));
  for (; row < end; row += step) TRY(softlabels_read(s, row, end - row < step ? end - row : step, values));
  for (int i = 0; i < s->h.n_features; i++) TRY(check_finite_feature(s, i));
done:
  mem_free(values);
  return st;
}

status softlabels_verify(softlabels *s) {
  status st = STATUS_OK;
  int64_t *states = NULL;
  char list[256];
  if (!s->has_blocks) return comm_agree(s->c, check_finite(s));
  TRY(comm_agree(s->c, mem_new(&states, (size_t)s->n_blocks, sizeof *states)));
  TRY(softlabels_states(s, s->path, states));
  if (softlabels_count(s, states, BLOCK_GOOD) == s->n_blocks) goto done;
  bool bad = softlabels_count(s, states, BLOCK_BAD);
  softlabels_list(s, states, bad ? BLOCK_BAD : BLOCK_MISSING, list, sizeof list);
  if (bad)
    THROW(STATUS_BAD_INPUT,
          "%s: the checksums of blocks %s do not match, the file is damaged; make it again (--force)",
          s->path, list);
  THROW(STATUS_BAD_INPUT, "%s: blocks %s are not finished", s->path, list);
done:
  mem_free(states);
  return st;
}

bool softlabels_has_checksums(const softlabels *s) {
  return s->has_blocks;
}

status softlabels_check(softlabels *s) {
  const profile_phase before = profile_enter(PROFILE_READ);
  status st = s->has_blocks ? softlabels_verify(s) : STATUS_OK;
  profile_enter(before);
  return st;
}
