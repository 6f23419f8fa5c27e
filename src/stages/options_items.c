#include "stages/options_items.h"

#include <string.h>

status item_set(item_text *x, const char *key, const char *text) {
  uint64_t bit = 1;
  for (const option *row = x->rows; row->key && strcmp(row->key, key); row++) bit <<= 1;
  if (x->given & bit) return status_set(STATUS_BAD_INPUT, "%s: is given twice", key);
  x->given |= bit;
  return options_set(x->rows, x->item, key, text);
}

status item_set_pair(item_text *x, char *pair) {
  char *equals = strchr(pair, '=');
  if (!equals) return status_set(STATUS_BAD_INPUT, "'%s' is not KEY=VALUE", pair);
  *equals = '\0';
  return item_set(x, pair, equals + 1);
}

/* A word of a name may be any; the longest key is shorter than this. */
enum { WORD_BYTES = 32 };

status item_refuse_slip(const char *text, const char *(*name)(const void *table, int i), const void *table) {
  char word[WORD_BYTES];
  for (const char *at = text; (at = strchr(at, ':'));) {
    const size_t n = strcspn(++at, ":=");
    if (at[n] != '=' || n >= sizeof word) continue;
    memcpy(word, at, n);
    word[n] = '\0';
    const char *near = nearest_name(word, name, table);
    if (near && strcmp(near, word))
      return status_set(STATUS_BAD_INPUT, "unknown key '%s' (did you mean '%s'?)", word, near);
  }
  return STATUS_OK;
}
