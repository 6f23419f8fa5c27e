/* XXH3 (64 bit) checksums and content hashes. */
#ifndef MPISTILL_BASE_HASH_H
#define MPISTILL_BASE_HASH_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { HASH_TEXT_BYTES = 24 }; /* "xxh3:" + 16 hex digits + NUL */

/* Local. The hash of a piece of memory. */
uint64_t hash_bytes(const void *data, size_t n);

/* Local. Streams of any length: hash_start, hash_add as often as needed, hash_end. */
typedef struct hash_stream hash_stream;
status hash_start(hash_stream **out);
void hash_add(hash_stream *h, const void *data, size_t n);
uint64_t hash_end(hash_stream **h); /* frees it */

/* Local. The hash of a file's bytes. STATUS_BAD_INPUT if it cannot be read. */
status hash_file(const char *path, uint64_t *out);

/* "xxh3:0123456789abcdef" */
void hash_text(uint64_t hash, char out[HASH_TEXT_BYTES]);

#endif
