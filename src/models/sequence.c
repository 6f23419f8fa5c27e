/* lstm and gru. */
#include "models/kinds.h"
#include "models/parts.h"

enum { TOKENS_MAX = 1 << 24, LENGTH_MAX = 1 << 16, UNITS_MAX = 1 << 14, LAYERS_MAX = 64, WIDTH = 64 };

typedef struct cell {
  const char *op;
  int64_t gates;
} cell;

static status check(const mpistill_create_options *o) {
  status st = STATUS_OK;
  if (o->input.n) {
    if (o->input.n != 2 || o->tokens)
      THROW(STATUS_BAD_INPUT,
            "--input needs two numbers here, length x features, in the place of --tokens and --length");
    TRY(check_range("input", o->input.items[0], 1, LENGTH_MAX));
    TRY(check_range("input", o->input.items[1], 1, UNITS_MAX));
  } else {
    TRY(check_given("tokens", "how many different tokens there are (or --input, for sequences of numbers)",
                    o->tokens, 2, TOKENS_MAX));
    TRY(check_given("length", "how many tokens a row has", o->length, 1, LENGTH_MAX));
  }
  TRY(check_outputs(o));
  TRY(check_dropout(o->dropout));
  TRY(check_given("hidden", "the units of the state", o->hidden, 1, UNITS_MAX));
  if (o->depth) TRY(check_range("depth", o->depth, 1, LAYERS_MAX));
  if (o->width) TRY(check_range("width", o->width, 1, UNITS_MAX));
done:
  return st;
}

/* Over `at` [length, N, inputs]: all states [length, N, hidden] or, at the end, the last one [N, hidden]. */
static void layer(builder *b, part_name at, const cell *c, int number, int64_t inputs, int64_t hidden,
                  bool last) {
  part_name name, weight, recurrent, bias, axes, state;
  part_named(name, "layer%d", number);
  int64_t rows = c->gates * hidden;
  builder_parameter(b, part_named(weight, "%s.weight", name), (int64_t[]){1, rows, inputs}, 3, BUILD_GLOROT,
                    inputs, hidden);
  builder_parameter(b, part_named(recurrent, "%s.recurrent", name), (int64_t[]){1, rows, hidden}, 3,
                    BUILD_GLOROT, hidden, hidden);
  builder_parameter(b, part_named(bias, "%s.bias", name), (int64_t[]){1, 2 * rows}, 2, BUILD_ZERO, 1, 1);
  part_named(state, "%s.state", name);
  builder_node(b, c->op, name, (const char *[]){at, weight, recurrent, bias, NULL}, last ? "" : state);
  if (last) builder_node_output(b, state);
  builder_int(b, "hidden_size", hidden);
  if (c->gates == 3) builder_int(b, "linear_before_reset", 1); /* as PyTorch and cuDNN have it */
  builder_ints_constant(b, part_named(axes, "%s.axes", name), (int64_t[]){last ? 0 : 1}, 1);
  part_named(at, "%s", state);
  part_binary(b, at, part_named(weight, "%s.out", name), "Squeeze", axes);
}

static status build(builder *b, const mpistill_create_options *o, const cell *c) {
  status st = STATUS_OK;
  part_name at, name;
  TRY(check(o));
  int64_t inputs = o->width ? o->width : WIDTH;
  int depth = o->depth ? (int)o->depth : 1;
  if (o->input.n) {
    part_named(at, "input");
    builder_input(b, at, o->input.items, 2);
    inputs = o->input.items[1];
  } else {
    part_named(at, "tokens");
    builder_tokens(b, at, &o->length, 1);
    part_embedding(b, at, "embedding", o->tokens, inputs);
  }
  part_transpose(b, at, "steps", (int64_t[]){1, 0, 2}, 3);
  for (int i = 1; i <= depth; i++) {
    layer(b, at, c, i, inputs, o->hidden, i == depth);
    inputs = o->hidden;
    if (o->dropout > 0) part_dropout(b, at, part_named(name, "drop%d", i), o->dropout);
  }
  TRY(part_outputs(b, at, o->hidden, o->classes, o));
done:
  return st;
}

static status build_lstm(builder *b, const mpistill_create_options *o) {
  return build(b, o, &(cell){"LSTM", 4});
}

static status build_gru(builder *b, const mpistill_create_options *o) {
  return build(b, o, &(cell){"GRU", 3});
}

const model_kind model_lstm = {
    .name = "lstm",
    .help =
        "recurrent over tokens or --input LxF: --tokens 5000 --length 64 --classes 2 --width 64 --hidden 128",
    .options = "tokens length input classes task width hidden depth dropout",
    .build = build_lstm,
};

const model_kind model_gru = {
    .name = "gru",
    .help = "the same with gated recurrent units",
    .options = "tokens length input classes task width hidden depth dropout",
    .build = build_gru,
};
