/* Text to values. */
#include "base/options_private.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numbers have a decimal point whatever locale the calling program has set. */
static locale_t c_locale;

static void make_locale(void) __attribute__((constructor));

static void make_locale(void) {
  c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

bool text_to_int(const char *text, int64_t *out) {
  const char *digits = text + (*text == '-' || *text == '+');
  if (!isdigit((unsigned char)*digits)) return false;
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (*end || errno) return false;
  *out = value;
  return true;
}

bool text_to_real(const char *text, double *out) {
  if (!*text || text[strspn(text, "0123456789+-.eE")] ||
      !isdigit((unsigned char)text[strcspn(text, "0123456789")]))
    return false;
  char *end;
  double value = c_locale ? strtod_l(text, &end, c_locale) : strtod(text, &end);
  if (*end || end == text || !isfinite(value)) return false;
  *out = value;
  return true;
}

static bool text_to_seed(const char *text, uint64_t *out) {
  if (!isdigit((unsigned char)*text)) return false;
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (*end || errno) return false;
  *out = value;
  return true;
}

/* 010 is 8 to some readers and 10 to others. */
static bool octal(const char *text) {
  text += *text == '-' || *text == '+';
  return text[0] == '0' && isdigit((unsigned char)text[1]);
}

option_list option_list_get(const void *field) {
  option_list list;
  memcpy(&list, field, sizeof list);
  return list;
}

void option_list_put(void *field, option_list list) {
  memcpy(field, &list, sizeof list);
}

bool option_is_list(const option *row) {
  return row->type == OPTION_STRINGS || row->type == OPTION_PATHS || row->type == OPTION_INTS ||
         row->type == OPTION_REALS;
}

static bool in_range(const option *row, double value) {
  if (row->min == 0 && row->max == 0 && !row->above_min) return true;
  return (row->above_min ? value > row->min : value >= row->min) &&
         (row->max <= row->min || value <= row->max);
}

static void check_range(const option *row, double value, const char *where, problems *p) {
  const char *least = row->above_min ? "more than" : "at least";
  if (in_range(row, value)) return;
  if (row->max > row->min)
    problems_add(p, "%s: %.12g is out of range (%s %.12g, at most %.12g)", where, value, least, row->min,
                 row->max);
  else
    problems_add(p, "%s: %.12g is out of range (%s %.12g)", where, value, least, row->min);
}

static void set_number(const option *row, void *field, const char *text, const char *where, problems *p) {
  int64_t whole = 0;
  uint64_t seed = 0;
  double real = 0;
  bool is_real = row->type == OPTION_REAL || row->type == OPTION_REALS, is_seed = row->type == OPTION_SEED;
  bool good = !octal(text) && (is_real   ? text_to_real(text, &real)
                               : is_seed ? text_to_seed(text, &seed)
                                         : text_to_int(text, &whole));
  if (!good) {
    problems_add(p, "%s: '%.80s' is not a %snumber%s", where, text, is_real ? "" : "whole ",
                 octal(text) ? " (leave out the leading zeros)"
                 : is_seed   ? " from 0 to 18446744073709551615"
                             : "");
  } else {
    if (!is_seed) check_range(row, is_real ? real : (double)whole, where, p);
    if (is_real)
      memcpy(field, &real, sizeof real);
    else if (is_seed)
      memcpy(field, &seed, sizeof seed);
    else
      memcpy(field, &whole, sizeof whole);
  }
}

static void set_flag(bool *field, const char *text, const char *where, problems *p) {
  if (strcmp(text, "true") && strcmp(text, "false"))
    problems_add(p, "%s: '%.80s' is neither true nor false", where, text);
  else
    *field = !strcmp(text, "true");
}

static void set_string(const option *row, char **field, const char *text, const char *folder, problems *p) {
  char *fresh;
  bool path = row->type == OPTION_PATH || row->type == OPTION_PATHS;
  bool moved = path && *folder && strcmp(folder, ".") && *text != '/';
  status st = moved ? mem_format(&fresh, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", text)
                    : mem_string(&fresh, text);
  if (st) {
    p->memory = st;
    return;
  }
  mem_free(*field);
  *field = fresh;
}

static void check_choice(const option *row, const char *text, const char *where, problems *p) {
  char names[512] = "", hint[OPTION_NAME_BYTES + 32];
  size_t used = 0;
  nearest near;
  nearest_start(&near, text);
  for (int i = 0; row->choice(i); i++) {
    const char *name = row->choice(i);
    if (!strcmp(name, text)) return;
    nearest_try(&near, name);
    used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", name);
    if (used >= sizeof names) used = sizeof names - 1;
  }
  problems_add(p, "%s: '%.80s' is not known%s; valid: %s", where, text, nearest_hint(&near, "", hint), names);
}

void option_check_value(const option *row, const void *field, const char *where, problems *p) {
  option_list list;
  int64_t whole;
  double real;
  switch (row->type) {
  case OPTION_INT:
    memcpy(&whole, field, sizeof whole);
    check_range(row, (double)whole, where, p);
    return;
  case OPTION_REAL:
    memcpy(&real, field, sizeof real);
    if (isfinite(real))
      check_range(row, real, where, p);
    else
      problems_add(p, "%s: is not a finite number", where);
    return;
  case OPTION_CHOICE:
    if (*(char *const *)field) check_choice(row, *(char *const *)field, where, p);
    return;
  case OPTION_INTS:
    list = option_list_get(field);
    for (size_t i = 0; i < list.n; i++) check_range(row, (double)((int64_t *)list.items)[i], where, p);
    return;
  case OPTION_REALS:
    list = option_list_get(field);
    for (size_t i = 0; i < list.n; i++) check_range(row, ((double *)list.items)[i], where, p);
    return;
  default:
    return;
  }
}

static void append_string(const option *row, void *field, const char *text, const char *where,
                          const char *folder, problems *p) {
  option_list list = option_list_get(field);
  status st = mem_resize(&list.items, list.n, list.n + 1, sizeof(char *));
  if (st) {
    p->memory = st;
    return;
  }
  option_list_put(field, list); /* the array may have moved */
  if (!*text) problems_add(p, "%s: the value is empty", where);
  set_string(row, (char **)list.items + list.n, text, folder, p);
  if (((char **)list.items)[list.n]) list.n++;
  option_list_put(field, list);
}

void option_set_text(const option *row, void *field, const char *text, const char *where, const char *folder,
                     problems *p) {
  switch (row->type) {
  case OPTION_FLAG:
    set_flag(field, text, where, p);
    break;
  case OPTION_INT:
  case OPTION_SEED:
  case OPTION_REAL:
    set_number(row, field, text, where, p);
    break;
  case OPTION_STRING:
  case OPTION_PATH:
    if (*text)
      set_string(row, field, text, folder, p);
    else
      problems_add(p, "%s: the value is empty", where);
    break;
  case OPTION_CHOICE:
    check_choice(row, text, where, p);
    set_string(row, field, text, "", p);
    break;
  case OPTION_STRINGS:
  case OPTION_PATHS:
    append_string(row, field, text, where, folder, p);
    break;
  default:
    break;
  }
}

void option_set_list(const option *row, void *field, char *const *texts, size_t n, const char *where,
                     const char *folder, problems *p) {
  option_clear(row, field);
  if (row->type == OPTION_STRINGS || row->type == OPTION_PATHS) {
    for (size_t i = 0; i < n; i++) append_string(row, field, texts[i], where, folder, p);
    return;
  }
  option_list list = {0};
  status st = mem_new(&list.items, n, sizeof(double)); /* int64_t has the same size */
  if (st) {
    p->memory = st;
    return;
  }
  list.n = n;
  for (size_t i = 0; i < n; i++) set_number(row, (char *)list.items + i * sizeof(double), texts[i], where, p);
  option_list_put(field, list);
}

void option_set_parts(const option *row, void *field, const char *text, const char *where, problems *p) {
  const char *separators = row->type == OPTION_INTS ? ",x" : ",";
  size_t n = 1, at = 0;
  char *copy = NULL, **parts = NULL;
  for (const char *c = text; *c; c++) n += strchr(separators, *c) != NULL;
  status st = mem_string(&copy, text);
  if (!st) st = mem_new(&parts, n, sizeof *parts);
  if (st) {
    p->memory = st;
  } else {
    parts[at++] = copy;
    for (char *c = copy; *c; c++) {
      if (!strchr(separators, *c)) continue;
      *c = '\0';
      parts[at++] = c + 1;
    }
    option_set_list(row, field, parts, n, where, "", p);
  }
  mem_free(parts);
  mem_free(copy);
}

void option_clear(const option *row, void *field) {
  option_list list;
  switch (row->type) {
  case OPTION_STRING:
  case OPTION_PATH:
  case OPTION_CHOICE:
    mem_free(*(char **)field);
    *(char **)field = NULL;
    return;
  case OPTION_STRINGS:
  case OPTION_PATHS:
    list = option_list_get(field);
    for (size_t i = 0; i < list.n; i++) mem_free(((char **)list.items)[i]);
    break;
  case OPTION_ITEMS:
    list = option_list_get(field);
    for (size_t i = 0; i < list.n; i++) options_free(row->fields, (char *)list.items + i * row->item_bytes);
    break;
  case OPTION_INTS:
  case OPTION_REALS:
    list = option_list_get(field);
    break;
  default:
    return;
  }
  mem_free(list.items);
  option_list_put(field, (option_list){0});
}

void strings_free(mpistill_strings *s) {
  for (size_t i = 0; i < s->n; i++) mem_free(s->items[i]);
  mem_free(s->items);
  *s = (mpistill_strings){0};
}
