#include "onnx/names.h"

#include "base/hash.h"
#include "base/mem.h"

#include <string.h>

typedef struct entry {
  const char *name;
  int number;
} entry;

struct names {
  size_t mask;
  entry *entries; /* open addressing, at most half full */
};

status names_new(names **out, size_t n) {
  status st = STATUS_OK;
  size_t size = 16;
  while (size < 2 * n) size *= 2;
  TRY(mem_new(out, 1, sizeof **out));
  (*out)->mask = size - 1;
  TRY(mem_new(&(*out)->entries, size, sizeof(entry)));
done:
  if (st) names_free(out);
  return st;
}

void names_free(names **t) {
  if (!*t) return;
  mem_free((*t)->entries);
  mem_free(*t);
  *t = NULL;
}

/* The entry of a name, or the empty one where it belongs. */
static entry *locate(const names *t, const char *name) {
  size_t i = hash_bytes(name, strlen(name)) & t->mask;
  while (t->entries[i].name && strcmp(t->entries[i].name, name) != 0) i = (i + 1) & t->mask;
  return &t->entries[i];
}

bool names_add(names *t, const char *name, int number) {
  entry *e = locate(t, name);
  if (e->name) return false;
  *e = (entry){name, number};
  return true;
}

int names_find(const names *t, const char *name) {
  const entry *e = locate(t, name);
  return e->name ? e->number : -1;
}
