/* Options of train and distill. */
#include "base/mem.h"
#include "learn/loss.h"
#include "learn/optimizer.h"
#include "stages/options_items.h"
#include "stages/options_rows.h"

#include <stdio.h>
#include <string.h>

static const char *loss_choice(int i) {
  const loss_kind *k = loss_kinds()[i];
  return k ? k->name : NULL;
}

static const char *optimizer_choice(int i) {
  const optimizer_kind *k = optimizer_kinds()[i];
  return k ? k->name : NULL;
}

static const char *schedule_choice(int i) {
  const schedule_kind *k = schedule_kinds()[i];
  return k ? k->name : NULL;
}

static const char *temperature_schedule_choice(int i) {
  static const char *const names[] = {"linear", "cosine"};
  return i < 2 ? names[i] : NULL;
}

static const char *reduce_choice(int i) {
  static const char *const names[] = {"float32", "bfloat16"};
  return i < 2 ? names[i] : NULL;
}

static const char *precision_choice(int i) {
  static const char *const names[] = {"float32", "float16", "int8"};
  return i < 3 ? names[i] : NULL;
}

#define AT(field) offsetof(mpistill_loss, field)

const option loss_fields[] = {
    {.key = "kind",
     .type = OPTION_CHOICE,
     .at = AT(kind),
     .help = "what is computed",
     .choice = loss_choice,
     .required = true},
    {.key = "weight",
     .type = OPTION_REAL,
     .at = AT(weight),
     .help = "factor in the sum of all losses",
     .min = 0,
     .max = 1e6,
     .required = true},
    {.key = "task",
     .type = OPTION_STRING,
     .at = AT(task),
     .help = "which of several tasks it is of [each that lists no losses of its own]"},
    {.key = "temperature",
     .type = OPTION_REAL,
     .at = AT(temperature),
     .help = "of losses on softened logits [distill.temperature]",
     .above_min = true,
     .max = 1e6},
    {.key = "temperature_end",
     .type = OPTION_REAL,
     .at = AT(temperature_end),
     .help = "where the temperature has moved to by the last step [it stays]",
     .above_min = true,
     .max = 1e6},
    {.key = "temperature_schedule",
     .type = OPTION_CHOICE,
     .at = AT(temperature_schedule),
     .help = "how it moves there [linear]",
     .choice = temperature_schedule_choice},
    {.key = "learn_temperature",
     .type = OPTION_FLAG,
     .at = AT(learn_temperature),
     .help = "kd: the temperature begins there and is learned, against the student [false]"},
    {.key = "standardize",
     .type = OPTION_FLAG,
     .at = AT(standardize),
     .help =
         "rows of logits get mean 0 and standard deviation 1 (with C - 1) before the temperature [false]"},
    {.key = "alpha",
     .type = OPTION_REAL,
     .at = AT(alpha),
     .initial = "1",
     .help = "dkd: weight of the label's class against the others",
     .min = 0,
     .max = 1e6},
    {.key = "beta",
     .type = OPTION_REAL,
     .at = AT(beta),
     .initial = "8",
     .help = "dkd: weight of the other classes among themselves",
     .min = 0,
     .max = 1e6},
    {.key = "gamma",
     .type = OPTION_REAL,
     .at = AT(gamma),
     .initial = "1",
     .help = "dist: weight of the correlations over rows",
     .min = 0,
     .max = 1e6},
    {.key = "delta",
     .type = OPTION_REAL,
     .at = AT(delta),
     .initial = "1",
     .help = "smooth-l1, soft-smooth-l1: the distance from which on they are linear",
     .min = 0,
     .max = 1e6},
    {.key = "label_smoothing",
     .type = OPTION_REAL,
     .at = AT(label_smoothing),
     .help = "of cross-entropy [0]",
     .min = 0,
     .max = 1},
    {0}};

#undef AT

status loss_refuse_option(const char *kind, const char *key) {
  const loss_kind *k = loss_find(kind);
  char known[256] = "none";
  size_t n = 0;
  for (const char *const *o = k ? k->options : NULL; o && *o && n < sizeof known; o++)
    n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", *o);
  return status_set(STATUS_BAD_INPUT, "loss '%s' has no %s (its options: %s)", kind, key, known);
}

