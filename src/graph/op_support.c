#include "base/mem.h"
#include "graph/op.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

status step_error(const step *s, const char *format, ...) {
  char text[2048];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return status_set(STATUS_BAD_INPUT, "node '%s' (%s): %s", s->node->name, s->op->name, text);
}

void step_set_output(step *s, int i, dtype type, const shape *sh) {
  if (i >= s->n_out || !s->out[i]) return;
  s->out[i]->type = type;
  s->out[i]->shape = *sh;
}

status step_constant_output(step *s, int i, const void *data) {
  if (i >= s->n_out || !s->out[i]) return STATUS_OK;
  size_t bytes = (size_t)shape_count(&s->out[i]->shape) * dtype_bytes(s->out[i]->type);
  status st = mem_new(&s->out[i]->data, bytes, 1);
  if (!st && bytes) memcpy(s->out[i]->data, data, bytes);
  return st;
}

static status ints_of_input(const step *s, int input, int64_t *values, int max, int *n) {
  const tensor *t = s->in[input];
  const char *name = s->graph->values[s->node->inputs[input]].name;
  if (!s->constant[input]) return step_error(s, "input '%s' must be known when the model is loaded", name);
  if (t->type != DTYPE_INT64 && t->type != DTYPE_INT32)
    return step_error(s, "input '%s' is %s, expected int64", name, dtype_name(t->type));
  int64_t count = shape_count(&t->shape);
  if (count > max)
    return step_error(s, "input '%s' has %lld values, expected at most %d", name, (long long)count, max);
  for (int64_t i = 0; i < count; i++) values[i] = tensor_int(t, i);
  *n = (int)count;
  return STATUS_OK;
}

status step_ints(const step *s, int input, const char *name, int64_t *values, int max, int *n) {
  *n = -1;
  if (input >= 0 && input < s->n_in && s->in[input]) return ints_of_input(s, input, values, max, n);
  const attribute *a = name ? node_attribute(s->node, name) : NULL;
  if (!a) return STATUS_OK;
  if (a->type != ATTRIBUTE_INTS && a->type != ATTRIBUTE_INT)
    return step_error(s, "attribute '%s' must be a list of integers", name);
  int64_t count = a->type == ATTRIBUTE_INT ? 1 : a->n;
  if (count > max)
    return step_error(s, "attribute '%s' has %lld values, expected at most %d", name, (long long)count, max);
  for (int64_t i = 0; i < count; i++) values[i] = a->type == ATTRIBUTE_INT ? a->i : a->ints[i];
  *n = (int)count;
  return STATUS_OK;
}
