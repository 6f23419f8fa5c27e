#include "store/softlabels_private.h"

#include "base/file.h"
#include "base/half.h"
#include "base/mem.h"
#include "base/profile.h"
#include "store/numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- creation: by rank 0, with the serial driver, so that no number of ranks changes a byte ---- */

static status create_blocks(const softlabels *s, hid_t file, const char *path) {
  status st = STATUS_OK;
  h5_array done = {0}, checksum = {0};
  hid_t group = 0;
  int64_t n = s->n_blocks;
  uint64_t *zeros = NULL;
  TRY(mem_new(&zeros, (size_t)n, sizeof *zeros));
  TRY(h5_group(&group, file, path, "blocks"));
  TRY(h5_array_create(&done, file, path, "/blocks/done", ELEMENT_UINT8, 1, &n));
  TRY(h5_array_write(&done, 0, n, zeros));
  TRY(h5_array_create(&checksum, file, path, "/blocks/checksum", H5_UINT64, 1, &n));
  TRY(h5_array_write(&checksum, 0, n, zeros));
done:
  h5_array_close(&checksum);
  h5_array_close(&done);
  h5_close(&group);
  mem_free(zeros);
  return st;
}

/* A full disk is better known before the teachers compute. File systems that cannot tell are taken at their
 * word. */
static status take_space(const char *path, const char *name) {
  status st = STATUS_OK;
  int64_t bytes = file_size(path);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || bytes <= 0) THROW(STATUS_FAILED, "%s: cannot be opened: %s", name, strerror(errno));
  if (fallocate(fd, 0, 0, bytes) && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
    THROW(STATUS_FAILED, "%s: %" PRId64 " bytes are needed: %s", name, bytes, strerror(errno));
done:
  if (fd >= 0) close(fd);
  return st;
}

/* Under a further name until its metadata is whole: a PATH.part that exists can be opened. */
static status create_file(const softlabels *s) {
  status st = STATUS_OK;
  char *path = NULL;
  hid_t file = 0, group = 0, features = 0;
  TRY(file_check_writable(s->path));
  TRY(mem_format(&path, "%s.part", s->part_path));
  TRY(h5_create(&file, path));
  TRY(softlabels_header_write(file, path, s));
  if (s->h.top_k) TRY(h5_group(&group, file, path, "topk"));
  if (s->h.n_features) TRY(h5_group(&features, file, path, "features"));
  for (int i = 0; i < s->n_parts; i++) {
    h5_array a = {0};
    TRY(h5_array_create(&a, file, path, s->parts[i].object, s->parts[i].type, s->parts[i].rank,
                        s->parts[i].dims));
    h5_array_close(&a);
  }
  TRY(create_blocks(s, file, path));
  h5_close(&group);
  h5_close(&features);
  TRY(h5_finish(&file, path));
  TRY(take_space(path, s->path));
  TRY(file_commit(s->part_path));
done:
  h5_close(&group);
  h5_close(&features);
  h5_close(&file);
  if (st && path) unlink(path);
  mem_free(path);
  return st;
}

/* *begun: PATH.part is one of ours with this header, s->done says which of its blocks are whole. */
static status resume_file(softlabels *s, bool *begun) {
  status st = STATUS_OK;
  softlabels found = {.path = s->part_path};
  int64_t *states = NULL;
  st = softlabels_fetch(&found, s->c, s->part_path);
  *begun = !st && found.has_blocks;
  if (st == STATUS_BAD_INPUT) st = STATUS_OK;
  if (st || !*begun) goto done;
  TRY(softlabels_header_same(s->part_path, &found.h, &s->h));
  TRY(comm_agree(s->c, mem_new(&states, (size_t)s->n_blocks, sizeof *states)));
  TRY(softlabels_states(s, s->part_path, states));
  for (int i = 0; i < s->n_blocks; i++) s->done[i] = states[i] == BLOCK_GOOD;
done:
  softlabels_header_clear(&found.h);
  mem_free(found.done);
  mem_free(states);
  return st;
}

static status prepare(softlabels *s, comm *c, const char *path, const softlabels_header *h) {
  status st = STATUS_OK;
  s->c = c;
  TRY(mem_string(&s->path, path));
  TRY(mem_format(&s->part_path, "%s.part", path));
  TRY(softlabels_header_copy(&s->h, h));
  if (h->type != ELEMENT_FLOAT16 && h->type != ELEMENT_FLOAT32)
    THROW(STATUS_BAD_INPUT, "%s: logits are stored as float16 or float32, not as %s", path,
          element_name(h->type));
  if (h->partial && (h->top_k || h->n_features))
    THROW(STATUS_FAILED, "%s: rows without an answer go with neither a top-k encoding nor features", path);
  TRY(softlabels_layout(s));
done:
  return st;
}

