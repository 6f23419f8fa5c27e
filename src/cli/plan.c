/* plan: on a login node, before a job is queued. */
#include "stages/plan.h"
#include "cli/command.h"

#define AT(field) offsetof(plan_request, field)

static const option plan_rows[] = {
    {.flag = "ranks",
     .type = OPTION_INT,
     .at = AT(ranks),
     .initial = "1",
     .min = 1,
     .max = 1e6,
     .help = "MPI ranks"},
    {.flag = "ranks-per-node",
     .type = OPTION_INT,
     .at = AT(ranks_per_node),
     .min = 1,
     .max = 1e6,
     .help = "of them on a node [all]"},
    {.flag = "memory",
     .type = OPTION_REAL,
     .at = AT(memory_gib),
     .max = 1e9,
     .value = "GIB",
     .help = "of a node: says whether it is enough"},
    {.flag = "link",
     .type = OPTION_REAL,
     .at = AT(link_gbits),
     .max = 1e9,
     .value = "GBIT",
     .help = "a second out of a node: the time of messages counts"},
    {.flag = "set",
     .type = OPTION_STRINGS,
     .at = AT(set),
     .value = "KEY=VALUE",
     .help = "replace a value of the recipe, as in distill.epochs=5; repeat it for several"},
    {.flag = "slurm",
     .type = OPTION_FLAG,
     .at = AT(slurm),
     .help = "print only the line that queues it with launch/slurm.sh"},
    {.flag = "json", .type = OPTION_FLAG, .at = AT(json), .help = "one JSON object on stdout"},
    {0}};

#undef AT

static status prepare_plan(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  (void)seen;
  plan_request *o = config;
  if (o->slurm && o->json) return status_set(STATUS_BAD_INPUT, "--slurm and --json exclude each other");
  return command_argument(arguments, "a recipe (YAML)", &o->recipe);
}

static status run_plan(comm *c, const void *config) {
  return stage_plan(c, config);
}

const command command_plan = {
    .name = "plan",
    .help = "say what a run will cost on N ranks, before it is queued",
    .arguments = "RECIPE",
    .examples = "mpistill plan recipe.yaml --ranks 64 --ranks-per-node 32 --memory 192 --link 100\n"
                "mpistill plan recipe.yaml --ranks 64 --ranks-per-node 32 --slurm",
    .rows = plan_rows,
    .config_bytes = sizeof(plan_request),
    .prepare = prepare_plan,
    .run = run_plan,
};
