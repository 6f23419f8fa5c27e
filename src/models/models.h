/* Fresh models for `create` and for `student: {create: ...}`: one struct a kind, one row in models.c. */
#ifndef MPISTILL_MODELS_MODELS_H
#define MPISTILL_MODELS_MODELS_H

#include "mpistill/mpistill.h"
#include "onnx/build.h"

typedef struct model_kind {
  const char *name;
  const char *help;    /* one line for --help */
  const char *options; /* the option names it reads, space separated */
  status (*build)(builder *b, const mpistill_create_options *o); /* checks the options, adds everything */
} model_kind;

/* NULL-ended. */
const model_kind *const *model_kinds(void);
/* NULL if unknown. */
const model_kind *model_kind_find(const char *name);

/* Local. Builds o->kind into memory (*bytes owned by the caller) or into o->output. STATUS_BAD_INPUT for
 * options that do not make a model, naming them. */
status model_create_bytes(const mpistill_create_options *o, unsigned char **bytes, size_t *n);
status model_create(const mpistill_create_options *o);

#endif
