/* Options of teach, and those of a teacher in a recipe. */
#include "base/mem.h"
#include "stages/options_items.h"
#include "stages/options_rows.h"

#include <string.h>

static const char *layout_choice(int i) {
  static const char *const names[] = {"nchw", "nhwc"};
  return i < 2 ? names[i] : NULL;
}

static const char *channel_choice(int i) {
  static const char *const names[] = {"same", "reversed"};
  return i < 2 ? names[i] : NULL;
}

#define AT(field) offsetof(mpistill_preprocess, field)

const option preprocess_fields[] = {
    {.flag = "size",
     .key = "size",
     .type = OPTION_INTS,
     .at = AT(size),
     .min = 1,
     .max = 65536,
     .value = "HxW",
     .help = "images are resized to this for the model, bilinear [as they are]"},
    {.flag = "crop",
     .key = "crop",
     .type = OPTION_INTS,
     .at = AT(crop),
     .min = 1,
     .max = 65536,
     .value = "HxW",
     .help = "and their middle is kept [all]"},
    {.flag = "channel-order",
     .key = "channel_order",
     .type = OPTION_CHOICE,
     .at = AT(channel_order),
     .choice = channel_choice,
     .help = "reversed: RGB becomes BGR [same]"},
    {.flag = "scale",
     .key = "scale",
     .type = OPTION_REALS,
     .at = AT(scale),
     .min = -1e30,
     .max = 1e30,
     .value = "X,X...",
     .help = "factor of all channels or of each [1]"},
    {.flag = "offset",
     .key = "offset",
     .type = OPTION_REALS,
     .at = AT(offset),
     .min = -1e30,
     .max = 1e30,
     .value = "X,X...",
     .help = "added behind the factor [0]"},
    {.flag = "layout",
     .key = "layout",
     .type = OPTION_CHOICE,
     .at = AT(layout),
     .choice = layout_choice,
     .help = "of the model's input [nchw]"},
    {0}};

#undef AT

const option teacher_fields[] = {
    {.key = "name",
     .type = OPTION_STRING,
     .at = offsetof(mpistill_teacher, name),
     .help = "unique; becomes the name of a file",
     .required = true},
    {.key = "model", .type = OPTION_PATH, .at = offsetof(mpistill_teacher, model), .help = "ONNX file, or"},
    {.key = "soft_labels",
     .type = OPTION_PATH,
     .at = offsetof(mpistill_teacher, soft_labels),
     .help = "soft-label file made elsewhere"},
    {.key = "input",
     .type = OPTION_STRING,
     .at = offsetof(mpistill_teacher, input),
     .help = "input array it reads; needed if there are several"},
    {.key = "task",
     .type = OPTION_STRING,
     .at = offsetof(mpistill_teacher, task),
     .help = "of distill.tasks, that it teaches; needed if there are several"},
    {.key = "output",
     .type = OPTION_STRING,
     .at = offsetof(mpistill_teacher, output),
     .help = "with its logits or numbers [the one of the task's name, else the only one]"},
    {.key = "labels",
     .type = OPTION_STRING,
     .at = offsetof(mpistill_teacher, labels),
     .help = "array of labels whose classes it knows [that of the task]"},
    {.key = "class_axis",
     .type = OPTION_CHOICE,
     .at = offsetof(mpistill_teacher, class_axis),
     .choice = axis_choice,
     .help = "of outputs of several positions: [rows, classes, ...] or [rows, ..., classes] [as the task]"},
    {.key = "values",
     .type = OPTION_FLAG,
     .at = offsetof(mpistill_teacher, values),
     .help = "the output holds numbers, not logits [as the task]"},
    {.key = "classes",
     .type = OPTION_STRINGS,
     .at = offsetof(mpistill_teacher, classes),
     .help = "the dataset's classes in the order of its outputs [all in order]"},
    {.key = "taps",
     .type = OPTION_STRINGS,
     .at = offsetof(mpistill_teacher, taps),
     .help =
         "inner tensors to store beside its logits; those that distill.features names need not be listed"},
    {.key = "private",
     .type = OPTION_FLAG,
     .at = offsetof(mpistill_teacher, is_private),
     .help = "only ranks of its own open its model and data; nothing but soft labels leaves them [false]"},
    {.key = "ranks",
     .type = OPTION_INTS,
     .at = offsetof(mpistill_teacher, ranks),
     .min = 0,
     .max = 1e6,
     .help = "private: those ranks [as many for each private teacher, in order, then for all others]"},
    {.key = "data",
     .type = OPTION_PATH,
     .at = offsetof(mpistill_teacher, data),
     .help = "private: a dataset that it is measured on first, opened by its ranks alone"},
    {.key = "data_split",
     .type = OPTION_STRING,
     .at = offsetof(mpistill_teacher, data_split),
     .help = "rows of that [train]"},
    {.key = "preprocess",
     .type = OPTION_GROUP,
     .at = offsetof(mpistill_teacher, preprocess),
     .fields = preprocess_fields},
    {0}};

/* Keys of the command line; the others are a recipe's. */
static const char *teacher_key(const void *table, int i) {
  static const char *const keys[] = {"input", "output", "labels", "class_axis", "values", "task"};
  (void)table;
  return i < (int)(sizeof keys / sizeof *keys) ? keys[i] : NULL;
}

