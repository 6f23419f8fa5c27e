#include "import/dictionary.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Open addressing: a slot holds a text's number + 1, 0 is free. At most half of the slots are used. */
struct dictionary {
  char **texts;
  int32_t n, room;
  int32_t *slots;
  uint32_t n_slots; /* a power of two */
};

status dictionary_new(dictionary **out) {
  status st = STATUS_OK;
  *out = NULL;
  TRY(mem_new(out, 1, sizeof **out));
  (*out)->room = 16;
  (*out)->n_slots = 32;
  TRY(mem_new(&(*out)->texts, 16, sizeof(char *)));
  TRY(mem_new(&(*out)->slots, 32, sizeof(int32_t)));
done:
  if (st) dictionary_free(out);
  return st;
}

void dictionary_free(dictionary **d) {
  if (!*d) return;
  for (int32_t i = 0; i < (*d)->n; i++) mem_free((*d)->texts[i]);
  mem_free((*d)->texts);
  mem_free((*d)->slots);
  mem_free(*d);
  *d = NULL;
}

/* The slot that holds the text or would. */
static uint32_t slot_of(const dictionary *d, const char *text) {
  uint32_t at = (uint32_t)hash_bytes(text, strlen(text)) & (d->n_slots - 1);
  while (d->slots[at] && strcmp(d->texts[d->slots[at] - 1], text)) at = (at + 1) & (d->n_slots - 1);
  return at;
}

static void fill_slots(dictionary *d) {
  memset(d->slots, 0, d->n_slots * sizeof *d->slots);
  for (int32_t i = 0; i < d->n; i++) d->slots[slot_of(d, d->texts[i])] = i + 1;
}

static status grow(dictionary *d) {
  status st = STATUS_OK;
  int32_t *slots;
  TRY(mem_resize(&d->texts, (size_t)d->n, (size_t)d->room * 2, sizeof *d->texts));
  TRY(mem_new(&slots, (size_t)d->n_slots * 2, sizeof *slots));
  mem_free(d->slots);
  d->slots = slots;
  d->room *= 2;
  d->n_slots *= 2;
  fill_slots(d);
done:
  return st;
}

status dictionary_add(dictionary *d, const char *text, int32_t *code) {
  status st = STATUS_OK;
  *code = dictionary_find(d, text);
  if (*code >= 0 || d->n == DICTIONARY_MAX) return STATUS_OK;
  if (d->n == d->room) TRY(grow(d));
  TRY(mem_string(&d->texts[d->n], text));
  d->n++;
  d->slots[slot_of(d, text)] = d->n;
  *code = d->n - 1;
done:
  return st;
}

int32_t dictionary_find(const dictionary *d, const char *text) {
  return d->slots[slot_of(d, text)] - 1;
}

int32_t dictionary_count(const dictionary *d) {
  return d->n;
}

const char *const *dictionary_texts(const dictionary *d) {
  return (const char *const *)d->texts;
}

static int compare(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

void dictionary_sort(dictionary *d) {
  qsort(d->texts, (size_t)d->n, sizeof *d->texts, compare);
  fill_slots(d);
}
