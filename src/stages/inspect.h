/* What a file holds: datasets, soft labels, ONNX models, told apart by their contents. And how far a run is,
 * by its folder or its recipe. */
#ifndef MPISTILL_STAGES_INSPECT_H
#define MPISTILL_STAGES_INSPECT_H

#include "comm/comm.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct inspect_options {
  char *path;
  bool json;   /* one JSON object instead of lines */
  bool verify; /* read everything: checksums, and no value that is not finite */
} inspect_options;

/* Collective over c, made for comm_alone. Prints on stdout. STATUS_BAD_INPUT for what is none of the three.
 */
status stage_inspect(comm *c, const inspect_options *o);

/* Local. The same as an object (a reference for the caller). */
status inspect_file(json_t **out, comm *c, const char *path, bool verify);
/* Local. An object as lines for people: names and values, sections indented. */
void inspect_print(const json_t *object);

#endif
