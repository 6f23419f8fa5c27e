/* YAML recipes and --set, checked against the option rows. */
#include "base/document.h"
#include "base/options_private.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Where values go, and how messages name them. */
typedef struct target {
  const option *rows;
  void *config;
  const char *label; /* before keys in messages: "teachers.0." */
  const char *set;   /* "--set KEY" when the value comes from the command line, NULL in a recipe */
  const char *folder;
  problems *p;
  options_seen *seen;
} target;

typedef struct key_place {
  const option *row;
  void *field;
} key_place;

enum { WHERE_BYTES = OPTION_NAME_BYTES + 64 };

/* The rest of `path` after "name.", NULL if it does not begin so. */
static const char *after(const char *path, const char *name) {
  size_t n = strlen(name);
  return !strncmp(path, name, n) && path[n] == '.' ? path + n + 1 : NULL;
}

static bool find_key(const option *rows, void *config, const char *path, key_place *out);

/* "0.model" within a list that has an item 0. */
static bool find_in_items(const option *row, void *field, const char *path, key_place *out) {
  option_list list = option_list_get(field);
  char *rest;
  if (!isdigit((unsigned char)*path)) return false;
  unsigned long i = strtoul(path, &rest, 10);
  if (*rest != '.' || i >= list.n) return false;
  return find_key(row->fields, (char *)list.items + i * row->item_bytes, rest + 1, out);
}

static bool find_key(const option *rows, void *config, const char *path, key_place *out) {
  for
    OPTIONS_EACH(row, rows) {
      void *field = (char *)config + row->at;
      const char *rest = row->key ? after(path, row->key) : path;
      if (row->type == OPTION_GROUP) {
        if (rest && find_key(row->fields, field, rest, out)) return true;
      } else if (row->key && !strcmp(row->key, path)) {
        *out = (key_place){row, field};
        return true;
      } else if (row->type == OPTION_ITEMS && row->key && rest) {
        if (find_in_items(row, field, rest, out)) return true;
      }
    }
  return false;
}

/* Calls visit with every full key. */
static void walk_keys(const option *rows, const char *before, void (*visit)(void *, const char *),
                      void *data) {
  char name[OPTION_NAME_BYTES];
  for
    OPTIONS_EACH(row, rows) {
      if (row->type == OPTION_GROUP) {
        snprintf(name, sizeof name, "%s%s%s", before, row->key ? row->key : "", row->key ? "." : "");
        walk_keys(row->fields, name, visit, data);
      } else if (row->key) {
        snprintf(name, sizeof name, "%s%s", before, row->key);
        visit(data, name);
      }
    }
}

/* What a wrong key could have been: a name beside it, or the same name elsewhere. */
typedef struct guess {
  const char *section; /* "distill." or "" */
  const char *word;    /* the wrong key in it */
  bool is_section;     /* section is the beginning of a key */
  nearest near;
  char elsewhere[OPTION_NAME_BYTES];
  char names[512]; /* all there are, in order */
} guess;

static void guess_visit(void *data, const char *key) {
  guess *g = data;
  size_t n = strlen(g->section);
  const char *last = strrchr(key, '.');
  if (!strcmp(last ? last + 1 : key, g->word)) snprintf(g->elsewhere, sizeof g->elsewhere, "%s", key);
  if (strncmp(key, g->section, n)) return;
  char name[OPTION_NAME_BYTES], listed[OPTION_NAME_BYTES + 4];
  snprintf(name, sizeof name, "%.*s", (int)strcspn(key + n, "."), key + n);
  g->is_section = true;
  nearest_try(&g->near, name);
  snprintf(listed, sizeof listed, ", %s,", name);
  size_t used = strlen(g->names);
  if (!strstr(g->names, listed))
    snprintf(g->names + used, sizeof g->names - used, "%s%s,", used ? " " : ", ", name);
}

static guess guess_key(const target *t, const char *section, const char *word) {
  guess g = {.section = section, .word = word};
  nearest_start(&g.near, word);
  walk_keys(t->rows, "", guess_visit, &g);
  return g;
}

status options_set(const option *rows, void *config, const char *key, const char *text) {
  problems p = {0};
  key_place place;
  if (!find_key(rows, config, key, &place)) {
    char hint[OPTION_NAME_BYTES + 32];
    guess g = guess_key(&(target){.rows = rows}, "", key);
    return status_set(STATUS_BAD_INPUT, "unknown key '%s'%s", key, nearest_hint(&g.near, "", hint));
  }
  if (place.row->type == OPTION_INTS || place.row->type == OPTION_REALS)
    option_set_parts(place.row, place.field, text, key, &p);
  else
    option_set_text(place.row, place.field, text, key, "", &p);
  return problems_end(&p, NULL);
}

static void name_place(const target *t, const document *at, const char *path, char where[WHERE_BYTES]) {
  if (t->set)
    snprintf(where, WHERE_BYTES, "--set %.240s", t->set);
  else
    snprintf(where, WHERE_BYTES, "line %zu, column %zu: %s%.200s", at->line, at->column, t->label, path);
}

