/* Options of the stages that make soft labels, models and datasets, and of recipes, which hold those of all
 * stages. */
#include "base/mem.h"
#include "learn/combine.h"
#include "stages/options_rows.h"
#include "store/dataset.h"

#include <string.h>

/* ---- names from the tables of other layers ---- */

const char *combine_choice(int i) {
  const combine_kind *k = combine_kinds()[i];
  return k ? k->name : NULL;
}

const char *dtype_choice(int i) {
  static const element types[] = {ELEMENT_FLOAT16, ELEMENT_FLOAT32};
  return i < 2 ? element_name(types[i]) : NULL;
}

/* ---- what belongs to several commands ---- */

const option quiet_rows[] = {{.flag = "quiet",
                              .type = OPTION_FLAG,
                              .at = offsetof(mpistill_output_options, quiet),
                              .help = "no progress on stderr; results still go to stdout"},
                             {0}};
const option json_rows[] = {{.flag = "json",
                             .type = OPTION_FLAG,
                             .at = offsetof(mpistill_output_options, json),
                             .help = "results as one JSON object on stdout"},
                            {0}};
const option log_rows[] = {{.flag = "log",
                            .type = OPTION_PATH,
                            .at = offsetof(mpistill_output_options, log),
                            .help = "append one JSON object a line to this file"},
                           {0}};
const option force_rows[] = {{.flag = "force",
                              .type = OPTION_FLAG,
                              .at = offsetof(mpistill_output_options, force),
                              .help = "overwrite an output that was made from other inputs"},
                             {0}};

const option stall_rows[] = {
    {.flag = "stall-timeout",
     .type = OPTION_REAL,
     .at = offsetof(mpistill_output_options, stall_timeout),
     .value = "SECONDS",
     .initial = "600",
     .min = 0,
     .max = 1e6,
     .help = "leave with status 75 when a rank hangs so long that no rank gets on; 0: never"},
    {.flag = "mixed-processors",
     .type = OPTION_FLAG,
     .at = offsetof(mpistill_output_options, mixed_processors),
     .help =
         "go on where ranks have unlike processors or libraries; the result then depends on which rank did "
         "what, and outputs are marked by mixed_processors"},
    {0}};
const option stop_rows[] = {
    {.flag = "stop-before",
     .type = OPTION_REAL,
     .at = offsetof(mpistill_output_options, stop_before),
     .value = "SECONDS",
     .min = 0,
     .max = 1e6,
     .help = "stop with status 75 when the batch job ends in less than that (Slurm, PBS, or "
             "MPISTILL_END_TIME in seconds since 1970)"},
    {0}};

/* ---- aggregate, evaluate ---- */

#define AT(field) offsetof(mpistill_aggregate_options, field)

const option aggregate_option_rows[] = {
    {.flag = "dataset",
     .type = OPTION_PATH,
     .at = AT(dataset),
     .help = "dataset file, for accuracy against its labels"},
    {.flag = "labels",
     .type = OPTION_STRING,
     .at = AT(labels),
     .value = "NAME",
     .help = "array of those labels, or targets [label; of numbers target]"},
    {.flag = "method",
     .key = "method",
     .type = OPTION_CHOICE,
     .at = AT(method),
     .choice = combine_choice,
     .help = "how teachers are combined; numbers by logit-mean alone, their mean [probability-mean]"},
    {.flag = "weights",
     .key = "weights",
     .type = OPTION_REALS,
     .at = AT(weights),
     .max = 1e9,
     .value = "X,X...",
     .help = "of the teachers; made to sum to 1 [equal]"},
    {.flag = "temperature",
     .key = "temperature",
     .type = OPTION_REAL,
     .at = AT(temperature),
     .initial = "1",
     .min = 1e-3,
     .max = 1e6,
     .help = "that the student will be distilled at: rules that are not linear in logits make the ensemble "
             "for it"},
    {.flag = "calibrate",
     .key = "calibrate",
     .type = OPTION_FLAG,
     .at = AT(calibrate),
     .help =
         "divide each teacher's logits by the temperature, from 1/16 to 16, that fits labelled rows best"},
    {.flag = "fit",
     .key = "fit",
     .type = OPTION_PATHS,
     .at = AT(fit),
     .help = "soft labels of labelled rows that the teachers were not trained on, to find weights and "
             "temperatures from; one for each teacher, in the same order"},
    {.flag = "held-out",
     .key = "held_out",
     .type = OPTION_REAL,
     .at = AT(held_out),
     .initial = "0.2",
     .max = 1,
     .above_min = true,
     .help = "without --fit: share of the labelled rows to find them from, drawn by the seed"},
    {.flag = "per-class",
     .key = "per_class",
     .type = OPTION_FLAG,
     .at = AT(per_class),
     .help = "learned: weights for each class"},
    {.flag = "noise",
     .key = "noise",
     .type = OPTION_REAL,
     .at = AT(noise),
     .max = 1e9,
     .above_min = true,
     .help = "pate-lnmax: scale of the Laplace noise, in votes"},
    {.flag = "sigma1",
     .key = "sigma1",
     .type = OPTION_REAL,
     .at = AT(sigma1),
     .max = 1e9,
     .above_min = true,
     .help = "pate-gnmax: noise of the test against the threshold, in votes"},
    {.flag = "sigma2",
     .key = "sigma2",
     .type = OPTION_REAL,
     .at = AT(sigma2),
     .max = 1e9,
     .above_min = true,
     .help = "pate-gnmax: noise of the answer, in votes"},
    {.flag = "threshold",
     .key = "threshold",
     .type = OPTION_REAL,
     .at = AT(threshold),
     .max = 1e9,
     .above_min = true,
     .help = "pate-gnmax: votes below which there is no answer"},
    {.flag = "delta",
     .key = "delta",
     .type = OPTION_REAL,
     .at = AT(delta),
     .initial = "1e-5",
     .max = 1,
     .above_min = true,
     .help = "pate-*: of the (epsilon, delta) that is told"},
    {.key = "tensor",
     .type = OPTION_STRING,
     .at = AT(tensor),
     .help = "amtml: the student's inner tensor that weights are learned from"},
    {.flag = "seed",
     .type = OPTION_SEED,
     .at = AT(seed),
     .initial = "0",
     .help = "of held-out rows, of methods that draw"},
    {.flag = "dtype",
     .key = "dtype",
     .type = OPTION_CHOICE,
     .at = AT(dtype),
     .initial = "float16",
     .choice = dtype_choice,
     .value = "TYPE",
     .help = "of stored logits"},
    {.flag = "trust-rows",
     .key = "trust_rows",
     .type = OPTION_FLAG,
     .at = AT(trust_rows),
     .help = "accept soft labels that do not say which dataset they belong to"},
    {.flag = "output",
     .type = OPTION_PATH,
     .at = AT(output),
     .help = "soft-label file to write",
     .required = true},
    OUT(mpistill_aggregate_options, quiet_rows),
    OUT(mpistill_aggregate_options, json_rows),
    OUT(mpistill_aggregate_options, log_rows),
    OUT(mpistill_aggregate_options, force_rows),
    OUT(mpistill_aggregate_options, stall_rows),
    {0}};

