#include "base/options_private.h"

#include "base/file.h"
#include "base/mem.h"

#include <string.h>

/* ---- all rows ---- */

static size_t value_bytes(const option *row) {
  switch (row->type) {
  case OPTION_FLAG:
    return sizeof(bool);
  case OPTION_INT:
  case OPTION_SEED:
  case OPTION_REAL:
    return sizeof(double);
  case OPTION_STRING:
  case OPTION_PATH:
  case OPTION_CHOICE:
    return sizeof(char *);
  default:
    return sizeof(option_list);
  }
}

static void set_defaults(const option *rows, char *config, problems *p) {
  for
    OPTIONS_EACH(row, rows) {
      if (row->type == OPTION_GROUP) {
        set_defaults(row->fields, config + row->at, p);
        continue;
      }
      memset(config + row->at, 0, value_bytes(row));
      const char *name = row->flag ? row->flag : row->key;
      if (!row->initial) continue;
      if (row->type == OPTION_INTS || row->type == OPTION_REALS)
        option_set_parts(row, config + row->at, row->initial, name, p);
      else
        option_set_text(row, config + row->at, row->initial, name, "", p);
    }
}

status options_defaults(const option *rows, void *config) {
  problems p = {0};
  set_defaults(rows, config, &p);
  return problems_end(&p, "defaults that are not valid themselves:");
}

void options_free(const option *rows, void *config) {
  for
    OPTIONS_EACH(row, rows) {
      if (row->type == OPTION_GROUP)
        options_free(row->fields, (char *)config + row->at);
      else
        option_clear(row, (char *)config + row->at);
    }
}

static bool is_empty(const option *row, const void *field) {
  if (row->type == OPTION_STRING || row->type == OPTION_PATH || row->type == OPTION_CHOICE)
    return !*(char *const *)field;
  return value_bytes(row) == sizeof(option_list) && option_list_get(field).n == 0;
}

static bool is_zero(const option *row, const char *field) {
  static const char zero[sizeof(option_list)];
  return !memcmp(field, zero, value_bytes(row));
}

static void check_rows(const option *rows, const char *config, problems *p) {
  for
    OPTIONS_EACH(row, rows) {
      const char *name = row->flag ? row->flag : row->key, *field = config + row->at;
      if (row->type == OPTION_GROUP) {
        check_rows(row->fields, field, p);
      } else if (row->required && is_empty(row, field)) {
        problems_add(p, "%s: is needed", name);
      } else if (row->type == OPTION_ITEMS) {
        option_list list = option_list_get(field);
        for (size_t i = 0; i < list.n; i++)
          check_rows(row->fields, (char *)list.items + i * row->item_bytes, p);
      } else if (row->initial || !is_zero(row, field)) { /* zero without a default means: not given */
        option_check_value(row, field, name, p);
      }
    }
}

status options_check(const option *rows, const void *config) {
  problems p = {0};
  check_rows(rows, config, &p);
  return problems_end(&p, p.n > 1 ? "several options are wrong:" : NULL);
}

static const char *same_path(const char *path, const char *output) {
  return path && path != output && file_same(path, output) ? path : NULL;
}

static const char *same_in_list(const option *row, option_list list, const char *output) {
  const char *found = NULL;
  for (size_t i = 0; i < list.n && !found; i++)
    found = row->type == OPTION_ITEMS
                ? options_same_file(row->fields, (const char *)list.items + i * row->item_bytes, output)
                : same_path(((char *const *)list.items)[i], output);
  return found;
}

const char *options_same_file(const option *rows, const void *config, const char *output) {
  const char *found = NULL;
  for
    OPTIONS_EACH(row, rows) {
      const char *field = (const char *)config + row->at;
      if (found) break;
      if (row->type == OPTION_PATH)
        found = same_path(*(char *const *)field, output);
      else if (row->type == OPTION_GROUP)
        found = options_same_file(row->fields, field, output);
      else if (row->type == OPTION_PATHS || row->type == OPTION_ITEMS)
        found = same_in_list(row, option_list_get(field), output);
    }
  return found;
}

/* ---- what was given ---- */

void options_see(options_seen *seen, const void *field, const char *where, problems *p) {
  if (!seen) return;
  struct option_place place = {.field = field};
  status st = mem_string(&place.where, where);
  if (!st) st = mem_resize(&seen->items, seen->n, seen->n + 1, sizeof *seen->items);
  if (st) {
    mem_free(place.where);
    p->memory = st;
    return;
  }
  seen->items[seen->n++] = place;
}

const char *options_given(const options_seen *seen, const void *field) {
  for (size_t i = seen->n; i-- > 0;)
    if (seen->items[i].field == field) return seen->items[i].where;
  return NULL;
}

void options_seen_free(options_seen *seen) {
  for (size_t i = 0; i < seen->n; i++) mem_free(seen->items[i].where);
  mem_free(seen->items);
  *seen = (options_seen){0};
}

void options_require(const option *rows, const void *config, bool by_flag, const char *prefix,
                     const options_seen *seen, problems *p) {
  for
    OPTIONS_EACH(row, rows) {
      const char *field = (const char *)config + row->at;
      if (row->type == OPTION_GROUP) {
        char name[OPTION_NAME_BYTES];
        snprintf(name, sizeof name, "%s%s%s", prefix, row->key ? row->key : "", row->key ? "." : "");
        options_require(row->fields, field, by_flag, name, seen, p);
      } else if (row->required && !options_given(seen, field)) {
        if (by_flag && row->flag) problems_add(p, "--%s %s is needed", row->flag, option_placeholder(row));
        if (!by_flag && row->key) problems_add(p, "key '%s%s' is missing", prefix, row->key);
      }
    }
}

