#include "models/attention.h"
#include "models/kinds.h"

#include <inttypes.h>

enum { PATCH = 4 };

static status check(const mpistill_create_options *o, attention *a, int64_t *patch) {
  status st = STATUS_OK;
  *patch = o->patch ? o->patch : PATCH;
  TRY(check_image(&o->input));
  TRY(attention_check(o, a));
  a->length = 1;
  for (int i = 1; i < 3; i++) {
    if (o->input.items[i] % *patch)
      THROW(STATUS_BAD_INPUT,
            "--input has a side of %" PRId64 ", which patches of %" PRId64 " (--patch) do not divide",
            o->input.items[i], *patch);
    a->length *= o->input.items[i] / *patch;
  }
done:
  return st;
}

static status build(builder *b, const mpistill_create_options *o) {
  status st = STATUS_OK;
  attention a = {0};
  int64_t patch;
  part_name at = "input";
  TRY(check(o, &a, &patch));
  builder_input(b, at, o->input.items, 3);
  part_conv(b, at, "patches",
            &(convolution){.inputs = o->input.items[0],
                           .outputs = a.width,
                           .kernel = patch,
                           .stride = patch,
                           .bias = true,
                           .init = BUILD_GLOROT,
                           .patch = true});
  part_reshape(b, at, "patches.flat", (int64_t[]){0, a.width, a.length}, 3);
  part_transpose(b, at, "patches.rows", (int64_t[]){0, 2, 1}, 3);
  builder_parameter(b, "position.weight", (int64_t[]){a.length, a.width}, 2, BUILD_SMALL, 1, 1);
  part_binary(b, at, "position", "Add", "position.weight");
  attention_blocks(b, at, &a);
  part_plain(b, at, "pool", "ReduceMean");
  builder_ints(b, "axes", (int64_t[]){1}, 1);
  builder_int(b, "keepdims", 0);
  TRY(part_outputs(b, at, a.width, o->classes, o));
done:
  return st;
}

const model_kind model_vit = {
    .name = "vit",
    .help = "attention over patches: --input 3x32x32 --classes 10 --patch 4 --width 64 --heads 4 --depth 4",
    .options = "input classes task patch width heads depth dropout",
    .build = build,
};
