#include "models/models.h"

#include "models/kinds.h"

#include <string.h>

const model_kind *const *model_kinds(void) {
  static const model_kind *const kinds[] = {&model_mlp,         &model_cnn, &model_resnet, &model_mobilenet,
                                            &model_transformer, &model_vit, &model_lstm,   &model_gru,
                                            &model_two_tower,   NULL};
  return kinds;
}

const model_kind *model_kind_find(const char *name) {
  for (const model_kind *const *k = model_kinds(); *k; k++)
    if (strcmp((*k)->name, name) == 0) return *k;
  return NULL;
}

static status unknown_kind(const char *name) {
  status_set(STATUS_BAD_INPUT, "there is no kind of model '%s'; there are:", name ? name : "");
  for (const model_kind *const *k = model_kinds(); *k; k++)
    status_add_line("  %-11s %s", (*k)->name, (*k)->help);
  return STATUS_BAD_INPUT;
}

static status build(const mpistill_create_options *o, builder **out) {
  status st = STATUS_OK;
  const model_kind *kind = o->kind ? model_kind_find(o->kind) : NULL;
  *out = NULL;
  if (!kind) return unknown_kind(o->kind);
  TRY(builder_new(out, kind->name, o->seed));
  TRY(kind->build(*out, o));
done:
  if (st) builder_free(out);
  return st;
}

status model_create_bytes(const mpistill_create_options *o, unsigned char **bytes, size_t *n) {
  status st = STATUS_OK;
  builder *b = NULL;
  *bytes = NULL;
  TRY(build(o, &b));
  TRY(builder_pack(b, bytes, n));
done:
  builder_free(&b);
  return st;
}

status model_create(const mpistill_create_options *o) {
  status st = STATUS_OK;
  builder *b = NULL;
  if (!o->output) THROW(STATUS_BAD_INPUT, "--output is needed: the ONNX file to write");
  TRY(build(o, &b));
  TRY(builder_write(b, o->output));
done:
  builder_free(&b);
  return st;
}