#undef AT
#define AT(field) offsetof(mpistill_evaluate_options, field)

const option evaluate_option_rows[] = {
    {.flag = "model", .type = OPTION_PATH, .at = AT(model), .help = "ONNX model", .required = true},
    {.flag = "dataset", .type = OPTION_PATH, .at = AT(dataset), .help = "dataset file", .required = true},
    {.flag = "split",
     .type = OPTION_STRING,
     .at = AT(split),
     .initial = "test",
     .value = "NAME",
     .help = "rows to evaluate on"},
    {.flag = "input",
     .type = OPTION_STRING,
     .at = AT(input),
     .value = "NAME",
     .help = "input array of the dataset; needed if there are several"},
    {.key = "preprocess", .type = OPTION_GROUP, .at = AT(preprocess), .fields = preprocess_fields},
    {.type = OPTION_GROUP, .at = AT(tasks), .fields = tasks_rows},
    {.flag = "threads",
     .type = OPTION_INT,
     .at = AT(threads),
     .min = 1,
     .max = THREADS_MAX,
     .help = "threads a rank [OMP_NUM_THREADS, else 1]"},
    {.flag = "against",
     .type = OPTION_PATH,
     .at = AT(against),
     .help = "another model, as a rule the float32 student of a smaller one: what is lost, row by row"},
    OUT(mpistill_evaluate_options, quiet_rows),
    OUT(mpistill_evaluate_options, json_rows),
    OUT(mpistill_evaluate_options, stall_rows),
    {0}};

#undef AT

/* ---- import ---- */

#define AT(field) offsetof(mpistill_import_options, field)

const option import_option_rows[] = {
    {.flag = "label-column",
     .type = OPTION_STRING,
     .at = AT(label_column),
     .value = "NAME",
     .help = "csv: the column with the classes"},
    {.flag = "categorical",
     .type = OPTION_FLAG,
     .at = AT(categorical),
     .help = "csv: turn columns of text into numbers"},
    {.flag = "standardize",
     .type = OPTION_FLAG,
     .at = AT(standardize),
     .help = "csv: scale and offset from the first split, so that columns have mean 0 and variance 1"},
    {.flag = "name",
     .type = OPTION_STRING,
     .at = AT(name),
     .help = "of the dataset, stored in the file [the output's name]"},
    {.flag = "source",
     .type = OPTION_STRING,
     .at = AT(source),
     .help = "where the data comes from, stored in the file"},
    {.flag = "licence", .type = OPTION_STRING, .at = AT(licence), .help = "of the data, stored in the file"},
    {.flag = "output",
     .type = OPTION_PATH,
     .at = AT(output),
     .help = "dataset file to write",
     .required = true},
    OUT(mpistill_import_options, quiet_rows),
    OUT(mpistill_import_options, force_rows),
    {0}};

#undef AT

/* ---- run ---- */

#define AT(field) offsetof(mpistill_run_options, field)