status softlabels_create(softlabels **out, comm *c, const char *path, const softlabels_header *h,
                         bool resume) {
  status st = STATUS_OK;
  bool begun = false;
  st = mem_new(out, 1, sizeof **out);
  if (!st) st = prepare(*out, c, path, h);
  st = comm_agree(c, st);
  if (st) goto done;
  begun = resume && file_exists((*out)->part_path);
  TRY(comm_broadcast(c, 0, &begun, sizeof begun));
  if (begun) TRY(resume_file(*out, &begun));
  if (begun) goto done;
  if (!comm_rank(c)) st = create_file(*out);
  TRY(comm_agree(c, st));
done:
  if (st) softlabels_close(out);
  return st;
}

const unsigned char *softlabels_done(const softlabels *s) {
  return s->done;
}

/* ---- one block ---- */

static void raw_close_arrays(softlabels_raw *r) {
  for (int i = 0; i < PARTS_MAX; i++) h5_array_close(&r->parts[i]);
  h5_array_close(&r->done);
  h5_array_close(&r->checksum);
}

static void raw_close(softlabels_raw *r) {
  raw_close_arrays(r);
  h5_close(&r->file);
  if (r->descriptor > 0) close(r->descriptor);
  mem_free(r->bytes);
  *r = (softlabels_raw){0};
}

static status raw_open(softlabels *s) {
  status st = STATUS_OK;
  softlabels_raw *r = &s->raw;
  size_t row_bytes = 0;
  if (r->file) return st;
  /* Not the serial driver, with one rank either: it marks a file that is open for writing, and a killed run
   * would leave the mark in it. */
  TRY(h5_open_raw(&r->file, s->part_path, comm_mpi(s->c) == MPI_COMM_NULL ? MPI_COMM_NULL : MPI_COMM_SELF));
  for (int i = 0; i < s->n_parts; i++) {
    TRY(h5_array_open(&r->parts[i], r->file, s->part_path, s->parts[i].object));
    row_bytes += s->parts[i].row_bytes;
  }
  TRY(h5_array_open(&r->done, r->file, s->part_path, "/blocks/done"));
  TRY(h5_array_open(&r->checksum, r->file, s->part_path, "/blocks/checksum"));
  TRY(mem_new(&r->bytes, (size_t)softlabels_block_rows(s, 0), row_bytes));
  r->descriptor = open(s->part_path, O_WRONLY | O_CLOEXEC);
done:
  if (st) raw_close(r);
  return st;
}

static status bad_value(const softlabels *s, int64_t from, int64_t at, const char *what) {
  int64_t row_values = s->classes * s->positions;
  return status_set(STATUS_BAD_INPUT, "teacher '%s': row %" PRId64 ", class %" PRId64 " %s", s->h.teacher,
                    from + at / row_values, at % row_values / s->positions, what);
}

/* Of one vector of logits, `stride` apart: the k largest, largest first, ties by class; and the log-sum-exp
 * of the others. */
static void take_top(const float *z, int64_t classes, int64_t stride, int64_t k, int32_t *index, float *value,
                     float *rest) {
  int64_t n = 0;
  for (int64_t c = 0; c < classes; c++) {
    float x = z[c * stride];
    if (n == k && !(x > value[k - 1])) continue;
    int64_t at = n < k ? n++ : k - 1;
    for (; at && x > value[at - 1]; at--) {
      value[at] = value[at - 1];
      index[at] = index[at - 1];
    }
    value[at] = x;
    index[at] = (int32_t)c;
  }
  float least = value[k - 1], most = -INFINITY;
  int32_t last = index[k - 1]; /* of those equal to the least one that was taken, the last class taken */
  for (int64_t c = 0; c < classes; c++) {
    float x = z[c * stride];
    if ((x < least || (x == least && c > last)) && x > most) most = x;
  }
  double sum = 0;
  for (int64_t c = 0; c < classes && most > -INFINITY; c++) {
    float x = z[c * stride];
    if (x < least || (x == least && c > last)) sum += exp((double)x - most);
  }
  *rest = most > -INFINITY ? (float)(most + log(sum)) : -INFINITY;
}

