#include "models/attention.h"

#include <inttypes.h>
#include <math.h>

enum { WIDTH = 64, HEADS = 4, DEPTH = 4, WIDTH_MAX = 1 << 14, DEPTH_MAX = 200, EXPANSION = 4 };

status attention_check(const mpistill_create_options *o, attention *a) {
  status st = STATUS_OK;
  TRY(check_outputs(o));
  TRY(check_dropout(o->dropout));
  a->width = o->width ? o->width : WIDTH;
  a->heads = o->heads ? o->heads : HEADS;
  a->depth = o->depth ? o->depth : DEPTH;
  a->dropout = o->dropout;
  TRY(check_range("width", a->width, 1, WIDTH_MAX));
  TRY(check_range("depth", a->depth, 1, DEPTH_MAX));
  if (a->width % a->heads)
    THROW(STATUS_BAD_INPUT, "--width is %" PRId64 ", which %" PRId64 " --heads do not divide", a->width,
          a->heads);
done:
  return st;
}

/* [N, length, width] -> [N, heads, length, width / heads] */
static void split_heads(builder *b, part_name at, const char *prefix, const char *part, const attention *a,
                        const int64_t *order) {
  part_name name;
  part_dense(b, at, part_named(name, "%s%s", prefix, part), a->width, a->width);
  part_reshape(b, at, part_named(name, "%s%s.split", prefix, part),
               (int64_t[]){0, a->length, a->heads, a->width / a->heads}, 4);
  part_transpose(b, at, part_named(name, "%s%s.heads", prefix, part), order, 4);
}

static void attend(builder *b, part_name at, const char *prefix, const attention *a) {
  part_name key, value, name;
  part_named(key, "%s", at);
  part_named(value, "%s", at);
  split_heads(b, at, prefix, "query", a, (int64_t[]){0, 2, 1, 3});
  split_heads(b, key, prefix, "key", a, (int64_t[]){0, 2, 3, 1});
  split_heads(b, value, prefix, "value", a, (int64_t[]){0, 2, 1, 3});
  part_binary(b, at, part_named(name, "%sscores", prefix), "MatMul", key);
  part_scalar(b, at, part_named(name, "%sscaled", prefix), "Mul",
              (float)(1 / sqrt((double)(a->width / a->heads))));
  if (a->mask) part_binary(b, at, part_named(name, "%smasked", prefix), "Add", a->mask);
  part_plain(b, at, part_named(name, "%sshares", prefix), "Softmax");
  builder_int(b, "axis", -1);
  part_binary(b, at, part_named(name, "%smixed", prefix), "MatMul", value);
  part_transpose(b, at, part_named(name, "%smixed.rows", prefix), (int64_t[]){0, 2, 1, 3}, 4);
  part_reshape(b, at, part_named(name, "%smixed.joined", prefix), (int64_t[]){0, a->length, a->width}, 3);
  part_dense(b, at, part_named(name, "%sproject", prefix), a->width, a->width);
}

/* x (1 + erf(x / sqrt 2)) / 2: as an operator only from opset 20 on. */
static void gelu(builder *b, part_name at, const char *prefix) {
  part_name name, x;
  part_named(x, "%s", at);
  part_scalar(b, at, part_named(name, "%sgelu.scaled", prefix), "Mul", (float)sqrt(0.5));
  part_plain(b, at, part_named(name, "%sgelu.erf", prefix), "Erf");
  part_scalar(b, at, part_named(name, "%sgelu.shifted", prefix), "Add", 1);
  part_binary(b, at, part_named(name, "%sgelu.product", prefix), "Mul", x);
  part_scalar(b, at, part_named(name, "%sgelu", prefix), "Mul", 0.5f);
}

static void drop(builder *b, part_name at, const char *prefix, const char *part, double ratio) {
  part_name name;
  if (ratio > 0) part_dropout(b, at, part_named(name, "%s%s", prefix, part), ratio);
}

static void block(builder *b, part_name at, const char *prefix, const attention *a) {
  part_name from, name;
  part_named(from, "%s", at);
  part_layer_norm(b, at, part_named(name, "%snorm1", prefix), a->width);
  attend(b, at, prefix, a);
  drop(b, at, prefix, "drop1", a->dropout);
  part_binary(b, at, part_named(name, "%sadd1", prefix), "Add", from);
  part_named(from, "%s", at);
  part_layer_norm(b, at, part_named(name, "%snorm2", prefix), a->width);
  part_dense(b, at, part_named(name, "%sexpand", prefix), a->width, EXPANSION * a->width);
  gelu(b, at, prefix);
  part_dense(b, at, part_named(name, "%scontract", prefix), EXPANSION * a->width, a->width);
  drop(b, at, prefix, "drop2", a->dropout);
  part_binary(b, at, part_named(name, "%sadd2", prefix), "Add", from);
}

void attention_blocks(builder *b, part_name at, const attention *a) {
  part_name prefix;
  for (int64_t i = 1; i <= a->depth; i++) block(b, at, part_named(prefix, "block%d.", (int)i), a);
  part_layer_norm(b, at, "norm", a->width);
}
