/* Misspelt names. */
#include "base/options_private.h"

#include <string.h>

enum { LONGEST = 63 };

static bool same(char a, char b) {
  return a == b || (strchr("-_", a) && strchr("-_", b));
}

/* Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
static int edit_distance(const char *a, const char *b) {
  int n = (int)strlen(a), m = (int)strlen(b), rows[3][LONGEST + 1];
  int *before = rows[0], *last = rows[1], *row = rows[2];
  if (n > LONGEST || m > LONGEST) return LONGEST;
  for (int j = 0; j <= m; j++) last[j] = before[j] = j;
  for (int i = 1; i <= n; i++) {
    row[0] = i;
    for (int j = 1; j <= m; j++) {
      int best = last[j - 1] + !same(a[i - 1], b[j - 1]);
      if (last[j] + 1 < best) best = last[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped && before[j - 2] + 1 < best) best = before[j - 2] + 1;
      row[j] = best;
    }
    int *free_row = before;
    before = last;
    last = row;
    row = free_row;
  }
  return last[m];
}

/* What may still be a slip of the finger grows with the word. */
static int allowed(const char *word) {
  size_t n = strlen(word);
  return n < 4 ? 1 : n < 8 ? 2 : 3;
}

void nearest_start(nearest *n, const char *word) {
  n->word = word;
  n->best[0] = '\0';
  n->distance = allowed(word) + 1;
}

void nearest_try(nearest *n, const char *candidate) {
  int distance = edit_distance(n->word, candidate);
  if (distance >= n->distance) return;
  n->distance = distance;
  snprintf(n->best, sizeof n->best, "%s", candidate);
}

const char *nearest_hint(const nearest *n, const char *before, char text[OPTION_NAME_BYTES + 32]) {
  text[0] = '\0';
  if (*n->best) snprintf(text, OPTION_NAME_BYTES + 32, " (did you mean '%s%s'?)", before, n->best);
  return text;
}

const char *nearest_name(const char *word, const char *(*name)(const void *table, int i), const void *table) {
  const char *best = NULL;
  int least = allowed(word) + 1;
  for (int i = 0; name(table, i); i++) {
    int distance = edit_distance(word, name(table, i));
    if (distance < least) {
      least = distance;
      best = name(table, i);
    }
  }
  return best;
}
