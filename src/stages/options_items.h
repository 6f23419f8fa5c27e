/* Items of the command line: "hint:1:student=act1:teacher=act2". */
#ifndef MPISTILL_STAGES_OPTIONS_ITEMS_H
#define MPISTILL_STAGES_OPTIONS_ITEMS_H

#include "base/options.h"

typedef struct item_text { /* one that is being read: its rows, fewer than 64, and fields */
  const option *rows;
  void *item;
  uint64_t given; /* a bit for each row */
} item_text;

/* Local. One value by its key. STATUS_BAD_INPUT for a key that there is not, or that was given before. */
status item_set(item_text *x, const char *key, const char *text);
/* Local. The same of "KEY=VALUE", which is cut at the '='. */
status item_set_pair(item_text *x, char *pair);

/* Local. For items with names in which ':' and '=' may stand: STATUS_BAD_INPUT where text holds a ":WORD="
 * whose word is one of the names (as in nearest_name) but for a letter or two. */
status item_refuse_slip(const char *text, const char *(*name)(const void *table, int i), const void *table);

#endif