static void complain_unknown(const target *t, const document *at, const char *path) {
  char where[WHERE_BYTES], section[OPTION_NAME_BYTES], hint[OPTION_NAME_BYTES + 32];
  const char *dot = strrchr(path, '.');
  snprintf(section, sizeof section, "%.*s", dot ? (int)(dot + 1 - path) : 0, path);
  guess g = guess_key(t, section, dot ? dot + 1 : path);
  if (t->set)
    snprintf(where, sizeof where, "--set %.240s", t->set);
  else
    snprintf(where, sizeof where, "line %zu, column %zu", at->line, at->column);
  char full[OPTION_NAME_BYTES + 32];
  snprintf(full, sizeof full, "%s%.200s", t->label, path);
  if (*g.near.best) {
    snprintf(section, sizeof section, "%s%.*s", t->label, dot ? (int)(dot + 1 - path) : 0, path);
    problems_add(t->p, "%s: unknown key '%s'%s", where, full, nearest_hint(&g.near, section, hint));
  } else if (*g.elsewhere) {
    problems_add(t->p, "%s: unknown key '%s' (did you mean '%s%s'?)", where, full, t->label, g.elsewhere);
  } else if (dot && !g.is_section) { /* what it would be in is not known either */
    snprintf(section, sizeof section, "%.*s", (int)(dot - path), path);
    complain_unknown(t, at, section);
  } else {
    size_t n = strlen(g.names);
    problems_add(t->p, "%s: unknown key '%s'; valid: %.*s", where, full, n > 2 ? (int)n - 3 : 0, g.names + 2);
  }
}

static void apply_map(const target *t, const char *section, const document *map);

/* A scalar may stand where one value is wanted; numbers and booleans stand without quotes. */
static bool check_scalar(const option *row, const document *value, const char *where, problems *p) {
  bool text = row->type == OPTION_STRING || row->type == OPTION_PATH || row->type == OPTION_CHOICE ||
              row->type == OPTION_STRINGS || row->type == OPTION_PATHS;
  bool nothing = !value->quoted && value->kind == DOCUMENT_SCALAR &&
                 (!*value->text || !strcmp(value->text, "~") || !strcmp(value->text, "null"));
  const char *wanted = text ? "text" : row->type == OPTION_FLAG ? "true or false" : "a number";
  if (value->kind == DOCUMENT_BAD) return false;
  if (value->kind == DOCUMENT_SCALAR && !nothing && (text || !value->quoted)) return true;
  problems_add(p, "%s: %s was expected, found %s", where, wanted,
               nothing ? "nothing" : document_kind_name(value));
  return false;
}

static void apply_list(const target *t, const key_place *k, const document *value, const char *where) {
  char **texts = NULL;
  bool good = true;
  status st = mem_new(&texts, value->n, sizeof *texts);
  if (st) {
    t->p->memory = st;
    return;
  }
  for (size_t i = 0; i < value->n; i++) {
    good = check_scalar(k->row, &value->items[i], where, t->p) && good;
    texts[i] = value->items[i].text;
  }
  if (good) option_set_list(k->row, k->field, texts, value->n, where, t->folder, t->p);
  mem_free(texts);
}

static void apply_item(const target *t, const option *row, void *item, const document *value,
                       const char *path, size_t i) {
  char label[OPTION_NAME_BYTES], where[WHERE_BYTES], lacks[WHERE_BYTES];
  problems missing = {0};
  snprintf(label, sizeof label, "%s%.150s.%zu.", t->label, path, i);
  target inner = *t;
  inner.rows = row->fields;
  inner.config = item;
  inner.label = label;
  if (value->kind != DOCUMENT_MAP) {
    name_place(t, value, path, where);
    if (value->kind != DOCUMENT_BAD)
      problems_add(t->p, "%s: a mapping was expected, found %s", where, document_kind_name(value));
    return;
  }
  apply_map(&inner, "", value);
  options_require(row->fields, item, false, label, t->seen, &missing);
  if (missing.n) {
    if (t->set)
      snprintf(lacks, sizeof lacks, "--set %.240s", t->set);
    else
      snprintf(lacks, sizeof lacks, "line %zu, column %zu", value->line, value->column);
    problems_add(t->p, "%s: %s", lacks, missing.lines ? missing.lines : "");
  }
  problems_end(&missing, NULL);
}

static void apply_items(const target *t, const key_place *k, const document *value, const char *path) {
  option_list list = {0};
  option_clear(k->row, k->field);
  status st = mem_new(&list.items, value->n, k->row->item_bytes);
  if (!st) list.n = value->n;
  option_list_put(k->field, list);
  for (size_t i = 0; i < list.n && !st; i++) {
    void *item = (char *)list.items + i * k->row->item_bytes;
    st = options_defaults(k->row->fields, item);
    if (!st) apply_item(t, k->row, item, &value->items[i], path, i);
  }
  if (st) t->p->memory = st;
}