static status set_loss_field(item_text *x, char *pair) {
  const mpistill_loss *loss = x->item;
  status st = item_set_pair(x, pair);
  const loss_kind *k = loss_find(loss->kind);
  return st || !k || loss_reads(k, pair) || !strcmp(pair, "task") ? st : loss_refuse_option(loss->kind, pair);
}

/* "[TASK/]KIND:WEIGHT[:KEY=VALUE...]" */
static status parse_loss(const char *text, void *item) {
  status st = STATUS_OK;
  item_text x = {.rows = loss_fields, .item = item};
  char *copy = NULL, *rest;
  TRY(mem_string(&copy, text));
  char *kind = strtok_r(copy, ":", &rest), *slash = kind ? strchr(kind, '/') : NULL;
  const char *weight = strtok_r(NULL, ":", &rest);
  if (!kind || !weight) THROW(STATUS_BAD_INPUT, "KIND:WEIGHT was expected, as in kd:0.9:temperature=4");
  if (slash) {
    *slash = '\0';
    TRY(item_set(&x, "task", kind));
    kind = slash + 1;
  }
  TRY(item_set(&x, "kind", kind));
  TRY(item_set(&x, "weight", weight));
  for (char *pair; (pair = strtok_r(NULL, ":", &rest));) TRY(set_loss_field(&x, pair));
done:
  mem_free(copy);
  return st;
}

#define AT(field) offsetof(mpistill_task, field)

const char *axis_choice(int i) {
  static const char *const names[] = {"first", "last"};
  return i < 2 ? names[i] : NULL;
}

const option task_fields[] = {
    {.key = "name", .type = OPTION_STRING, .at = AT(name), .help = "unique", .required = true},
    {.key = "output",
     .type = OPTION_STRING,
     .at = AT(output),
     .help = "of the student [the one of the task's name, else the only one]"},
    {.key = "labels",
     .type = OPTION_STRING,
     .at = AT(labels),
     .help = "array of labels, or of targets for numbers, of the dataset [label.NAME or target.NAME]"},
    {.key = "class_axis",
     .type = OPTION_CHOICE,
     .at = AT(class_axis),
     .choice = axis_choice,
     .help = "of outputs of several positions: [rows, classes, ...] or [rows, ..., classes] [first]"},
    {.key = "mask",
     .type = OPTION_STRING,
     .at = AT(mask),
     .help =
         "array of labels of the dataset, of each position or of as many after each other; of numbers [n, C, "
         "H, W] also [n, H, W] for each channel: soft labels count where it is above 0, the foreground [all "
         "over]"},
    {.key = "weight",
     .type = OPTION_REAL,
     .at = AT(weight),
     .initial = "1",
     .max = 1e6,
     .above_min = true,
     .help = "factor of its losses"},
    {.key = "losses",
     .type = OPTION_ITEMS,
     .at = AT(losses),
     .fields = loss_fields,
     .item_bytes = sizeof(mpistill_loss),
     .parse_item = parse_loss,
     .help = "its own [distill.losses that are of it]"},
    {0}};

#undef AT

/* "NAME[:KEY=VALUE...]" */
static status parse_task(const char *text, void *item) {
  status st = STATUS_OK;
  item_text x = {.rows = task_fields, .item = item};
  char *copy = NULL, *rest;
  TRY(mem_string(&copy, text));
  const char *name = strtok_r(copy, ":", &rest);
  if (!name) THROW(STATUS_BAD_INPUT, "NAME was expected, as in digit:output=logits:labels=label.digit");
  TRY(item_set(&x, "name", name));
  for (char *pair; (pair = strtok_r(NULL, ":", &rest));) {
    if (!strncmp(pair, "losses=", strlen("losses=")))
      THROW(STATUS_BAD_INPUT, "losses of a task are given as --loss %s/KIND:WEIGHT", name);
    TRY(item_set_pair(&x, pair));
  }
done:
  mem_free(copy);
  return st;
}

const option tasks_rows[] = {{.flag = "task",
                              .key = "tasks",
                              .type = OPTION_ITEMS,
                              .fields = task_fields,
                              .item_bytes = sizeof(mpistill_task),
                              .parse_item = parse_task,
                              .value = "NAME[:KEY=VALUE...]",
                              .help = "an output of the model and the labels it is for (output, labels, "
                                      "class_axis, mask, weight); repeat it for several [the only output]"},
                             {0}};

