#include "models/kinds.h"
#include "models/parts.h"

#include <inttypes.h>

enum { STAGES = 3, WIDTH = 16, WIDTH_MAX = 1 << 14, DEPTH_MAX = 1202 };

static status check(const mpistill_create_options *o) {
  status st = STATUS_OK;
  if (o->depth < 8 || o->depth > DEPTH_MAX || o->depth % 6 != 2)
    THROW(STATUS_BAD_INPUT,
          "--depth is %" PRId64 "; it can be 6n + 2 up to %d: 8, 14, 20, 32, 44, 56, 110, ...", o->depth,
          DEPTH_MAX);
  TRY(check_image(&o->input));
  TRY(check_outputs(o));
  if (o->width) TRY(check_range("width", o->width, 1, WIDTH_MAX));
done:
  return st;
}

/* Convolution and batch norm; the norm's shift stands for the bias. */
static void conv_norm(builder *b, part_name at, const char *prefix, const char *part, const convolution *c) {
  part_name name;
  part_conv(b, at, part_named(name, "%sconv%s", prefix, part), c);
  part_batch_norm(b, at, part_named(name, "%snorm%s", prefix, part), c->outputs);
}

/* relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)) */
static void block(builder *b, part_name at, const char *prefix, int64_t inputs, int64_t outputs,
                  int64_t stride) {
  part_name shortcut, name;
  part_named(shortcut, "%s", at);
  conv_norm(
      b, at, prefix, "1",
      &(convolution){.inputs = inputs, .outputs = outputs, .kernel = 3, .stride = stride, .init = BUILD_HE});
  part_plain(b, at, part_named(name, "%srelu1", prefix), "Relu");
  conv_norm(
      b, at, prefix, "2",
      &(convolution){.inputs = outputs, .outputs = outputs, .kernel = 3, .stride = 1, .init = BUILD_HE});
  if (inputs != outputs || stride != 1)
    conv_norm(b, shortcut, prefix, "_shortcut",
              &(convolution){
                  .inputs = inputs, .outputs = outputs, .kernel = 1, .stride = stride, .init = BUILD_HE});
  part_named(name, "%sadd", prefix);
  builder_node(b, "Add", name, (const char *[]){at, shortcut, NULL}, name);
  part_named(at, "%s", name);
  part_plain(b, at, part_named(name, "%srelu2", prefix), "Relu");
}

static status build(builder *b, const mpistill_create_options *o) {
  status st = STATUS_OK;
  part_name at = "input", prefix;
  TRY(check(o));
  int64_t blocks = (o->depth - 2) / 6, width = o->width ? o->width : WIDTH;
  builder_input(b, at, o->input.items, 3);
  conv_norm(b, at, "", "0",
            &(convolution){
                .inputs = o->input.items[0], .outputs = width, .kernel = 3, .stride = 1, .init = BUILD_HE});
  part_plain(b, at, "relu0", "Relu");
  for (int stage = 0; stage < STAGES; stage++)
    for (int i = 0; i < blocks; i++) {
      bool narrows = stage > 0 && i == 0;
      int64_t outputs = width << stage;
      part_named(prefix, "stage%d.block%d.", stage + 1, i + 1);
      block(b, at, prefix, narrows ? outputs / 2 : outputs, outputs, narrows ? 2 : 1);
    }
  part_plain(b, at, "pool", "GlobalAveragePool");
  part_plain(b, at, "flatten", "Flatten");
  TRY(part_outputs(b, at, width << (STAGES - 1), o->classes, o));
done:
  return st;
}

const model_kind model_resnet = {
    .name = "resnet",
    .help = "residual network for small images: --depth 20 --input 3x32x32 --classes 10",
    .options = "depth width input classes task",
    .build = build,
};