/* Takes ":KEY=VALUE" from the end of the text, if there is one. Other colons belong to the path. */
static status take_pair(char *text, item_text *x, bool *taken) {
  char *colon = strrchr(text, ':'), *equals = colon ? strchr(colon, '=') : NULL;
  *taken = false;
  for (int i = 0; equals && !*taken && teacher_key(NULL, i); i++) {
    const size_t n = strlen(teacher_key(NULL, i));
    *taken = equals == colon + 1 + n && !strncmp(colon + 1, teacher_key(NULL, i), n);
  }
  if (!*taken) return STATUS_OK;
  *colon = '\0';
  return item_set_pair(x, colon + 1);
}

static status name_teacher(const char *text, mpistill_teacher *t) {
  const char *equals = strchr(text, '='), *slash = strchr(text, '/');
  bool named = equals && (!slash || slash > equals);
  const char *path = named ? equals + 1 : text, *name = strrchr(path, '/');
  name = name ? name + 1 : path;
  size_t n = strlen(name);
  if (!n || equals == text) return status_set(STATUS_BAD_INPUT, "NAME=FILE was expected");
  if (n > 5 && !strcmp(name + n - 5, ".onnx")) n -= 5;
  status st = mem_string(&t->model, path);
  if (!st)
    st = named ? mem_string_n(&t->name, text, (size_t)(equals - text)) : mem_string_n(&t->name, name, n);
  return st;
}

status parse_teacher(const char *text, void *item) {
  char *copy = NULL;
  bool more = true;
  item_text x = {.rows = teacher_fields, .item = item};
  status st = item_refuse_slip(text, teacher_key, NULL);
  if (!st) st = mem_string(&copy, text);
  while (!st && more) st = take_pair(copy, &x, &more);
  if (!st) st = name_teacher(copy, item);
  mem_free(copy);
  return st;
}

#define AT(field) offsetof(mpistill_teach_options, field)

const option teach_option_rows[] = {
    {.flag = "dataset", .type = OPTION_PATH, .at = AT(dataset), .help = "dataset file", .required = true},
    {.flag = "split",
     .key = "split",
     .type = OPTION_STRING,
     .at = AT(split),
     .initial = "train",
     .value = "NAME",
     .help = "rows to label"},
    {.flag = "teacher",
     .type = OPTION_ITEMS,
     .at = AT(teachers),
     .fields = teacher_fields,
     .item_bytes = sizeof(mpistill_teacher),
     .parse_item = parse_teacher,
     .value = "NAME=FILE[:KEY=VALUE...]",
     .help = "a teacher, ONNX; repeat it for several; input=ARRAY it reads, output=NAME it answers with, "
             "class_axis=last, values=true for numbers that are no logits",
     .required = true},
    {.flag = "dtype",
     .key = "dtype",
     .type = OPTION_CHOICE,
     .at = AT(dtype),
     .initial = "float16",
     .choice = dtype_choice,
     .value = "TYPE",
     .help = "of stored logits"},
    {.flag = "top-k",
     .key = "top_k",
     .type = OPTION_INT,
     .at = AT(top_k),
     .min = 1,
     .max = 1e6,
     .value = "K",
     .help = "store only the K largest logits and the rest's log-sum-exp [all]"},
    {.flag = "block",
     .key = "block",
     .type = OPTION_INT,
     .at = AT(block),
     .min = 1,
     .max = 1e9,
     .value = "ROWS",
     .help = "rows a unit of work [by the model's cost]"},
    {.flag = "tap",
     .type = OPTION_STRINGS,
     .at = AT(taps),
     .value = "[TEACHER=]TENSOR",
     .help = "store an inner tensor beside the logits, of one teacher or of all; repeat it for several; "
             "'mpistill inspect MODEL' lists them"},
    {.key = "preprocess", .type = OPTION_GROUP, .at = AT(preprocess), .fields = preprocess_fields},
    {.flag = "private",
     .type = OPTION_STRINGS,
     .at = AT(is_private),
     .value = "TEACHER[=DATA]",
     .help =
         "only ranks of its own open that teacher's model and, to measure it first, the dataset DATA; repeat "
         "it for several"},
    {.type = OPTION_GROUP, .fields = teach_augment_rows},
    {.flag = "threads",
     .type = OPTION_INT,
     .at = AT(threads),
     .min = 1,
     .max = THREADS_MAX,
     .help = "threads a rank [OMP_NUM_THREADS, else 1]"},
    {.flag = "output",
     .type = OPTION_PATH,
     .at = AT(output),
     .value = "FOLDER",
     .help = "gets one soft-label file a teacher",
     .required = true},
    {.flag = "restart", .type = OPTION_FLAG, .at = AT(restart), .help = "forget unfinished work"},
    OUT(mpistill_teach_options, quiet_rows),
    OUT(mpistill_teach_options, json_rows),
    OUT(mpistill_teach_options, log_rows),
    OUT(mpistill_teach_options, force_rows),
    OUT(mpistill_teach_options, stop_rows),
    OUT(mpistill_teach_options, stall_rows),
    {0}};

#undef AT
