/* YAML text as a tree with the place of every key and value. Only what a recipe needs: mappings, sequences,
 * scalars. */
#ifndef MPISTILL_BASE_YAML_TREE_H
#define MPISTILL_BASE_YAML_TREE_H

#include "base/problems.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum tree_kind {
  TREE_BAD, /* a problem has been told already */
  TREE_SCALAR,
  TREE_LIST,
  TREE_MAP
} tree_kind;

typedef struct tree {
  tree_kind kind;
  size_t line, column; /* from 1 */
  char *text;          /* SCALAR */
  bool quoted;         /* SCALAR: in quotes or a block, so not a number */
  size_t n;            /* LIST, MAP */
  struct tree *keys;   /* MAP: [n] scalars */
  struct tree *items;  /* LIST, MAP: [n] */
} tree;

/* Local. Parses one document. Everything wrong is added to p with line and column (after `where`, "" for
 * none): bad syntax, several documents, duplicate keys, anchors, aliases, tags, keys that are not scalars,
 * depth over 16. STATUS_FAILED without memory. *out is NULL when there is nothing to go on with. */
status yaml_read(tree **out, const char *text, size_t n, const char *where, problems *p);
void yaml_free(tree **t);

/* "text 'x'", "a number or word", "a sequence", "a mapping": what a message says was found. */
const char *yaml_kind_name(const tree *t);

#endif
