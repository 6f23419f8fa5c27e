/* Options of distill: losses between inner tensors. */
#include "base/mem.h"
#include "learn/feature.h"
#include "stages/options_items.h"
#include "stages/options_rows.h"

#include <stdio.h>
#include <string.h>

static const char *feature_choice(int i) {
  const feature_kind *k = feature_kinds()[i];
  return k ? k->name : NULL;
}

static const char *projector_choice(int i) {
  static const char *const names[] = {"conv1x1", "linear", "mean", "none"};
  return i < 4 ? names[i] : NULL;
}

#define AT(field) offsetof(mpistill_feature, field)

const option feature_fields[] = {
    {.key = "kind",
     .type = OPTION_CHOICE,
     .at = AT(kind),
     .help = "what is computed",
     .choice = feature_choice,
     .required = true},
    {.key = "weight",
     .type = OPTION_REAL,
     .at = AT(weight),
     .help = "factor in the sum of all losses",
     .min = 0,
     .max = 1e9,
     .required = true},
    {.key = "student",
     .type = OPTION_STRING,
     .at = AT(student),
     .help = "a tensor of the student; {} in it is replaced by its layer",
     .required = true},
    {.key = "teacher",
     .type = OPTION_STRING,
     .at = AT(teacher),
     .help = "a tensor of the teacher",
     .required = true},
    {.key = "student_to",
     .type = OPTION_STRING,
     .at = AT(student_to),
     .help = "gram, relation: a second tensor"},
    {.key = "teacher_to",
     .type = OPTION_STRING,
     .at = AT(teacher_to),
     .help = "gram, relation: a second tensor of the teacher"},
    {.key = "from",
     .type = OPTION_STRING,
     .at = AT(from),
     .help = "name of the teacher; needed if several have such a tensor"},
    {.key = "layers",
     .type = OPTION_STRING,
     .at = AT(layers),
     .help = "pairs of layers, the student's and the teacher's, as in 0-2,1-5; one loss each [none]"},
    {.key = "projector",
     .type = OPTION_CHOICE,
     .at = AT(projector),
     .help = "hint: what maps the student's tensor to the teacher's [conv1x1]",
     .choice = projector_choice},
    {.key = "heads",
     .type = OPTION_INT,
     .at = AT(heads),
     .help = "relation: pieces that the numbers of a token are cut into [as the tensor has, else 1]",
     .min = 1,
     .max = 1e6},
    {.key = "distance",
     .type = OPTION_REAL,
     .at = AT(distance),
     .initial = "1",
     .help = "rkd: weight of distances",
     .min = 0,
     .max = 1e6},
    {.key = "angle",
     .type = OPTION_REAL,
     .at = AT(angle),
     .initial = "2",
     .help = "rkd: weight of angles",
     .min = 0,
     .max = 1e6},
    {0}};

#undef AT

/* The next ":KEY=" of the table: names of tensors may hold ':'. */
static char *next_pair(char *at) {
  for (; (at = strchr(at, ':')); at++)
    for (const option *row = feature_fields; row->key; row++) {
      size_t n = strlen(row->key);
      if (!strncmp(at + 1, row->key, n) && at[1 + n] == '=') return at;
    }
  return NULL;
}

static const char *key_at(const void *table, int i) {
  return ((const option *)table)[i].key;
}

status feature_refuse_option(const char *kind, const char *key) {
  return status_set(STATUS_BAD_INPUT, "feature '%s' has no %s", kind, key);
}

static status set_feature_field(item_text *x, char *pair) {
  const mpistill_feature *f = x->item;
  status st = item_set_pair(x, pair);
  const feature_kind *k = feature_find(f->kind);
  return st || !k || feature_reads(k, pair) ? st : feature_refuse_option(f->kind, pair);
}

/* "KIND:WEIGHT:KEY=VALUE..." */
static status parse_feature(const char *text, void *item) {
  status st = STATUS_OK;
  item_text x = {.rows = feature_fields, .item = item};
  char *copy = NULL;
  TRY(item_refuse_slip(text, key_at, feature_fields));
  TRY(mem_string(&copy, text));
  char *weight = strchr(copy, ':'), *pair = next_pair(copy);
  if (!weight || !pair || weight >= pair)
    THROW(STATUS_BAD_INPUT, "KIND:WEIGHT:student=TENSOR:teacher=TENSOR was expected, as in "
                            "hint:1:student=act1:teacher=act2");
  *weight = *pair = '\0';
  TRY(item_set(&x, "kind", copy));
  TRY(item_set(&x, "weight", weight + 1));
  while (pair) {
    char *now = pair + 1;
    pair = next_pair(now);
    if (pair) *pair = '\0';
    TRY(set_feature_field(&x, now));
  }
  const mpistill_feature *f = item;
  if (!f->student || !f->teacher) THROW(STATUS_BAD_INPUT, "student and teacher are needed");
done:
  mem_free(copy);
  return st;
}

#define AT(field) offsetof(mpistill_train_options, field)

const option feature_rows[] = {{.flag = "feature",
                                .key = "features",
                                .type = OPTION_ITEMS,
                                .at = AT(features),
                                .fields = feature_fields,
                                .item_bytes = sizeof(mpistill_feature),
                                .parse_item = parse_feature,
                                .value = "KIND:WEIGHT:student=TENSOR:teacher=TENSOR[:KEY=VALUE...]",
                                .help = "a loss between inner tensors, the teacher's of a soft-label file "
                                        "that has it (teach --tap), else of a live teacher; repeat it for "
                                        "several"},
                               {.flag = "features-from",
                                .type = OPTION_PATHS,
                                .at = AT(feature_files),
                                .help = "soft-label file of a teacher, read for its tensors only; repeat it"},
                               {0}};

#undef AT
