/* What a model ends in: logits of its classes, or an output for each task. */
#include "base/mem.h"
#include "models/parts.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TASKS_MAX = 64 };

static status wrong_task(const char *text) {
  return status_set(
      STATUS_BAD_INPUT,
      "--task '%s': is a name of letters, digits, '-', '_' and '.' and the numbers its output has a row: "
      "digit:10",
      text);
}

/* "digit:10" */
static status parse(const char *text, part_name name, int64_t *width) {
  size_t n = 0;
  while (isalnum((unsigned char)text[n]) || (text[n] && strchr("-_.", text[n]))) n++;
  if (!n || n >= NAME_BYTES || text[n] != ':' || !isdigit((unsigned char)text[n + 1]))
    return wrong_task(text);
  char *end;
  errno = 0;
  *width = strtoll(text + n + 1, &end, 10);
  if (*end || errno) return wrong_task(text);
  memcpy(name, text, n);
  name[n] = '\0';
  return check_range("task", *width, 1, INT32_MAX);
}

status check_outputs(const mpistill_create_options *o) {
  status st = STATUS_OK;
  if (!o->tasks.n) return check_classes(o->classes);
  if (o->classes)
    THROW(STATUS_BAD_INPUT, "--classes and --task: a model has one output or one for each task");
  TRY(check_range("task", (int64_t)o->tasks.n, 1, TASKS_MAX));
  for (size_t i = 0; i < o->tasks.n; i++) {
    part_name name;
    int64_t width;
    TRY(parse(o->tasks.items[i], name, &width));
  }
done:
  return st;
}

status part_outputs(builder *b, const part_name at, int64_t inputs, int64_t classes,
                    const mpistill_create_options *o) {
  status st = STATUS_OK;
  part_name own, name = "logits";
  int64_t width = classes;
  for (size_t i = 0; i < (o->tasks.n ? o->tasks.n : 1); i++) {
    if (o->tasks.n) TRY(parse(o->tasks.items[i], name, &width));
    if (builder_has(b, name))
      THROW(STATUS_BAD_INPUT, "--task '%s': the model has another '%s'; give it another name",
            o->tasks.items[i], name);
    part_named(own, "%s", at);
    part_linear(b, own, name, inputs, width, BUILD_GLOROT);
    builder_output(b, own, &width, 1);
  }
done:
  return st;
}
