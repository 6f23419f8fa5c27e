/* teach, aggregate, run. */
#include "cli/command.h"

#include "learn/combine.h"
#include "stages/options.h"
#include "stages/rules.h"
#include "stages/stages.h"

/* ---- teach ---- */

static status prepare_teach(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  (void)arguments, (void)seen;
  return teach_rules(config);
}

static status run_teach(comm *c, const void *config) {
  return stage_teach(c, config);
}

const command command_teach = {
    .name = "teach",
    .help = "run teachers over a dataset, store their soft labels",
    .examples = "mpirun -n 4 mpistill teach --dataset mnist.h5 --split train --teacher wide=wide.onnx "
                "--teacher conv=conv.onnx --output soft/",
    .rows = teach_option_rows,
    .config_bytes = sizeof(mpistill_teach_options),
    .mpi = true,
    .out_at = offsetof(mpistill_teach_options, out),
    .stops = true,
    .prepare = prepare_teach,
    .run = run_teach,
    .topic = "--help-augment",
    .topic_help = "what each change of the rows does",
    .write_topic = write_augments,
};

/* ---- aggregate ---- */

static status prepare_aggregate(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  mpistill_aggregate_options *o = config;
  o->inputs = *arguments;
  return aggregate_rules(o, seen);
}

static status run_aggregate(comm *c, const void *config) {
  return stage_aggregate(c, config);
}

/* Keys of a recipe as options of the command line. */
static void write_flag(FILE *out, const char *key) {
  fputs(" --", out);
  for (; *key; key++) fputc(*key == '_' ? '-' : *key, out);
}

static void write_methods(FILE *out) {
  fputs("z_k: the logits of teacher k, p_k = softmax(z_k/T), T the temperature; w_k its weight; y the "
        "label\n"
        "of outputs of several positions (pixels, frames) each position is combined as a row; numbers "
        "(regression) by logit-mean alone\n"
        "what is made for one temperature is the same whatever is added to a row: the largest of each is 0\n"
        "--calibrate divides z_k by the temperature, from 1/16 to 16, that minimises the mean of "
        "-log softmax(z_k/T)_y over labelled rows (Guo et al. 2017)\n\n",
        out);
  for (const combine_kind *const *k = combine_kinds(); *k; k++) {
    fprintf(out, "%s\n  %s\n  %s%s%s\n", (*k)->name, (*k)->formula,
            (*k)->linear ? "serves any temperature" : "made for the one temperature given by --temperature",
            (*k)->of_one ? ", of one teacher for any" : "",
            (*k)->in_training        ? "; a method of distill alone"
            : combine_on_the_fly(*k) ? "; a method of distill as well"
                                     : "");
    if ((*k)->needs) fprintf(out, "  needs: %s\n", (*k)->needs);
    fputs("  options:", out);
    for (const char *const *o = (*k)->options; o && *o; o++) write_flag(out, *o);
    fputc('\n', out);
  }
}

const command command_aggregate = {
    .name = "aggregate",
    .help = "combine soft-label files into one",
    .arguments = "FILE...",
    .examples = "mpirun -n 4 mpistill aggregate soft/wide.h5 soft/conv.h5 --method probability-mean --output "
                "ensemble.h5",
    .rows = aggregate_option_rows,
    .config_bytes = sizeof(mpistill_aggregate_options),
    .mpi = true,
    .out_at = offsetof(mpistill_aggregate_options, out),
    .prepare = prepare_aggregate,
    .run = run_aggregate,
    .topic = "--help-methods",
    .topic_help = "what each method computes",
    .write_topic = write_methods,
};

/* ---- run ---- */

typedef struct run_config {
  mpistill_run_options o;
  bool resume; /* the default, to be said aloud */
} run_config;

static const option run_rows[] = {
    {.type = OPTION_GROUP, .at = offsetof(run_config, o), .fields = run_option_rows},
    {.flag = "resume",
     .type = OPTION_FLAG,
     .at = offsetof(run_config, resume),
     .help = "go on where an earlier run stopped (the default)"},
    {0}};

static status prepare_run(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  run_config *r = config;
  (void)seen;
  if (r->resume && r->o.restart)
    return status_set(STATUS_BAD_INPUT, "--resume and --restart exclude each other");
  return command_argument(arguments, "a recipe (YAML)", &r->o.recipe);
}

static status run_run(comm *c, const void *config) {
  return stage_run(c, &((const run_config *)config)->o);
}

static void write_recipe_keys(FILE *out) {
  fputs("keys of a recipe (sections are nested mappings, [] a sequence of them):\n", out);
  options_help_keys(recipe_option_rows, out);
}

const command command_run = {
    .name = "run",
    .help = "follow a recipe from end to end",
    .arguments = "RECIPE",
    .examples = "mpirun -n 4 mpistill run recipe.yaml\n"
                "mpistill run recipe.yaml --dry-run\n"
                "mpirun -n 4 mpistill run recipe.yaml --set distill.epochs=5",
    .rows = run_rows,
    .config_bytes = sizeof(run_config),
    .mpi = true,
    .out_at = offsetof(run_config, o.out),
    .stops = true,
    .prepare = prepare_run,
    .run = run_run,
    .topic = "--help-recipe",
    .topic_help = "all keys of a recipe",
    .write_topic = write_recipe_keys,
};
