#include "models/kinds.h"
#include "models/parts.h"

#include <inttypes.h>

enum { CHANNELS_MAX = 1 << 16, UNITS_MAX = 1 << 24, BLOCKS_MAX = 16, KERNEL = 5 };

static const mpistill_ints initial_channels = {.n = 2, .items = (int64_t[]){32, 64}};

typedef struct plan_of_cnn {
  mpistill_ints channels;
  int64_t kernel;
  int64_t side[2]; /* height and width behind the last pooling */
  const activation *activation;
} plan_of_cnn;

static status check_channels(const mpistill_create_options *o, plan_of_cnn *p) {
  status st = STATUS_OK;
  p->channels = o->channels.n ? o->channels : initial_channels;
  if (p->channels.n > BLOCKS_MAX)
    THROW(STATUS_BAD_INPUT, "--channels has %zu numbers; it can have 1 to %d", p->channels.n, BLOCKS_MAX);
  for (size_t i = 0; i < p->channels.n; i++)
    TRY(check_range("channels", p->channels.items[i], 1, CHANNELS_MAX));
done:
  return st;
}

/* Every block halves height and width. */
static status check_sides(const mpistill_create_options *o, plan_of_cnn *p) {
  for (int i = 0; i < 2; i++) {
    p->side[i] = o->input.items[1 + i] >> p->channels.n;
    if (p->side[i] < 1)
      return status_set(STATUS_BAD_INPUT,
                        "--input has a side of %" PRId64
                        ", which %zu halvings (one for each of --channels) do not leave "
                        "a point of; it can be %d and more",
                        o->input.items[1 + i], p->channels.n, 1 << p->channels.n);
  }
  return STATUS_OK;
}

static status check(const mpistill_create_options *o, plan_of_cnn *p) {
  status st = STATUS_OK;
  TRY(check_image(&o->input));
  TRY(check_outputs(o));
  TRY(check_channels(o, p));
  TRY(check_sides(o, p));
  TRY(check_dropout(o->dropout));
  TRY(activation_find(o->activation, &p->activation));
  if (o->hidden) TRY(check_range("hidden", o->hidden, 1, UNITS_MAX));
  p->kernel = o->kernel ? o->kernel : KERNEL;
  if (p->kernel != 3 && p->kernel != 5)
    THROW(STATUS_BAD_INPUT, "--kernel is %" PRId64 "; it can be 3 or 5", p->kernel);
done:
  return st;
}

/* conv1 -> norm1 -> act1 -> pool1 */
static void block(builder *b, const mpistill_create_options *o, const plan_of_cnn *p, int i, part_name at) {
  part_name name;
  convolution c = {.inputs = i == 1 ? o->input.items[0] : p->channels.items[i - 2],
                   .outputs = p->channels.items[i - 1],
                   .kernel = p->kernel,
                   .stride = 1,
                   .bias = !o->batch_norm,
                   .init = p->activation->init};
  part_conv(b, at, part_named(name, "conv%d", i), &c);
  if (o->batch_norm) part_batch_norm(b, at, part_named(name, "norm%d", i), c.outputs);
  part_plain(b, at, part_named(name, "act%d", i), p->activation->op);
  part_plain(b, at, part_named(name, "pool%d", i), "MaxPool");
  builder_ints(b, "kernel_shape", (int64_t[]){2, 2}, 2);
  builder_ints(b, "strides", (int64_t[]){2, 2}, 2);
}

static status build(builder *b, const mpistill_create_options *o) {
  status st = STATUS_OK;
  plan_of_cnn p = {0};
  part_name at = "input";
  TRY(check(o, &p));
  builder_input(b, at, o->input.items, 3);
  for (size_t i = 1; i <= p.channels.n; i++) block(b, o, &p, (int)i, at);
  int64_t units = p.channels.items[p.channels.n - 1] * p.side[0] * p.side[1];
  part_plain(b, at, "flatten", "Flatten");
  if (o->hidden) {
    part_linear(b, at, "hidden", units, o->hidden, p.activation->init);
    part_plain(b, at, "hidden.act", p.activation->op);
    units = o->hidden;
  }
  if (o->dropout > 0) part_dropout(b, at, "drop", o->dropout);
  TRY(part_outputs(b, at, units, o->classes, o));
done:
  return st;
}

const model_kind model_cnn = {
    .name = "cnn",
    .help = "convolutions with pooling, then linear layers: --input 1x28x28 --classes 10 --channels 32,64",
    .options = "input classes task channels kernel hidden activation batch-norm dropout",
    .build = build,
};
