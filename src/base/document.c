#include "base/document.h"

#include "base/mem.h"

#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 16 };

typedef struct reader {
  yaml_parser_t parser;
  yaml_event_t event;
  bool broken; /* the parser cannot go on */
  const char *where;
  problems *p;
} reader;

/* A problem at a mark of libyaml's (which counts from 0). */
static void complain(reader *r, yaml_mark_t mark, const char *text, const char *detail) {
  problems_add(r->p, "%sline %zu, column %zu: %s%s", r->where, mark.line + 1, mark.column + 1, text, detail);
}

static yaml_event_type_t next(reader *r) {
  yaml_event_delete(&r->event);
  if (yaml_parser_parse(&r->parser, &r->event)) return r->event.type;
  if (r->parser.error == YAML_MEMORY_ERROR)
    r->p->memory = status_set(STATUS_FAILED, "out of memory: a recipe was read");
  else
    complain(r, r->parser.problem_mark,
             "not YAML: ", r->parser.problem ? r->parser.problem : "cannot be read");
  r->broken = true;
  return YAML_NO_EVENT;
}

static status read_node(reader *r, document *t, int depth);

static void read_scalar(reader *r, document *t) {
  const yaml_event_t *e = &r->event;
  const char *text = (const char *)e->data.scalar.value;
  t->kind = DOCUMENT_SCALAR;
  t->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
  if (strlen(text) != e->data.scalar.length) {
    complain(r, e->start_mark, "text with a NUL character", "");
    t->kind = DOCUMENT_BAD;
  }
}

/* Room for one more, doubled at powers of two: t->n is the only count needed. */
static status grow(document **items, size_t n) {
  if (n & (n - 1)) return STATUS_OK;
  return mem_resize(items, n, n ? 2 * n : 1, sizeof **items);
}

static status read_list(reader *r, document *t, int depth) {
  t->kind = DOCUMENT_LIST;
  while (next(r) != YAML_SEQUENCE_END_EVENT && !r->broken) {
    status st = grow(&t->items, t->n);
    if (st) return st;
    st = read_node(r, &t->items[t->n++], depth + 1);
    if (st) return st;
  }
  return STATUS_OK;
}

static void check_key(reader *r, document *t, yaml_mark_t mark) {
  document *key = &t->keys[t->n];
  if (key->kind == DOCUMENT_LIST || key->kind == DOCUMENT_MAP) {
    complain(r, mark, "a key must be a word", "");
    key->kind = DOCUMENT_BAD;
  }
  for (size_t i = 0; i < t->n && key->kind == DOCUMENT_SCALAR; i++) {
    if (t->keys[i].kind != DOCUMENT_SCALAR || strcmp(t->keys[i].text, key->text)) continue;
    char detail[64];
    snprintf(detail, sizeof detail, "' is there twice, first in line %zu", t->keys[i].line);
    char start[96];
    snprintf(start, sizeof start, "key '%.80s", key->text);
    complain(r, mark, start, detail);
    key->kind = DOCUMENT_BAD;
  }
}

static status read_map(reader *r, document *t, int depth) {
  t->kind = DOCUMENT_MAP;
  while (next(r) != YAML_MAPPING_END_EVENT && !r->broken) {
    yaml_mark_t mark = r->event.start_mark;
    status st = grow(&t->keys, t->n);
    if (!st) st = grow(&t->items, t->n);
    if (st) return st;
    st = read_node(r, &t->keys[t->n], depth + 1);
    if (!st && !r->broken) check_key(r, t, mark);
    if (!st && !r->broken) {
      next(r);
      if (!r->broken) st = read_node(r, &t->items[t->n], depth + 1);
    }
    t->n++;
    if (st) return st;
  }
  return STATUS_OK;
}

static void check_extras(reader *r, const unsigned char *anchor, const unsigned char *tag) {
  if (anchor) complain(r, r->event.start_mark, "anchors (&) are not used in recipes", "");
  if (tag) complain(r, r->event.start_mark, "tags (!) are not used in recipes", "");
}

/* The node that begins with the current event. */
static status read_node(reader *r, document *t, int depth) {
  const yaml_event_t *e = &r->event;
  status st = STATUS_OK;
  t->line = e->start_mark.line + 1;
  t->column = e->start_mark.column + 1;
  if (depth > DEPTH_MAX) {
    complain(r, e->start_mark, "nested too deeply", "");
    r->broken = true;
    return st;
  }
  switch (e->type) {
  case YAML_SCALAR_EVENT:
    check_extras(r, e->data.scalar.anchor, e->data.scalar.tag);
    st = mem_string(&t->text, (const char *)e->data.scalar.value);
    if (!st) read_scalar(r, t);
    return st;
  case YAML_SEQUENCE_START_EVENT:
    check_extras(r, e->data.sequence_start.anchor, e->data.sequence_start.tag);
    return read_list(r, t, depth);
  case YAML_MAPPING_START_EVENT:
    check_extras(r, e->data.mapping_start.anchor, e->data.mapping_start.tag);
    return read_map(r, t, depth);
  default:
    complain(r, e->start_mark, "aliases (*) are not used in recipes", "");
    return st;
  }
}

static status read_document(reader *r, document *root) {
  next(r); /* stream start */
  if (r->broken) return STATUS_OK;
  if (next(r) == YAML_STREAM_END_EVENT) problems_add(r->p, "%sthere is nothing in it", r->where);
  if (r->broken || r->event.type != YAML_DOCUMENT_START_EVENT) {
    r->broken = true;
    return STATUS_OK;
  }
  next(r);
  if (r->broken) return STATUS_OK;
  status st = read_node(r, root, 0);
  if (st || r->broken) return st;
  next(r); /* document end */
  if (!r->broken && next(r) == YAML_DOCUMENT_START_EVENT)
    complain(r, r->event.start_mark, "a second document: only one is read", "");
  return st;
}

static void clear(document *t) {
  mem_free(t->text);
  for (size_t i = 0; i < t->n; i++) {
    if (t->keys) clear(&t->keys[i]);
    clear(&t->items[i]);
  }
  mem_free(t->keys);
  mem_free(t->items);
}

status document_read(document **out, const char *text, size_t n, const char *where, problems *p) {
  status st = STATUS_OK;
  reader r = {.where = where, .p = p};
  document *root = NULL;
  *out = NULL;
  if (!yaml_parser_initialize(&r.parser))
    return status_set(STATUS_FAILED, "out of memory: a recipe was read");
  memset(&r.event, 0, sizeof r.event);
  yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
  TRY(mem_new(&root, 1, sizeof *root));
  TRY(read_document(&r, root));
  if (!r.broken) {
    *out = root;
    root = NULL;
  }
done:
  document_free(&root);
  yaml_event_delete(&r.event);
  yaml_parser_delete(&r.parser);
  return st;
}

void document_free(document **t) {
  if (*t) clear(*t);
  mem_free(*t);
  *t = NULL;
}

const char *document_kind_name(const document *t) {
  switch (t->kind) {
  case DOCUMENT_LIST:
    return "a sequence";
  case DOCUMENT_MAP:
    return "a mapping";
  default:
    return !t->quoted && !*t->text ? "nothing" : t->quoted ? "text in quotes" : "one value";
  }
}
