#include "store/dataset_private.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/profile.h"
#include "store/h5.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE = 1 << 20, WINDOW = 1 << 23 };

/* ---- the hash ---- */

/* The pieces [piece, end) of an array's bytes: whole rows are read, and cut at the pieces' edges. */
static status hash_pieces(const h5_array *h, int64_t piece, int64_t end, int64_t *hashes) {
  status st = STATUS_OK;
  unsigned char *window = NULL;
  hash_stream *stream = NULL;
  int64_t row_bytes = (int64_t)h->row_bytes, total = h->dims[0] * row_bytes;
  int64_t step = row_bytes < WINDOW ? WINDOW / row_bytes : 1, at = piece * PIECE;
  int64_t stop = end * PIECE < total ? end * PIECE : total;
  TRY(mem_new(&window, (size_t)step, h->row_bytes));
  while (at < stop) {
    int64_t row = at / row_bytes, n = h->dims[0] - row < step ? h->dims[0] - row : step,
            edge = (row + n) * row_bytes;
    TRY(h5_array_read(h, row, n, window));
    if (edge > stop) edge = stop;
    while (at < edge) {
      int64_t piece_end = (at / PIECE + 1) * PIECE < total ? (at / PIECE + 1) * PIECE : total;
      int64_t to = piece_end < edge ? piece_end : edge;
      if (!stream) TRY(hash_start(&stream));
      hash_add(stream, window + (at - row * row_bytes), (size_t)(to - at));
      int64_t this = at / PIECE;
      at = to;
      if (at == piece_end) hashes[this] = (int64_t)hash_end(&stream);
    }
  }
done:
  hash_end(&stream);
  mem_free(window);
  return st;
}

static status hash_share(dataset *d, const split *s, const array *a, int64_t n_pieces, int64_t *hashes) {
  status st = STATUS_OK;
  hid_t file = 0;
  h5_array h = {0};
  char *object = NULL;
  int64_t rank = comm_rank(d->c), size = comm_size(d->c);
  TRY(h5_open(&file, d->path));
  TRY(mem_format(&object, "/%s/%s", s->name, a->name));
  TRY(h5_array_open(&h, file, d->path, object));
  if (h.type != (int)a->type || h.rank != a->rank || memcmp(h.dims, a->dims, sizeof h.dims))
    THROW(STATUS_BAD_INPUT, "%s: its type or shape has changed since the file was opened", h.label);
  TRY(hash_pieces(&h, n_pieces * rank / size, n_pieces * (rank + 1) / size, hashes));
done:
  h5_array_close(&h);
  h5_close(&file);
  mem_free(object);
  return st;
}

static void add_header(hash_stream *stream, const array *a) {
  char text[64];
  hash_add(stream, a->name, strlen(a->name));
  hash_add(stream, text, (size_t)snprintf(text, sizeof text, "\n%s\n", element_name(a->type)));
  for (int i = 0; i < a->rank; i++)
    hash_add(stream, text, (size_t)snprintf(text, sizeof text, "%s%" PRId64, i ? "," : "", a->dims[i]));
  hash_add(stream, "\n", 1);
}

static status hash_array(dataset *d, const split *s, const array *a, hash_stream *stream) {
  status st = STATUS_OK;
  int64_t *hashes = NULL;
  int64_t bytes = a->dims[0] * a->row_values * (int64_t)element_bytes(a->type),
          n_pieces = (bytes + PIECE - 1) / PIECE;
  st = mem_new(&hashes, (size_t)n_pieces, sizeof *hashes);
  if (!st) st = hash_share(d, s, a, n_pieces, hashes);
  TRY(comm_agree(d->c, st));
  TRY(comm_combine_counts(d->c, hashes, (size_t)n_pieces));
  add_header(stream, a);
  hash_add(stream, hashes, (size_t)n_pieces * sizeof *hashes);
done:
  mem_free(hashes);
  return st;
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(const array *const *)a)->name, (*(const array *const *)b)->name);
}

static status hash_split(dataset *d, const split *s, char out[HASH_TEXT_BYTES]) {
  status st = STATUS_OK;
  const array **all = NULL;
  hash_stream *stream = NULL;
  int n = 0;
  st = mem_new(&all, (size_t)(s->n_inputs + s->n_labels + s->n_targets + s->n_lengths), sizeof *all);
  if (!st) st = hash_start(&stream);
  TRY(comm_agree(d->c, st));
  for (int i = 0; i < s->n_inputs; i++) all[n++] = &s->inputs[i];
  for (int i = 0; i < s->n_labels; i++) all[n++] = &s->labels[i];
  for (int i = 0; i < s->n_targets; i++) all[n++] = &s->targets[i];
  for (int i = 0; i < s->n_lengths; i++) all[n++] = &s->lengths[i];
  qsort(all, (size_t)n, sizeof *all, by_name);
  for (int i = 0; i < n; i++) TRY(hash_array(d, s, all[i], stream));
  hash_text(hash_end(&stream), out);
done:
  hash_end(&stream);
  mem_free(all);
  return st;
}

