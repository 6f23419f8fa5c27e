/* Options of train, distill and teach: changes of the rows. */
#include "base/mem.h"
#include "learn/augment.h"
#include "stages/options_items.h"
#include "stages/options_rows.h"

#include <stdio.h>
#include <string.h>

static const char *augment_choice(int i) {
  const augment_kind *k = augment_kinds()[i];
  return k ? k->name : NULL;
}

#define AT(field) offsetof(mpistill_augment, field)

const option augment_fields[] = {{.key = "kind",
                                  .type = OPTION_CHOICE,
                                  .at = AT(kind),
                                  .help = "what is done",
                                  .choice = augment_choice,
                                  .required = true},
                                 {.key = "probability",
                                  .type = OPTION_REAL,
                                  .at = AT(probability),
                                  .help = "of a row to be changed [flip 0.5, others 1]",
                                  .max = 1,
                                  .above_min = true},
                                 {.key = "pixels",
                                  .type = OPTION_INT,
                                  .at = AT(pixels),
                                  .initial = "2",
                                  .help = "shift: the farthest, up, down, left and right",
                                  .min = 1,
                                  .max = 65536},
                                 {.key = "padding",
                                  .type = OPTION_INT,
                                  .at = AT(padding),
                                  .initial = "4",
                                  .help = "crop: pixels added on each side",
                                  .min = 1,
                                  .max = 65536},
                                 {.key = "reflect",
                                  .type = OPTION_FLAG,
                                  .at = AT(reflect),
                                  .help = "crop: what is added is the image mirrored, not 0 [false]"},
                                 {.key = "deviation",
                                  .type = OPTION_REAL,
                                  .at = AT(deviation),
                                  .initial = "0.1",
                                  .help = "noise: the standard deviation",
                                  .max = 1e6,
                                  .above_min = true},
                                 {.key = "alpha",
                                  .type = OPTION_REAL,
                                  .at = AT(alpha),
                                  .initial = "1",
                                  .help = "mixup, cutmix: the shares are of Beta(alpha, alpha)",
                                  .min = 0.01,
                                  .max = 1000},
                                 {0}};

#undef AT

status augment_refuse_option(const char *kind, const char *key) {
  const augment_kind *k = augment_find(kind);
  char known[128] = "probability";
  size_t n = strlen(known);
  for (const char *const *o = k->options; *o && n < sizeof known; o++)
    n += (size_t)snprintf(known + n, sizeof known - n, ", %s", *o);
  return status_set(STATUS_BAD_INPUT, "augment '%s' has no %s (its options: %s)", kind, key, known);
}

static status set_augment_field(item_text *x, char *pair) {
  const mpistill_augment *a = x->item;
  status st = item_set_pair(x, pair);
  const augment_kind *k = augment_find(a->kind);
  return st || !k || augment_reads(k, pair) ? st : augment_refuse_option(a->kind, pair);
}

/* "KIND[:KEY=VALUE...]" */
static status parse_augment(const char *text, void *item) {
  status st = STATUS_OK;
  item_text x = {.rows = augment_fields, .item = item};
  char *copy = NULL, *rest;
  TRY(mem_string(&copy, text));
  const char *kind = strtok_r(copy, ":", &rest);
  if (!kind) THROW(STATUS_BAD_INPUT, "KIND[:KEY=VALUE...] was expected, as in shift:pixels=2");
  TRY(item_set(&x, "kind", kind));
  for (char *pair; (pair = strtok_r(NULL, ":", &rest));) TRY(set_augment_field(&x, pair));
done:
  mem_free(copy);
  return st;
}

status augments_parse(const char *text, mpistill_augments *out) {
  status st = STATUS_OK;
  char *copy = NULL, *rest;
  TRY(mem_string(&copy, text));
  for (char *one = strtok_r(copy, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
    TRY(mem_resize(&out->items, out->n, out->n + 1, sizeof *out->items));
    mpistill_augment *a = &out->items[out->n++];
    TRY(options_defaults(augment_fields, a));
    TRY(parse_augment(one, a));
    if (!(a->probability > 0)) a->probability = 1;
  }
done:
  mem_free(copy);
  return st;
}

void augments_free(mpistill_augments *list) {
  for (size_t i = 0; i < list->n; i++) options_free(augment_fields, &list->items[i]);
  mem_free(list->items);
  *list = (mpistill_augments){0};
}

#define AUGMENT                                                                                              \
  .flag = "augment", .type = OPTION_ITEMS, .fields = augment_fields, .item_bytes = sizeof(mpistill_augment), \
  .parse_item = parse_augment, .value = "KIND[:KEY=VALUE...]"

const option augment_rows[] = {
    {AUGMENT, .key = "augment", .at = offsetof(mpistill_train_options, augment),
     .help = "a change of the rows, drawn anew each epoch; repeat it for several, in their order"},
    {0}};

#define AT(field) offsetof(mpistill_teach_options, field)

const option teach_augment_rows[] = {
    {AUGMENT, .at = AT(augment),
     .help = "a change of the rows that are labelled, as distill --augment makes it; repeat it for several"},
    {.flag = "views",
     .key = "views",
     .type = OPTION_INT,
     .at = AT(views),
     .min = 1,
     .max = 1e6,
     .help =
         "drawings of the changes that are labelled: epoch e of distill, from 0 on, sees that of e modulo N "
         "[1]"},
    {.flag = "seed", .type = OPTION_SEED, .at = AT(seed), .initial = "0", .help = "of the views"},
    {0}};

#undef AT