static status encode_reals(const softlabels *s, int64_t from, const float *x, int64_t n, void *to,
                           int64_t *too_large) {
  *too_large = -1;
  if (s->h.type == ELEMENT_FLOAT32)
    memcpy(to, x, (size_t)n * sizeof *x);
  else
    *too_large = half_from_float(x, to, (size_t)n);
  if (*too_large < 0 || s->h.top_k) return STATUS_OK;
  char what[96];
  snprintf(what, sizeof what, "is %g, too large for float16; take --dtype float32", (double)x[*too_large]);
  return bad_value(s, from, *too_large, what);
}

/* index | logit | rest of n rows. */
static status encode_top(const softlabels *s, int64_t from, const float *logits, int64_t n,
                         unsigned char *to) {
  status st = STATUS_OK;
  int64_t k = s->h.top_k, vectors = n * s->positions, too_large;
  float *values = NULL;
  int32_t *index = (int32_t *)to;
  unsigned char *logit = to + (size_t)n * s->parts[PART_INDEX].row_bytes,
                *rest = logit + (size_t)n * s->parts[PART_LOGIT].row_bytes;
  TRY(mem_new(&values, (size_t)(vectors * k), sizeof *values));
  for (int64_t v = 0; v < vectors; v++) {
    float other;
    const float *z = logits + v / s->positions * s->classes * s->positions + v % s->positions;
    take_top(z, s->classes, s->positions, k, index + v * k, values + v * k, &other);
    memcpy(rest + (size_t)v * sizeof other, &other, sizeof other);
  }
  TRY(encode_reals(s, from, values, vectors * k, logit, &too_large));
  if (too_large >= 0) {
    int64_t v = too_large / k,
            at = (v / s->positions * s->classes + index[too_large]) * s->positions + v % s->positions;
    char what[96];
    snprintf(what, sizeof what, "is %g, too large for float16; take --dtype float32",
             (double)values[too_large]);
    st = bad_value(s, from, at, what);
  }
done:
  mem_free(values);
  return st;
}

static status encode_whole(const softlabels *s, int64_t from, const float *logits, int64_t n,
                           unsigned char *to) {
  int64_t values = n * s->classes * s->positions, bad = numbers_not_finite(logits, values), too_large;
  if (bad >= 0)
    return bad_value(s, from, bad,
                     isnan(logits[bad]) ? "is NaN; a finite number is expected"
                                        : "is infinite; a finite number is expected");
  return s->h.top_k ? encode_top(s, from, logits, n, to)
                    : encode_reals(s, from, logits, values, to, &too_large);
}

/* logits | answered: a row that begins with NaN becomes zeros that do not count. */
static status encode_partial(const softlabels *s, int64_t from, const float *logits, int64_t n,
                             unsigned char *to) {
  size_t row_bytes = s->parts[PART_LOGITS].row_bytes;
  unsigned char *answered = to + (size_t)n * row_bytes;
  for (int64_t i = 0; i < n; i++, logits += s->classes * s->positions, to += row_bytes) {
    answered[i] = !isnan(*logits);
    status st = answered[i] ? encode_whole(s, from + i, logits, 1, to) : STATUS_OK;
    if (st) return st;
    if (!answered[i]) memset(to, 0, row_bytes);
  }
  return STATUS_OK;
}

static status encode(const softlabels *s, int64_t from, const float *logits, int64_t n, unsigned char *to) {
  return s->h.partial ? encode_partial(s, from, logits, n, to) : encode_whole(s, from, logits, n, to);
}

/* Behind the logits of a block, one feature after the other. */
static status encode_features(const softlabels *s, int64_t from, const float *const *features, int64_t n,
                              unsigned char *to) {
  for (int i = 0; i < s->h.n_features; i++) {
    const part *p = &s->parts[s->n_logit_parts + i];
    const int64_t row_values = (int64_t)(p->row_bytes / h5_type_bytes(p->type)), values = n * row_values;
    int64_t bad = numbers_not_finite(features[i], values);
    const bool finite = bad < 0;
    if (p->type == ELEMENT_FLOAT32)
      memcpy(to, features[i], (size_t)values * sizeof(float));
    else if (finite)
      bad = half_from_float(features[i], (uint16_t *)to, (size_t)values);
    if (bad >= 0)
      return status_set(STATUS_BAD_INPUT, "teacher '%s': row %" PRId64 ", tensor '%s': %g %s", s->h.teacher,
                        from + bad / row_values, s->h.features[i].name, (double)features[i][bad],
                        finite ? "is too large for float16; take --dtype float32" : "is not finite");
    to += (size_t)n * p->row_bytes;
  }
  return STATUS_OK;
}