#define AT(field) offsetof(mpistill_train_options, field)

const option training_rows[] = {
    {.flag = "dataset", .type = OPTION_PATH, .at = AT(dataset), .help = "dataset file", .required = true},
    {.flag = "split",
     .key = "split",
     .type = OPTION_STRING,
     .at = AT(split),
     .initial = "train",
     .value = "NAME",
     .help = "rows to learn from"},
    {.flag = "test-split",
     .key = "test_split",
     .type = OPTION_STRING,
     .at = AT(test_split),
     .initial = "test",
     .value = "NAME",
     .help = "rows to evaluate on after training; none: there are none, as where the dataset lacks 'test'"},
    {.flag = "input",
     .key = "input",
     .type = OPTION_STRING,
     .at = AT(input),
     .value = "NAME",
     .help = "input array of the dataset; needed if there are several"},
    {.type = OPTION_GROUP, .at = AT(tasks), .fields = tasks_rows},
    {.flag = "loss",
     .key = "losses",
     .type = OPTION_ITEMS,
     .at = AT(losses),
     .fields = loss_fields,
     .item_bytes = sizeof(mpistill_loss),
     .parse_item = parse_loss,
     .value = "[TASK/]KIND:WEIGHT[:KEY=VALUE...]",
     .help = "a loss and its weight; repeat it for several"},
    {.type = OPTION_GROUP, .fields = augment_rows},
    {.flag = "optimizer",
     .key = "optimizer.kind",
     .type = OPTION_CHOICE,
     .at = AT(optimizer.kind),
     .initial = "sgd",
     .choice = optimizer_choice,
     .help = "how steps are made"},
    {.flag = "learning-rate",
     .key = "optimizer.learning_rate",
     .type = OPTION_REAL,
     .at = AT(optimizer.learning_rate),
     .initial = "0.1",
     .min = 0,
     .max = 1e6,
     .help = "highest learning rate"},
    {.flag = "momentum",
     .key = "optimizer.momentum",
     .type = OPTION_REAL,
     .at = AT(optimizer.momentum),
     .initial = "0.9",
     .min = 0,
     .max = 1,
     .help = "of sgd"},
    {.flag = "nesterov",
     .key = "optimizer.nesterov",
     .type = OPTION_FLAG,
     .at = AT(optimizer.nesterov),
     .help = "Nesterov's momentum for sgd"},
    {.flag = "weight-decay",
     .key = "optimizer.weight_decay",
     .type = OPTION_REAL,
     .at = AT(optimizer.weight_decay),
     .initial = "0",
     .min = 0,
     .max = 1e6,
     .help = "sgd: added to the gradient; adamw: decoupled"},
    {.flag = "beta1",
     .key = "optimizer.beta1",
     .type = OPTION_REAL,
     .at = AT(optimizer.beta1),
     .initial = "0.9",
     .min = 0,
     .max = 1,
     .help = "of adamw"},
    {.flag = "beta2",
     .key = "optimizer.beta2",
     .type = OPTION_REAL,
     .at = AT(optimizer.beta2),
     .initial = "0.999",
     .min = 0,
     .max = 1,
     .help = "of adamw"},
    {.flag = "epsilon",
     .key = "optimizer.epsilon",
     .type = OPTION_REAL,
     .at = AT(optimizer.epsilon),
     .initial = "1e-8",
     .max = 1,
     .above_min = true,
     .help = "of adamw"},
    {.flag = "schedule",
     .key = "schedule.kind",
     .type = OPTION_CHOICE,
     .at = AT(schedule.kind),
     .initial = "cosine",
     .choice = schedule_choice,
     .help = "learning rate over time"},
    {.flag = "warmup-epochs",
     .key = "schedule.warmup_epochs",
     .type = OPTION_REAL,
     .at = AT(schedule.warmup_epochs),
     .initial = "0",
     .min = 0,
     .max = 1e9,
     .value = "X",
     .help = "epochs in which the rate rises"},
    {.flag = "step-epochs",
     .key = "schedule.step_epochs",
     .type = OPTION_REAL,
     .at = AT(schedule.step_epochs),
     .initial = "10",
     .max = 1e9,
     .above_min = true,
     .help = "epochs between drops, for step"},
    {.flag = "step-factor",
     .key = "schedule.step_factor",
     .type = OPTION_REAL,
     .at = AT(schedule.step_factor),
     .initial = "0.1",
     .max = 1,
     .above_min = true,
     .help = "factor of a drop, for step"},
    {.flag = "final-factor",
     .key = "schedule.final_factor",
     .type = OPTION_REAL,
     .at = AT(schedule.final_factor),
     .initial = "0",
     .min = 0,
     .max = 1,
     .help = "rate at the end relative to the highest, for cosine and one-cycle"},
    {.flag = "clip-norm",
     .key = "clip_norm",
     .type = OPTION_REAL,
     .at = AT(clip_norm),
     .max = 1e9,
     .above_min = true,
     .help =
         "longest gradient; none if not given. Against a loss that explodes, which is taken back to the last "
         "good epoch at half the learning rate, three times"},
    {.flag = "freeze",
     .key = "freeze",
     .type = OPTION_STRINGS,
     .at = AT(freeze),
     .value = "PATTERN",
     .help =
         "parameters that stay as they are, by name: 'layer1.*'; batch norms among them keep their running "
         "statistics; repeat it for several"},
    {.flag = "prior-split",
     .key = "prior_split",
     .type = OPTION_STRING,
     .at = AT(prior_split),
     .value = "NAME",
     .help =
         "rows with labels on which the last layer's biases are corrected after the training, until the "
         "mean probability of each class is its share of the labels; for classes that the rows of training "
         "lack"},
    {.flag = "priors",
     .key = "priors",
     .type = OPTION_REALS,
     .at = AT(priors),
     .min = 0,
     .max = 1e9,
     .value = "X,X...",
     .help = "shares of the classes in place of those of the labels; made to sum to 1"},
    {.flag = "epochs",
     .key = "epochs",
     .type = OPTION_INT,
     .at = AT(epochs),
     .initial = "10",
     .min = 1,
     .max = 1e9,
     .help = "passes over the rows"},
    {.flag = "batch",
     .key = "batch",
     .type = OPTION_INT,
     .at = AT(batch),
     .initial = "128",
     .min = 1,
     .max = 1e9,
     .help = "rows of the global batch, over all ranks"},
    {.flag = "shuffle-window",
     .key = "shuffle.window",
     .type = OPTION_INT,
     .at = AT(shuffle_window),
     .min = 1,
     .max = 1e12,
     .value = "ROWS",
     .help = "rows that are read and shuffled together, for datasets larger than memory: at least a batch; "
             "the order of an epoch depends on it [all rows]"},
    {.flag = "shards",
     .key = "shards",
     .type = OPTION_INT,
     .at = AT(shards),
     .min = 1,
     .max = 4096,
     .help = "pieces of a batch, the most ranks times threads that can work; part of the result, not the "
             "number of ranks [by batch]"},
    {.flag = "reduce-dtype",
     .key = "reduce_dtype",
     .type = OPTION_CHOICE,
     .at = AT(reduce_dtype),
     .initial = "float32",
     .choice = reduce_choice,
     .help =
         "gradients are rounded to, each shard's and every sum of them: bfloat16 halves what nodes send of "
         "them and gives another student"},
    {.flag = "threads",
     .type = OPTION_INT,
     .at = AT(threads),
     .min = 1,
     .max = THREADS_MAX,
     .help = "threads a rank [OMP_NUM_THREADS, else 1]"},
    {.flag = "seed",
     .type = OPTION_SEED,
     .at = AT(seed),
     .initial = "0",
     .help = "of the order of rows and of dropout"},
    {.flag = "output", .type = OPTION_PATH, .at = AT(output), .help = "ONNX file to write", .required = true},
    {.flag = "precision",
     .key = "precision",
     .type = OPTION_CHOICE,
     .at = AT(precision),
     .initial = "float32",
     .choice = precision_choice,
     .help = "of the student in that file; with float16 and int8 the trained one is OUTPUT.float32.onnx"},
    {.flag = "calibration-rows",
     .key = "calibration_rows",
     .type = OPTION_INT,
     .at = AT(calibration_rows),
     .initial = "512",
     .min = 1,
     .max = 1e9,
     .help = "of the split, to find the ranges of activations from for int8"},
    {.flag = "checkpoint",
     .type = OPTION_PATH,
     .at = AT(checkpoint),
     .value = "FOLDER",
     .help = "of unfinished work, from which the same command goes on [OUTPUT.ckpt]"},
    {.flag = "checkpoint-seconds",
     .type = OPTION_REAL,
     .at = AT(checkpoint_seconds),
     .initial = "600",
     .min = 0,
     .max = 1e9,
     .help = "between two checkpoints; SIGUSR1 and SIGUSR2 write one and end with status 75"},
    {.flag = "restart", .type = OPTION_FLAG, .at = AT(restart), .help = "forget unfinished work"},
    OUT(mpistill_train_options, quiet_rows),
    OUT(mpistill_train_options, json_rows),
    OUT(mpistill_train_options, log_rows),
    OUT(mpistill_train_options, force_rows),
    OUT(mpistill_train_options, stop_rows),
    OUT(mpistill_train_options, stall_rows),
    {0}};

