/* YAML text as a tree with the place of every key and value. Only what a recipe needs: mappings, sequences,
 * scalars. */
#ifndef MPISTILL_BASE_DOCUMENT_H
#define MPISTILL_BASE_DOCUMENT_H

#include "base/problems.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum document_kind {
  DOCUMENT_BAD, /* a problem has been told already */
  DOCUMENT_SCALAR,
  DOCUMENT_LIST,
  DOCUMENT_MAP
} document_kind;

typedef struct document {
  document_kind kind;
  size_t line, column;    /* from 1 */
  char *text;             /* SCALAR */
  bool quoted;            /* SCALAR: in quotes or a block, so not a number */
  size_t n;               /* LIST, MAP */
  struct document *keys;  /* MAP: [n] scalars */
  struct document *items; /* LIST, MAP: [n] */
} document;

/* Local. Parses one document. Everything wrong is added to p with line and column (after `where`, "" for
 * none): bad syntax, several documents, duplicate keys, anchors, aliases, tags, keys that are not scalars,
 * depth over 16. STATUS_FAILED without memory. *out is NULL when there is nothing to go on with. */
status document_read(document **out, const char *text, size_t n, const char *where, problems *p);
void document_free(document **t);

/* "a sequence", "one value", "text in quotes", "nothing": what a message says was found. */
const char *document_kind_name(const document *t);

#endif