status softlabels_write(softlabels *s, int64_t block, const float *logits) {
  return softlabels_write_all(s, block, logits, NULL);
}

status softlabels_write_all(softlabels *s, int64_t block, const float *logits, const float *const *features) {
  status st = STATUS_OK;
  if (block < 0 || block >= s->n_blocks)
    return status_set(STATUS_FAILED, "%s: there is no block %" PRId64, s->part_path, block);
  if (s->h.n_features && !features)
    return status_set(STATUS_FAILED, "%s: has features, and none are given", s->part_path);
  const profile_phase before = profile_enter(PROFILE_WRITE);
  int64_t from = block * s->h.block_rows, n = softlabels_block_rows(s, block);
  TRY(raw_open(s));
  softlabels_raw *r = &s->raw;
  TRY(encode(s, from, logits, n, r->bytes));
  unsigned char *at = r->bytes, yes = 1;
  for (int i = 0; i < s->n_logit_parts; i++) at += (size_t)n * s->parts[i].row_bytes;
  TRY(encode_features(s, from, features, n, at));
  at = r->bytes;
  for (int i = 0; i < s->n_parts; i++) {
    TRY(h5_array_write(&r->parts[i], from, n, at));
    h5_array_begin_flush(&r->parts[i], r->descriptor, from, n);
    at += (size_t)n * s->parts[i].row_bytes;
  }
  uint64_t checksum = hash_bytes(r->bytes, (size_t)(at - r->bytes));
  TRY(h5_array_write(&r->checksum, block, 1, &checksum));
  TRY(h5_array_write(&r->done, block, 1, &yes));
  s->done[block] = 1;
done:
  profile_enter(before);
  return st;
}

/* ---- the end ---- */

static status check_blocks(softlabels *s, const int64_t *states) {
  char list[256];
  int64_t missing = softlabels_count(s, states, BLOCK_MISSING), bad = softlabels_count(s, states, BLOCK_BAD);
  softlabels_list(s, states, missing ? BLOCK_MISSING : BLOCK_BAD, list, sizeof list);
  if (missing)
    return status_set(STATUS_FAILED, "%s: %" PRId64 " blocks were not written: %s", s->part_path, missing,
                      list);
  if (bad)
    return status_set(STATUS_FAILED,
                      "%s: blocks %s read back other than they were written; "
                      "the same command computes them again (is this file system fit for several writers?)",
                      s->part_path, list);
  return STATUS_OK;
}

status softlabels_complete(softlabels *s, status mine) {
  status st = mine;
  int64_t *states = NULL;
  const profile_phase before = profile_enter(PROFILE_WRITE);
  raw_close_arrays(&s->raw);
  if (!st && s->raw.file) st = h5_finish(&s->raw.file, s->part_path);
  raw_close(&s->raw);
  if (!st) st = mem_new(&states, (size_t)s->n_blocks, sizeof *states);
  TRY(comm_agree(s->c, st));
  st = softlabels_states(s, s->part_path, states);
  if (st == STATUS_BAD_INPUT) st = STATUS_FAILED; /* this run has written the file: it is nobody's input */
  TRY(st);
  TRY(check_blocks(s, states));
done:
  profile_enter(before);
  mem_free(states);
  return st;
}

status softlabels_finish(softlabels *s, status mine) {
  status st = softlabels_complete(s, mine);
  if (st) return st;
  return comm_agree(s->c, comm_rank(s->c) ? STATUS_OK : file_commit(s->path));
}

void softlabels_discard(softlabels **out) {
  if (!*out) return;
  raw_close(&(*out)->raw);
  if (!comm_rank((*out)->c)) unlink((*out)->part_path);
  softlabels_close(out);
}

void softlabels_close(softlabels **out) {
  softlabels *s = *out;
  if (!s) return;
  raw_close(&s->raw);
  for (int i = 0; i < PARTS_MAX; i++) column_close(&s->columns[i]);
  softlabels_header_clear(&s->h);
  mem_free(s->done);
  mem_free(s->path);
  mem_free(s->part_path);
  mem_free(s);
  *out = NULL;
}