/* ---- the command line ---- */

typedef struct flag_place {
  const option *row;
  void *field;
} flag_place;

static bool find_flag(const option *rows, void *config, const char *name, flag_place *out) {
  for
    OPTIONS_EACH(row, rows) {
      void *field = (char *)config + row->at;
      if (row->type == OPTION_GROUP) {
        if (find_flag(row->fields, field, name, out)) return true;
      } else if (row->flag && !strcmp(row->flag, name)) {
        *out = (flag_place){row, field};
        return true;
      }
    }
  return false;
}

static void try_flags(const option *rows, nearest *near) {
  for
    OPTIONS_EACH(row, rows) {
      if (row->type == OPTION_GROUP)
        try_flags(row->fields, near);
      else if (row->flag)
        nearest_try(near, row->flag);
    }
}

static void append_item(const flag_place *f, const char *text, const char *where, problems *p) {
  const option *row = f->row;
  option_list list = option_list_get(f->field);
  status st = mem_resize(&list.items, list.n, list.n + 1, row->item_bytes);
  if (st) {
    p->memory = st;
    return;
  }
  char *item = (char *)list.items + list.n * row->item_bytes;
  option_list_put(f->field, list);
  st = options_defaults(row->fields, item);
  if (!st) st = row->parse_item(text, item);
  list.n++;
  option_list_put(f->field, list);
  if (st == STATUS_BAD_INPUT)
    problems_add(p, "%s %s: %s", where, text, status_message());
  else if (st)
    p->memory = st;
}

static void set_flag_value(const flag_place *f, const char *text, const char *where, options_seen *seen,
                           problems *p) {
  bool strings =
      f->row->type == OPTION_STRINGS || f->row->type == OPTION_PATHS || f->row->type == OPTION_ITEMS;
  bool again = options_given(seen, f->field) != NULL;
  if (strings && !again) option_clear(f->row, f->field); /* the default gives way */
  if (!strings && again && f->row->type != OPTION_FLAG) problems_add(p, "%s: is given twice", where);
  options_see(seen, f->field, where, p);
  if (f->row->type == OPTION_ITEMS)
    append_item(f, text, where, p);
  else if (f->row->type == OPTION_INTS || f->row->type == OPTION_REALS)
    option_set_parts(f->row, f->field, text, where, p);
  else
    option_set_text(f->row, f->field, text, where, "", p);
}

/* After an unknown option: what follows is most likely its value, and would be a second complaint about the
 * same slip. */
static bool value_follows(int argc, char *const *argv) {
  return argc > 1 && argv[1][0] != '-';
}

/* One flag at argv[0]; returns how many arguments it took. */
static int parse_flag(const option *rows, void *config, int argc, char *const *argv, options_seen *seen,
                      problems *p) {
  char name[OPTION_NAME_BYTES], where[OPTION_NAME_BYTES + 2], hint[OPTION_NAME_BYTES + 32];
  const char *text = argv[0] + 2, *equals = strchr(text, '=');
  size_t n = equals ? (size_t)(equals - text) : strlen(text);
  flag_place place;
  snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), text);
  snprintf(where, sizeof where, "--%s", name);
  if (!find_flag(rows, config, name, &place)) {
    nearest near;
    nearest_start(&near, name);
    try_flags(rows, &near);
    problems_add(p, "unknown option '--%s'%s", name, nearest_hint(&near, "--", hint));
    return !equals && value_follows(argc, argv) ? 2 : 1;
  }
  if (equals) {
    set_flag_value(&place, equals + 1, where, seen, p);
  } else if (place.row->type == OPTION_FLAG) {
    set_flag_value(&place, "true", where, seen, p);
  } else if (argc < 2 || !strncmp(argv[1], "--", 2)) {
    problems_add(p, "%s needs a value (%s)", where, option_placeholder(place.row));
    options_see(seen, place.field, where, p);
  } else {
    set_flag_value(&place, argv[1], where, seen, p);
    return 2;
  }
  return 1;
}

static void add_positional(mpistill_strings *positional, const char *text, problems *p) {
  static const option any = {.type = OPTION_STRINGS};
  if (!positional)
    problems_add(p, "'%s' is not expected here: options start with '--'", text);
  else
    option_set_text(&any, positional, text, "an argument", "", p);
}

status options_parse(const option *rows, void *config, int argc, char *const *argv,
                     mpistill_strings *positional, options_seen *seen) {
  problems p = {0};
  options_seen own = {0};
  bool flags = true;
  if (!seen) seen = &own;
  for (int i = 0; i < argc;) {
    const char *text = argv[i];
    if (flags && !strcmp(text, "--")) {
      flags = false;
      i++;
    } else if (flags && !strncmp(text, "--", 2)) {
      i += parse_flag(rows, config, argc - i, argv + i, seen, &p);
    } else if (flags && text[0] == '-' && text[1]) {
      problems_add(&p, "unknown option '%s': options start with '--'", text);
      i += value_follows(argc - i, argv + i) ? 2 : 1;
    } else {
      add_positional(positional, text, &p);
      i++;
    }
  }
  options_require(rows, config, true, "", seen, &p);
  options_seen_free(&own);
  return problems_end(&p, p.n > 1 ? "several options are wrong:" : NULL);
}