const option run_option_rows[] = {
    {.flag = "set",
     .type = OPTION_STRINGS,
     .at = AT(set),
     .value = "KEY=VALUE",
     .help = "replace a value of the recipe, as in distill.epochs=5; repeat it for several"},
    {.flag = "dry-run",
     .type = OPTION_FLAG,
     .at = AT(dry_run),
     .help = "show what would be done, do nothing"},
    {.flag = "restart", .type = OPTION_FLAG, .at = AT(restart), .help = "forget unfinished work"},
    OUT(mpistill_run_options, quiet_rows),
    OUT(mpistill_run_options, json_rows),
    OUT(mpistill_run_options, force_rows),
    OUT(mpistill_run_options, stop_rows),
    OUT(mpistill_run_options, stall_rows),
    {0}};

#undef AT

/* Stages take what they share (dataset, seed, threads, outputs) from the recipe's top: those rows of theirs
 * have no key. */
static const option recipe_distill_rows[] = {{.type = OPTION_GROUP, .fields = soft_rows},
                                             {.type = OPTION_GROUP, .fields = feature_rows},
                                             {.type = OPTION_GROUP, .fields = training_rows},
                                             {0}};

#define AT(field) offsetof(mpistill_assistant, field)

static const option assistant_fields[] = {
    {.key = "name",
     .type = OPTION_STRING,
     .at = AT(name),
     .help = "unique; becomes the name of files",
     .required = true},
    {.key = "model", .type = OPTION_PATH, .at = AT(model), .help = "ONNX file, or"},
    {.type = OPTION_GROUP, .at = AT(create), .fields = create_option_rows},
    {.key = "epochs",
     .type = OPTION_INT,
     .at = AT(epochs),
     .min = 1,
     .max = 1e9,
     .help = "passes over the rows [distill.epochs]"},
    {0}};

#undef AT
#define AT(field) offsetof(mpistill_recipe, field)

const option recipe_option_rows[] = {
    {.key = "dataset", .type = OPTION_PATH, .at = AT(dataset), .help = "dataset file", .required = true},
    {.key = "output",
     .type = OPTION_PATH,
     .at = AT(output),
     .help = "folder for everything the run makes",
     .required = true},
    {.key = "seed",
     .type = OPTION_SEED,
     .at = AT(seed),
     .help = "of the student's initial weights, the order of rows, dropout",
     .initial = "0"},
    {.key = "threads",
     .type = OPTION_INT,
     .at = AT(threads),
     .help = "threads a rank [OMP_NUM_THREADS, else 1]",
     .min = 1,
     .max = THREADS_MAX},
    {.key = "baseline",
     .type = OPTION_FLAG,
     .at = AT(baseline),
     .help = "also train the same student on hard labels alone [false]"},
    {.key = "teachers",
     .type = OPTION_ITEMS,
     .at = AT(teachers),
     .help = "those to learn from; none: plain training",
     .fields = teacher_fields,
     .item_bytes = sizeof(mpistill_teacher)},
    {.key = "teach.live",
     .type = OPTION_FLAG,
     .at = AT(live),
     .help =
         "teachers label what the student sees as it learns, nothing is stored of them; 'teach: live' for "
         "short [false]"},
    {.key = "teach.ranks",
     .type = OPTION_INT,
     .at = AT(distill.teaching_ranks),
     .initial = "-1",
     .min = -1,
     .max = 1e6,
     .help =
         "live: ranks that teach, the last ones; 0, and on one rank: those that train ask for themselves; "
         "-1: by cost"},
    {.key = "teach", .type = OPTION_GROUP, .at = AT(teach), .fields = teach_option_rows},
    {.key = "aggregate.fit_split",
     .type = OPTION_STRING,
     .at = AT(fit_split),
     .help = "labelled rows that the teachers were not trained on: they label them, for fit"},
    {.key = "aggregate", .type = OPTION_GROUP, .at = AT(aggregate), .fields = aggregate_option_rows},
    {.key = "student.model", .type = OPTION_PATH, .at = AT(student.model), .help = "ONNX file, or"},
    {.key = "student", .type = OPTION_GROUP, .at = AT(student.create), .fields = create_option_rows},
    {.key = "assistants",
     .type = OPTION_ITEMS,
     .at = AT(assistants),
     .help = "students on the way: each learns from the one before it, the first from the teachers, the "
             "student from the last",
     .fields = assistant_fields,
     .item_bytes = sizeof(mpistill_assistant)},
    {.key = "generations",
     .type = OPTION_INT,
     .at = AT(generations),
     .initial = "1",
     .min = 1,
     .max = 100,
     .help = "how often the student is trained, from the second time on by itself as it was before"},
    {.key = "distill", .type = OPTION_GROUP, .at = AT(distill), .fields = recipe_distill_rows},
    {.key = "checkpoint.every_seconds",
     .type = OPTION_REAL,
     .at = AT(distill.checkpoint_seconds),
     .help = "between two checkpoints of training",
     .initial = "600",
     .min = 0,
     .max = 1e9},
    {0}};

#undef AT
