#include "models/kinds.h"
#include "models/parts.h"

enum { MANY = 1 << 28, WIDTH = 64, WIDTH_MAX = 1 << 14, UNITS_MAX = 1 << 20 };

static status check(const mpistill_create_options *o) {
  status st = STATUS_OK;
  TRY(check_given("users", "how many different users there are", o->users, 1, MANY));
  TRY(check_given("items", "how many different items there are", o->items, 1, MANY));
  TRY(check_outputs(o));
  TRY(check_dropout(o->dropout));
  if (o->width) TRY(check_range("width", o->width, 1, WIDTH_MAX));
  if (o->hidden) TRY(check_range("hidden", o->hidden, 1, UNITS_MAX));
done:
  return st;
}

static void tower(builder *b, part_name at, const mpistill_create_options *o, int64_t n, int64_t width) {
  part_name side, name;
  part_named(side, "%s", at);
  builder_tokens(b, side, NULL, 0);
  part_embedding(b, at, part_named(name, "%s.embedding", side), n, width);
  if (!o->hidden) return;
  part_linear(b, at, part_named(name, "%s.hidden", side), width, o->hidden, BUILD_HE);
  part_plain(b, at, part_named(name, "%s.relu", side), "Relu");
  if (o->dropout > 0) part_dropout(b, at, part_named(name, "%s.drop", side), o->dropout);
  part_linear(b, at, part_named(name, "%s.out", side), o->hidden, width, BUILD_GLOROT);
}

static status build(builder *b, const mpistill_create_options *o) {
  status st = STATUS_OK;
  part_name at = "user", item = "item";
  TRY(check(o));
  int64_t width = o->width ? o->width : WIDTH;
  tower(b, at, o, o->users, width);
  tower(b, item, o, o->items, width);
  part_binary(b, at, "product", "Mul", item);
  TRY(part_outputs(b, at, width, o->classes, o));
done:
  return st;
}

const model_kind model_two_tower = {
    .name = "two-tower",
    .help = "a recommender: --users 6040 --items 3706 --classes 5 --width 64 --hidden 128 (0: matrix "
            "factorisation)",
    .options = "users items classes task width hidden dropout",
    .build = build,
};
