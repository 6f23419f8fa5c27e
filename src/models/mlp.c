#include "models/kinds.h"
#include "models/parts.h"

enum { WIDTH_MAX = 1 << 24, LAYERS_MAX = 1000 };

static status check(const mpistill_create_options *o) {
  status st = STATUS_OK;
  const size_t least = o->tasks.n ? 1 : 2;
  if (o->layers.n < least || o->layers.n > LAYERS_MAX)
    THROW(STATUS_BAD_INPUT, "--layers needs %zu to %d widths, from the input to %s: 784,800%s; it has %zu",
          least, LAYERS_MAX, o->tasks.n ? "what the tasks share" : "the classes", o->tasks.n ? "" : ",10",
          o->layers.n);
  if (o->tasks.n) TRY(check_outputs(o));
  for (size_t i = 0; i < o->layers.n; i++) TRY(check_range("layers", o->layers.items[i], 1, WIDTH_MAX));
  TRY(check_dropout(o->dropout));
done:
  return st;
}

/* fc1 -> norm1 -> act1 -> drop1 */
static void hidden(builder *b, const mpistill_create_options *o, const activation *a, int layer,
                   part_name at) {
  part_name name;
  int64_t from = o->layers.items[layer - 1], to = o->layers.items[layer];
  part_linear(b, at, part_named(name, "fc%d", layer), from, to, a->init);
  if (o->batch_norm) part_batch_norm(b, at, part_named(name, "norm%d", layer), to);
  part_plain(b, at, part_named(name, "act%d", layer), a->op);
  if (o->dropout > 0) part_dropout(b, at, part_named(name, "drop%d", layer), o->dropout);
}

static status build(builder *b, const mpistill_create_options *o) {
  status st = STATUS_OK;
  const activation *a;
  part_name at = "input";
  TRY(check(o));
  TRY(activation_find(o->activation, &a));
  const int64_t *width = o->layers.items;
  const int last = (int)o->layers.n - !o->tasks.n; /* of the hidden ones, and one more */
  builder_input(b, at, width, 1);
  for (int i = 1; i < last; i++) hidden(b, o, a, i, at);
  TRY(part_outputs(b, at, width[last - 1], o->tasks.n ? 0 : width[last], o));
done:
  return st;
}

const model_kind model_mlp = {
    .name = "mlp",
    .help = "fully connected layers: --layers 784,800,800,10",
    .options = "layers task activation batch-norm dropout",
    .build = build,
};