static void add_scale(hash_stream *stream, const array *a, int n) {
  for (; n-- > 0; a++) {
    if (!array_is_scaled(a)) continue;
    const size_t bytes = (size_t)a->n_scale * sizeof(float);
    hash_add(stream, a->name, strlen(a->name) + 1);
    hash_add(stream, &a->n_scale, sizeof a->n_scale);
    hash_add(stream, a->scale, bytes);
    hash_add(stream, a->offset, bytes);
  }
}

status dataset_reading(const dataset *d, const split *s, char out[HASH_TEXT_BYTES]) {
  hash_stream *stream = NULL;
  bool any = d->n_classes > 0;
  *out = '\0';
  for (int i = 0; i < s->n_inputs; i++) any = any || array_is_scaled(&s->inputs[i]);
  for (int i = 0; i < s->n_targets; i++) any = any || array_is_scaled(&s->targets[i]);
  if (!any) return STATUS_OK;
  status st = hash_start(&stream);
  if (st) return st;
  add_scale(stream, s->inputs, s->n_inputs);
  add_scale(stream, s->targets, s->n_targets);
  for (int i = 0; i < d->n_classes; i++) hash_add(stream, d->classes[i], strlen(d->classes[i]) + 1);
  hash_text(hash_end(&stream), out);
  return STATUS_OK;
}

/* ---- kept beside the file ----
 *
 *     mpistill-hash 2 SIZE MTIME CTIME
 *     xxh3:0123456789abcdef train
 *
 * Who changes a file can set the time of its change back (cp -p, rsync, touch), but not that of its inode.
 * Nothing here is an error: without the file the hash is computed. */

static bool stamp(const dataset *d, char *out, size_t room) {
  struct stat s;
  if (stat(d->path, &s)) return false;
  snprintf(out, room, "mpistill-hash 2 %lld %lld.%09ld %lld.%09ld\n", (long long)s.st_size,
           (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec, (long long)s.st_ctim.tv_sec, s.st_ctim.tv_nsec);
  return true;
}

static bool is_hash(const char *text) {
  return !strncmp(text, "xxh3:", 5) && strspn(text + 5, "0123456789abcdef") == 16;
}

static void cache_read(dataset *d, const char *cache, const char *stamp) {
  unsigned char *bytes = NULL;
  size_t n;
  if (file_read(cache, &bytes, &n)) return;
  char *line = (char *)bytes;
  if (!strncmp(line, stamp, strlen(stamp)))
    for (line += strlen(stamp); *line; line += strcspn(line, "\n"), line += *line == '\n') {
      const size_t digits = strlen("xxh3:") + 16;
      if (!is_hash(line) || line[digits] != ' ') continue;
      size_t length = strcspn(line + digits + 1, "\n");
      /* Without its end of line it may be cut short: two runs at once write the same file. */
      for (int i = 0; i < d->n_splits && line[digits + 1 + length]; i++)
        if (strlen(d->splits[i].name) == length && !strncmp(d->splits[i].name, line + digits + 1, length))
          memcpy(d->hashes[i], line, digits);
    }
  mem_free(bytes);
}

static void cache_write(const dataset *d, const char *cache, const char *before) {
  char now[128], *text = NULL, *longer;
  if (!stamp(d, now, sizeof now) || strcmp(now, before) || mem_string(&text, before)) return;
  for (int i = 0; i < d->n_splits; i++) {
    if (!*d->hashes[i]) continue;
    if (mem_format(&longer, "%s%s %s\n", text, d->hashes[i], d->splits[i].name)) goto done;
    mem_free(text);
    text = longer;
  }
  file_write(cache, text, strlen(text));
done:
  mem_free(text);
}

void dataset_hash_anew(dataset *d) {
  d->distrusts_kept = true;
}

status dataset_hash(dataset *d, const split *s, char out[HASH_TEXT_BYTES]) {
  status st = STATUS_OK;
  const profile_phase phase = profile_enter(PROFILE_READ);
  char before[128] = "", *cache = NULL;
  int i = (int)(s - d->splits);
  if (!*d->hashes[i]) {
    TRY(comm_agree(d->c, mem_format(&cache, "%s.hash", d->path)));
    if (!comm_rank(d->c) && stamp(d, before, sizeof before) && !d->distrusts_kept)
      cache_read(d, cache, before);
    TRY(comm_broadcast(d->c, 0, d->hashes, (size_t)d->n_splits * sizeof *d->hashes));
  }
  if (!*d->hashes[i]) {
    TRY(hash_split(d, s, d->hashes[i]));
    if (!comm_rank(d->c) && *before) cache_write(d, cache, before);
  }
  memcpy(out, d->hashes[i], HASH_TEXT_BYTES);
  status_clear();
done:
  profile_enter(phase);
  mem_free(cache);
  return st;
}
