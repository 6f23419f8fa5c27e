/* Protobuf's wire format by hand, for files that no library would write. */
#ifndef MPISTILL_TESTS_WIRE_H
#define MPISTILL_TESTS_WIRE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct wire {
  unsigned char *bytes;
  size_t n;
} wire;

static inline void wire_add(wire *w, const void *bytes, size_t n) {
  w->bytes = realloc(w->bytes, w->n + n + 1);
  assert_non_null(w->bytes);
  if (n) memcpy(w->bytes + w->n, bytes, n);
  w->n += n;
}

static inline void wire_varint(wire *w, uint64_t x) {
  do {
    unsigned char byte = (unsigned char)((x & 0x7f) | (x > 0x7f ? 0x80 : 0));
    wire_add(w, &byte, 1);
    x >>= 7;
  } while (x);
}

static inline void wire_int(wire *w, int field, int64_t x) {
  wire_varint(w, (uint64_t)field << 3);
  wire_varint(w, (uint64_t)x);
}

static inline void wire_bytes(wire *w, int field, const void *bytes, size_t n) {
  wire_varint(w, (uint64_t)field << 3 | 2);
  wire_varint(w, n);
  wire_add(w, bytes, n);
}

static inline void wire_text(wire *w, int field, const char *text) {
  wire_bytes(w, field, text, strlen(text));
}

/* Adds `inside` as a message and frees it. */
static inline void wire_message(wire *w, int field, wire *inside) {
  wire_bytes(w, field, inside->bytes, inside->n);
  free(inside->bytes);
  *inside = (wire){0};
}

/* Messages within messages, written from the innermost (empty) outwards: `levels` times through fields[n]
 * (each below 16, the last is the outermost). */
static inline wire wire_nest(int levels, const int *fields, int n) {
  size_t room = (size_t)levels * (size_t)n * 8, at = room;
  unsigned char *bytes = malloc(room + 1);
  assert_non_null(bytes);
  for (int i = 0; i < levels * n; i++) {
    wire head = {0};
    wire_varint(&head, (uint64_t)fields[i % n] << 3 | 2);
    wire_varint(&head, room - at);
    at -= head.n;
    memcpy(bytes + at, head.bytes, head.n);
    free(head.bytes);
  }
  memmove(bytes, bytes + at, room - at);
  return (wire){bytes, room - at};
}

static inline void wire_free(wire *w) {
  free(w->bytes);
  *w = (wire){0};
}

#endif
