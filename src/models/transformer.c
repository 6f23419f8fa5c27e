#include "models/attention.h"
#include "models/kinds.h"

enum { TOKENS_MAX = 1 << 24, LENGTH_MAX = 1 << 16, PADDING = 0 };

/* Far below any score, within float16. */
static const float NEVER = -10000;

/* padding: 1 where a token is padding; mask: what is added to its scores; words: 1 where it is none, [N,
 * length, 1]. */
static void make_masks(builder *b, part_name mask, part_name words) {
  part_name at = "tokens";
  builder_ints_constant(b, "padding.token", (int64_t[]){PADDING}, 1);
  part_binary(b, at, "is_padding", "Equal", "padding.token");
  part_plain(b, at, "padding", "Cast");
  builder_int(b, "to", 1);
  part_named(mask, "%s", at);
  part_named(words, "%s", at);
  part_scalar(b, mask, "mask.scores", "Mul", NEVER);
  builder_ints_constant(b, "mask.axes", (int64_t[]){1, 2}, 2);
  part_binary(b, mask, "mask", "Unsqueeze", "mask.axes");
  part_scalar(b, words, "words.negative", "Sub", 1);
  part_plain(b, words, "words.rows", "Neg");
  builder_ints_constant(b, "words.axes", (int64_t[]){2}, 1);
  part_binary(b, words, "words", "Unsqueeze", "words.axes");
}

/* The mean over the words; a row of padding alone gives zero. */
static void pool(builder *b, part_name at, const part_name words) {
  part_name count;
  part_named(count, "%s", words);
  builder_ints_constant(b, "pool.axes", (int64_t[]){1}, 1);
  part_binary(b, at, "pool.words", "Mul", words);
  part_binary(b, at, "pool.sum", "ReduceSum", "pool.axes");
  builder_int(b, "keepdims", 0);
  part_binary(b, count, "pool.count", "ReduceSum", "pool.axes");
  builder_int(b, "keepdims", 0);
  part_scalar(b, count, "pool.divisor", "Max", 1);
  part_binary(b, at, "pool", "Div", count);
}

static status build(builder *b, const mpistill_create_options *o) {
  status st = STATUS_OK;
  attention a = {.length = o->length};
  part_name at = "tokens", mask, words;
  TRY(check_given("tokens", "how many different tokens there are", o->tokens, 2, TOKENS_MAX));
  TRY(check_given("length", "how many tokens a row has", o->length, 1, LENGTH_MAX));
  TRY(attention_check(o, &a));
  builder_tokens(b, at, &o->length, 1);
  make_masks(b, mask, words);
  a.mask = mask;
  part_embedding(b, at, "embedding", o->tokens, a.width);
  builder_parameter(b, "position.weight", (int64_t[]){a.length, a.width}, 2, BUILD_SMALL, 1, 1);
  part_binary(b, at, "position", "Add", "position.weight");
  attention_blocks(b, at, &a);
  pool(b, at, words);
  TRY(part_outputs(b, at, a.width, o->classes, o));
done:
  return st;
}

const model_kind model_transformer = {
    .name = "transformer",
    .help = "an encoder of tokens: --tokens 30000 --length 128 --classes 2 --width 64 --heads 4 --depth 4",
    .options = "tokens length classes task width heads depth dropout",
    .build = build,
};
