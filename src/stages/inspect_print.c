/* A JSON object as lines for people. */
#include "stages/inspect.h"

#include <stdio.h>
#include <string.h>

enum { ELEMENTS_SHOWN = 24 };

static void print_value(const json_t *value);

static void print_list(const json_t *list) {
  size_t n = json_array_size(list);
  putchar('[');
  for (size_t i = 0; i < n && i < ELEMENTS_SHOWN; i++) {
    if (i) fputs(", ", stdout);
    print_value(json_array_get(list, i));
  }
  printf(n > ELEMENTS_SHOWN ? ", ... %zu in all]" : "]", n);
}

static void print_members(const json_t *object) {
  const char *key, *before = "";
  json_t *value;
  if (!json_object_size(object)) fputs("none", stdout);
  json_object_foreach((json_t *)(uintptr_t)object, key, value) {
    printf("%s%s ", before, key);
    print_value(value);
    before = ", ";
  }
}

static void print_value(const json_t *value) {
  switch (json_typeof(value)) {
  case JSON_STRING:
    fputs(json_string_value(value), stdout);
    break;
  case JSON_INTEGER:
    printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    break;
  case JSON_REAL:
    printf("%.9g", json_real_value(value));
    break;
  case JSON_ARRAY:
    print_list(value);
    break;
  case JSON_OBJECT:
    print_members(value);
    break;
  default:
    fputs(json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "?", stdout);
  }
}

/* No member is an object: fits on one line. */
static bool is_flat(const json_t *object) {
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)object, key, value) if (json_is_object(value)) return false;
  return true;
}

static void print_section(const json_t *object, int indent) {
  const char *key;
  json_t *value;
  int width = 0;
  json_object_foreach((json_t *)(uintptr_t)object, key, value) if ((int)strlen(key) > width) width =
      (int)strlen(key);
  json_object_foreach((json_t *)(uintptr_t)object, key, value) {
    if (json_is_object(value) && (!is_flat(value) || indent == 0)) {
      printf("%*s%s\n", indent, "", key);
      print_section(value, indent + 2);
    } else {
      printf("%*s%-*s  ", indent, "", width, key);
      print_value(value);
      putchar('\n');
    }
  }
}

void inspect_print(const json_t *object) {
  print_section(object, 0);
}
