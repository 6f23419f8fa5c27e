/* What a command is: one const struct, one row in commands.c. */
#ifndef MPISTILL_CLI_COMMAND_H
#define MPISTILL_CLI_COMMAND_H

#include "base/options.h"
#include "comm/comm.h"

#include <stdio.h>

typedef struct command {
  const char *name;
  const char *help;      /* one line */
  const char *arguments; /* what stands beside the options, "FILE"; NULL: nothing may */
  const char *examples;  /* lines for --help */
  const option *rows;
  size_t config_bytes; /* of the struct the rows fill; zeroed first */
  bool mpi;            /* needs the ranks; others never call MPI */
  size_t out_at;       /* if mpi: offsetof the config's mpistill_output_options */
  bool stops;          /* asked by a signal it ends with a checkpoint (base/stop.h); others are ended by it */
  /* Local. Takes the arguments (borrowed until run has returned) and checks the rules across options. */
  status (*prepare)(void *config, const mpistill_strings *arguments, const options_seen *seen);
  /* Collective if mpi. Results to stdout, on rank 0. */
  status (*run)(comm *c, const void *config);
  const char *topic; /* "--help-losses": a further page of help, NULL for none */
  const char *topic_help;
  void (*write_topic)(FILE *out);
} command;

extern const command command_import, command_inspect, command_create, command_train, command_evaluate,
    command_teach, command_aggregate, command_distill, command_run, command_plan;

/* NULL-ended, in the order of --help. */
const command *const *command_table(void);
const command *command_find(const char *name); /* NULL if unknown */
/* The nearest name to a misspelt one, NULL if none. */
const char *command_nearest(const char *name);

/* Help for all commands, and for one. */
void commands_help(FILE *out);
void command_help(const command *k, FILE *out);

/* The page about changes of rows. */
void write_augments(FILE *out);

/* The one argument of a command that takes one; `what` stands in the message when it is missing or there are
 * more. */
status command_argument(const mpistill_strings *arguments, const char *what, char **out);

#endif
