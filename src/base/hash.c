#include "base/hash.h"

#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

struct hash_stream {
  XXH3_state_t *state;
};

uint64_t hash_bytes(const void *data, size_t n) {
  return XXH3_64bits(data, n);
}

status hash_start(hash_stream **out) {
  status st = mem_new(out, 1, sizeof **out);
  if (st) return st;
  (*out)->state = XXH3_createState();
  if (!(*out)->state) {
    mem_free(*out);
    *out = NULL;
    return status_set(STATUS_FAILED, "out of memory: a hash state was asked for");
  }
  XXH3_64bits_reset((*out)->state);
  return STATUS_OK;
}

void hash_add(hash_stream *h, const void *data, size_t n) {
  XXH3_64bits_update(h->state, data, n);
}

uint64_t hash_end(hash_stream **h) {
  uint64_t hash = 0;
  if (!*h) return hash;
  hash = XXH3_64bits_digest((*h)->state);
  XXH3_freeState((*h)->state);
  mem_free(*h);
  *h = NULL;
  return hash;
}

status hash_file(const char *path, uint64_t *out) {
  status st = STATUS_OK;
  enum { PIECE = 1 << 20 };
  unsigned char *piece = NULL;
  hash_stream *h = NULL;
  FILE *f = fopen(path, "rb");
  if (!f) THROW(STATUS_BAD_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
  TRY(mem_new(&piece, PIECE, 1));
  TRY(hash_start(&h));
  size_t n;
  while ((n = fread(piece, 1, PIECE, f)) > 0) hash_add(h, piece, n);
  if (ferror(f)) THROW(STATUS_BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
done:
  if (st)
    hash_end(&h);
  else
    *out = hash_end(&h);
  mem_free(piece);
  if (f) fclose(f);
  return st;
}

void hash_text(uint64_t hash, char out[HASH_TEXT_BYTES]) {
  snprintf(out, HASH_TEXT_BYTES, "xxh3:%016" PRIx64, hash);
}
