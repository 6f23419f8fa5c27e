/* import, inspect, create: what one process does alone, also on a login node. */
#include "cli/command.h"

#include "import/import.h"
#include "models/models.h"
#include "stages/inspect.h"
#include "stages/options.h"
#include "stages/rules.h"
#include "stages/stages.h"

/* ---- import ---- */

static void write_formats(FILE *out) {
  for (const importer *const *k = importers(); *k; k++) fprintf(out, "%s\n  %s\n", (*k)->name, (*k)->help);
}

static status prepare_import(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  mpistill_import_options *o = config;
  (void)seen;
  if (!arguments->n) return status_set(STATUS_BAD_INPUT, "a format is needed (see --help-formats)");
  if (arguments->n < 2)
    return status_set(STATUS_BAD_INPUT, "SPLIT=FILE[,FILE...] is needed, as in train=images,labels");
  o->format = arguments->items[0];
  o->sources = (mpistill_strings){.n = arguments->n - 1, .items = arguments->items + 1};
  return STATUS_OK;
}

static status run_import(comm *c, const void *config) {
  (void)c;
  return stage_import(config);
}

const command command_import = {
    .name = "import",
    .help = "turn IDX, CIFAR binary, CSV or NPY files into a dataset file",
    .arguments = "FORMAT SPLIT=FILE[,FILE...]...",
    .examples = "mpistill import idx train=images-idx3-ubyte,labels-idx1-ubyte --output mnist.h5\n"
                "mpistill import cifar train=data_batch_1.bin,data_batch_2.bin test=test_batch.bin --output "
                "cifar10.h5\n"
                "mpistill import csv train=a.csv test=b.csv --label-column class --output table.h5\n"
                "mpistill import npy train=x.npy,y.npy test=xt.npy,yt.npy --output set.h5",
    .rows = import_option_rows,
    .config_bytes = sizeof(mpistill_import_options),
    .prepare = prepare_import,
    .run = run_import,
    .topic = "--help-formats",
    .topic_help = "the formats there are",
    .write_topic = write_formats,
};

/* ---- inspect ---- */

static const option inspect_rows[] = {{.flag = "json",
                                       .type = OPTION_FLAG,
                                       .at = offsetof(inspect_options, json),
                                       .help = "one JSON object on stdout"},
                                      {.flag = "verify",
                                       .type = OPTION_FLAG,
                                       .at = offsetof(inspect_options, verify),
                                       .help = "read everything: checksums, and no value that is not finite"},
                                      {0}};

static status prepare_inspect(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  (void)seen;
  return command_argument(arguments, "a file, or the folder of a run,", &((inspect_options *)config)->path);
}

static status run_inspect(comm *c, const void *config) {
  return stage_inspect(c, config);
}

const command command_inspect = {
    .name = "inspect",
    .help = "show what a dataset, soft-label file or ONNX model holds, or how far a run is",
    .arguments = "FILE",
    .examples = "mpistill inspect mnist.h5\n"
                "mpistill inspect soft/wide.h5 --verify\n"
                "mpistill inspect recipe.yaml\n"
                "mpistill inspect student.onnx --json",
    .rows = inspect_rows,
    .config_bytes = sizeof(inspect_options),
    .prepare = prepare_inspect,
    .run = run_inspect,
};

/* ---- create ---- */

static status prepare_create(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  char *kind;
  status st = command_argument(arguments, "a kind of model (see --help-kinds)", &kind);
  if (!st) st = options_set(create_option_rows, config, "create", kind);
  return st ? st : create_rules(config, seen);
}

static status run_create(comm *c, const void *config) {
  (void)c;
  return stage_create(config);
}

static void write_kinds(FILE *out) {
  for (const model_kind *const *k = model_kinds(); *k; k++)
    fprintf(out, "%s\n  %s\n  options: %s\n", (*k)->name, (*k)->help, (*k)->options);
}

const command command_create = {
    .name = "create",
    .help = "write a fresh ONNX model",
    .arguments = "KIND",
    .examples = "mpistill create mlp --layers 784,800,800,10 --seed 1 --output student.onnx\n"
                "mpistill create resnet --depth 20 --input 3x32x32 --classes 10 --output student.onnx",
    .rows = create_option_rows,
    .config_bytes = sizeof(mpistill_create_options),
    .prepare = prepare_create,
    .run = run_create,
    .topic = "--help-kinds",
    .topic_help = "the kinds of models and the options of each",
    .write_topic = write_kinds,
};
