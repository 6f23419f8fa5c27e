#include "models/kinds.h"
#include "models/parts.h"

enum { WIDTH = 16, WIDTH_MAX = 1 << 10, STAGES = 7, HEAD = 80, EXPANSION = 6, LARGE = 64 };

/* Channels as multiples of half the width, blocks, stride of the first of them. */
static const struct stage {
  int halves, blocks, stride;
} stages[STAGES] = {{2, 1, 1}, {3, 2, 2}, {4, 3, 2}, {8, 4, 2}, {12, 3, 1}, {20, 3, 2}, {40, 1, 1}};

static void relu6(builder *b, part_name at, const char *name) {
  part_name low, high;
  builder_float_constant(b, part_named(low, "%s.low", name), 0);
  builder_float_constant(b, part_named(high, "%s.high", name), 6);
  builder_node(b, "Clip", name, (const char *[]){at, low, high, NULL}, name);
  part_named(at, "%s", name);
}

/* Convolution, batch norm and, unless it ends a block, ReLU6. */
static void layer(builder *b, part_name at, const char *prefix, const char *part, const convolution *c,
                  bool ends) {
  part_name name;
  part_conv(b, at, part_named(name, "%sconv_%s", prefix, part), c);
  part_batch_norm(b, at, part_named(name, "%snorm_%s", prefix, part), c->outputs);
  if (!ends) relu6(b, at, part_named(name, "%srelu_%s", prefix, part));
}

/* Wide inside, narrow at the ends, with a shortcut between ends of one shape. */
static void block(builder *b, part_name at, const char *prefix, int64_t inputs, int64_t outputs,
                  int64_t stride, int64_t expansion) {
  part_name from, name;
  int64_t wide = inputs * expansion;
  part_named(from, "%s", at);
  if (expansion > 1)
    layer(b, at, prefix, "expand",
          &(convolution){.inputs = inputs, .outputs = wide, .kernel = 1, .stride = 1, .init = BUILD_HE},
          false);
  layer(b, at, prefix, "depth",
        &(convolution){.inputs = wide,
                       .outputs = wide,
                       .kernel = 3,
                       .stride = stride,
                       .init = BUILD_HE,
                       .depthwise = true},
        false);
  layer(b, at, prefix, "project",
        &(convolution){.inputs = wide, .outputs = outputs, .kernel = 1, .stride = 1, .init = BUILD_HE}, true);
  if (stride == 1 && inputs == outputs) part_binary(b, at, part_named(name, "%sadd", prefix), "Add", from);
}

static status build(builder *b, const mpistill_create_options *o) {
  status st = STATUS_OK;
  part_name at = "input", prefix;
  TRY(check_image(&o->input));
  TRY(check_outputs(o));
  TRY(check_dropout(o->dropout));
  if (o->width) TRY(check_range("width", o->width, 2, WIDTH_MAX));
  int64_t width = o->width ? o->width : WIDTH, inputs = 2 * width;
  bool large = o->input.items[1] >= LARGE && o->input.items[2] >= LARGE;
  builder_input(b, at, o->input.items, 3);
  layer(b, at, "", "first",
        &(convolution){.inputs = o->input.items[0],
                       .outputs = inputs,
                       .kernel = 3,
                       .stride = large ? 2 : 1,
                       .init = BUILD_HE},
        false);
  for (int s = 0; s < STAGES; s++)
    for (int i = 0; i < stages[s].blocks; i++) {
      int64_t outputs = stages[s].halves * width / 2, stride = i || (s == 1 && !large) ? 1 : stages[s].stride;
      block(b, at, part_named(prefix, "stage%d.block%d.", s + 1, i + 1), inputs, outputs, stride,
            s ? EXPANSION : 1);
      inputs = outputs;
    }
  layer(b, at, "", "last",
        &(convolution){.inputs = inputs, .outputs = HEAD * width, .kernel = 1, .stride = 1, .init = BUILD_HE},
        false);
  part_plain(b, at, "pool", "GlobalAveragePool");
  part_plain(b, at, "flatten", "Flatten");
  if (o->dropout > 0) part_dropout(b, at, "drop", o->dropout);
  TRY(part_outputs(b, at, HEAD * width, o->classes, o));
done:
  return st;
}

const model_kind model_mobilenet = {
    .name = "mobilenet",
    .help = "separable convolutions: --input 3x32x32 --classes 10 --width 16",
    .options = "input classes task width dropout",
    .build = build,
};