static void apply_value(const target *t, const key_place *k, const document *value, const char *path,
                        const char *where) {
  bool list = option_is_list(k->row), items = k->row->type == OPTION_ITEMS;
  options_see(t->seen, k->field, where, t->p);
  if (value->kind == DOCUMENT_BAD) return;
  if (list || items) {
    const bool numbers = k->row->type == OPTION_INTS || k->row->type == OPTION_REALS;
    if (value->kind != DOCUMENT_LIST)
      problems_add(t->p, "%s: a sequence%s was expected, found %s", where,
                   numbers ? " of numbers, like [3, 32, 32]," : "", document_kind_name(value));
    else if (items)
      apply_items(t, k, value, path);
    else
      apply_list(t, k, value, where);
  } else if (check_scalar(k->row, value, where, t->p)) {
    option_set_text(k->row, k->field, value->text, where, t->folder, t->p);
  }
}

/* "teach: live" is "teach: {live: true}", where a section has a flag of that name. */
static bool apply_word(const target *t, const char *path, const document *key, const document *value) {
  char where[WHERE_BYTES], flag[OPTION_NAME_BYTES];
  key_place place;
  if (value->kind != DOCUMENT_SCALAR || value->quoted) return false;
  snprintf(flag, sizeof flag, "%.150s.%.100s", path, value->text);
  if (!find_key(t->rows, t->config, flag, &place) || place.row->type != OPTION_FLAG) return false;
  document yes = {.kind = DOCUMENT_SCALAR, .text = (char *)(uintptr_t) "true"};
  name_place(t, key, flag, where);
  apply_value(t, &place, &yes, flag, where);
  return true;
}

static void apply(const target *t, const char *path, const document *key, const document *value) {
  char where[WHERE_BYTES], section[OPTION_NAME_BYTES];
  key_place place;
  if (find_key(t->rows, t->config, path, &place)) {
    name_place(t, key, path, where);
    apply_value(t, &place, value, path, where);
    return;
  }
  snprintf(section, sizeof section, "%.250s.", path);
  guess g = guess_key(t, section, "");
  if (!g.is_section) {
    complain_unknown(t, key, path);
  } else if (value->kind == DOCUMENT_MAP) {
    apply_map(t, section, value);
  } else if (value->kind != DOCUMENT_BAD && !apply_word(t, path, key, value)) {
    name_place(t, key, path, where);
    problems_add(t->p, "%s: a mapping was expected, found %s", where, document_kind_name(value));
  }
}

static void apply_map(const target *t, const char *section, const document *map) {
  char path[OPTION_NAME_BYTES];
  for (size_t i = 0; i < map->n && !t->p->memory; i++) {
    const document *key = &map->keys[i];
    if (key->kind != DOCUMENT_SCALAR) continue;
    int n = snprintf(path, sizeof path, "%s%s", section, key->text);
    /* "distill.epochs: 5" would be a second way to write the same key, and escape the search for duplicates.
     */
    if (strchr(key->text, '.') || !*key->text || n >= (int)sizeof path)
      problems_add(t->p, "line %zu, column %zu: unknown key '%.80s'%s", key->line, key->column, key->text,
                   strchr(key->text, '.') ? ": write sections as nested mappings" : "");
    else
      apply(t, path, key, &map->items[i]);
  }
}

static status apply_setting(const target *t, const char *setting) {
  status st = STATUS_OK;
  char key[OPTION_NAME_BYTES], where[WHERE_BYTES];
  document *value = NULL, name = {.kind = DOCUMENT_SCALAR};
  const char *equals = strchr(setting, '=');
  size_t n = equals ? (size_t)(equals - setting) : 0;
  if (!n || n >= sizeof key) {
    problems_add(t->p, "--set %.80s: KEY=VALUE was expected", setting);
    return st;
  }
  snprintf(key, sizeof key, "%.*s", (int)n, setting);
  snprintf(where, sizeof where, "--set %s: ", key);
  TRY(document_read(&value, equals + 1, strlen(equals + 1), where, t->p));
  if (!value) goto done;
  target inner = *t;
  inner.set = key;
  inner.folder = "";
  apply(&inner, key, &name, value);
done:
  document_free(&value);
  return st;
}

status options_recipe(const option *rows, void *config, const char *name, const char *text, size_t n,
                      const char *folder, const mpistill_strings *set, options_seen *seen) {
  status st = STATUS_OK;
  problems p = {0};
  options_seen own = {0};
  document *root = NULL;
  char headline[512];
  target t = {
      .rows = rows, .config = config, .label = "", .folder = folder, .p = &p, .seen = seen ? seen : &own};
  TRY(document_read(&root, text, n, "", &p));
  if (root && root->kind == DOCUMENT_MAP)
    apply_map(&t, "", root);
  else if (root && root->kind != DOCUMENT_BAD)
    problems_add(&p, "line 1: a mapping was expected, found %s", document_kind_name(root));
  for (size_t i = 0; set && i < set->n; i++) TRY(apply_setting(&t, set->items[i]));
  if (root) options_require(rows, config, false, "", t.seen, &p);
done:
  document_free(&root);
  options_seen_free(&own);
  snprintf(headline, sizeof headline, "%s: cannot be followed:", name);
  if (st) p.memory = st;
  return problems_end(&p, headline);
}
