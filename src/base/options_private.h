/* What the files of base/options share. */
#ifndef MPISTILL_BASE_OPTIONS_PRIVATE_H
#define MPISTILL_BASE_OPTIONS_PRIVATE_H

#include "base/options.h"
#include "base/problems.h"

enum { OPTION_NAME_BYTES = 256 }; /* a dotted key, cut to this in messages */

/* One loop for tables that end with a zero row. */
#define OPTIONS_EACH(row, rows) (const option *row = (rows); row->flag || row->key || row->fields; row++)

/* The common shape of mpistill_strings, _ints, _reals and of all ITEMS. */
typedef struct option_list {
  size_t n;
  void *items;
} option_list;
option_list option_list_get(const void *field);
void option_list_put(void *field, option_list list);

/* Converts `text` into the field (one element more for STRINGS and PATHS); INTS, REALS and ITEMS are not
 * meant here. Problems name `where`. folder: put before relative paths, "" for none. */
void option_set_text(const option *row, void *field, const char *text, const char *where, const char *folder,
                     problems *p);
/* Replaces a list (STRINGS, PATHS, INTS, REALS). */
void option_set_list(const option *row, void *field, char *const *texts, size_t n, const char *where,
                     const char *folder, problems *p);
/* "3,32,32" into its parts, then option_set_list. */
void option_set_parts(const option *row, void *field, const char *text, const char *where, problems *p);
/* Frees a field's value and sets it to zero. */
void option_clear(const option *row, void *field);
bool option_is_list(const option *row);
/* "FILE", "N": what stands for the value in help and messages. */
const char *option_placeholder(const option *row);
/* A problem for a value that is out of range or no valid choice. */
void option_check_value(const option *row, const void *field, const char *where, problems *p);

void options_see(options_seen *seen, const void *field, const char *where, problems *p);
/* Fills gaps: a problem for every required row that was not given. by_flag: command line, else recipe (keys
 * after `prefix`). */
void options_require(const option *rows, const void *config, bool by_flag, const char *prefix,
                     const options_seen *seen, problems *p);

/* The nearest name so far to a word. */
typedef struct nearest {
  const char *word;
  char best[OPTION_NAME_BYTES]; /* "" if none is near enough */
  int distance;
} nearest;
void nearest_start(nearest *n, const char *word);
void nearest_try(nearest *n, const char *candidate);
/* " (did you mean '--epochs'?)" or "" into text. */
const char *nearest_hint(const nearest *n, const char *before, char text[OPTION_NAME_BYTES + 32]);

#endif