const option soft_rows[] = {
    {.flag = "soft-labels",
     .type = OPTION_PATHS,
     .at = AT(soft_labels),
     .value = "[TASK=]FILE",
     .help = "soft-label file; repeat it to combine several"},
    {.flag = "method",
     .type = OPTION_CHOICE,
     .at = AT(method),
     .initial = "probability-mean",
     .choice = combine_choice,
     .help = "how several files are combined"},
    {.flag = "method-tensor",
     .type = OPTION_STRING,
     .at = AT(method_tensor),
     .value = "TENSOR",
     .help = "amtml: the student's inner tensor that weights are learned from"},
    {.flag = "weights",
     .type = OPTION_REALS,
     .at = AT(weights),
     .max = 1e9,
     .value = "X,X...",
     .help = "of the files; made to sum to 1 [equal]"},
    {.flag = "trust-rows",
     .type = OPTION_FLAG,
     .at = AT(trust_rows),
     .help = "accept soft labels that do not say which dataset they belong to"},
    {.flag = "fixed-labels",
     .key = "fixed_labels",
     .type = OPTION_FLAG,
     .at = AT(fixed_labels),
     .help = "with augment: learn from soft labels of the rows as they are, though the student sees them "
             "changed"},
    {.flag = "temperature",
     .key = "temperature",
     .type = OPTION_REAL,
     .at = AT(temperature),
     .initial = "4",
     .min = 1e-3,
     .max = 1e6,
     .help = "softens teachers and student in losses that give none of their own"},
    {.flag = "confidence",
     .key = "confidence",
     .type = OPTION_REAL,
     .at = AT(confidence),
     .min = 0,
     .max = 1,
     .help = "rows whose soft labels give no class that probability have no soft loss [0]"},
    {.flag = "adaptive-split",
     .key = "adaptive_split",
     .type = OPTION_STRING,
     .at = AT(adaptive_split),
     .value = "NAME",
     .help =
         "rows with labels on which the student is compared with its teachers before each epoch: weight and "
         "temperature of kd follow from the gap, and teachers it has overtaken are left out"},
    {.flag = "adaptive-labels",
     .type = OPTION_PATHS,
     .at = AT(adaptive_files),
     .help = "soft-label file of those rows, one for each of the soft-label files"},
    {.flag = "kd-weight",
     .key = "kd_weight",
     .type = OPTION_REAL,
     .at = AT(kd_weight),
     .initial = "0.9",
     .min = 0,
     .max = 1,
     .help = "weight W of the kd loss; cross-entropy gets 1-W"},
    {0}};

const option train_option_rows[] = {
    {.flag = "model", .type = OPTION_PATH, .at = AT(model), .help = "ONNX model to train", .required = true},
    {.type = OPTION_GROUP, .fields = training_rows},
    {0}};

const option distill_option_rows[] = {{.flag = "student",
                                       .type = OPTION_PATH,
                                       .at = AT(model),
                                       .help = "ONNX model to train",
                                       .required = true},
                                      {.type = OPTION_GROUP, .fields = soft_rows},
                                      {.type = OPTION_GROUP, .fields = live_option_rows},
                                      {.type = OPTION_GROUP, .fields = feature_rows},
                                      {.type = OPTION_GROUP, .fields = training_rows},
                                      {0}};

#undef AT
