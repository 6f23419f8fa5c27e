#include "cli/command.h"

#include <string.h>

const command *const *command_table(void) {
  static const command *const table[] = {&command_import,
                                         &command_inspect,
                                         &command_create,
                                         &command_train,
                                         &command_evaluate,
                                         &command_teach,
                                         &command_aggregate,
                                         &command_distill,
                                         &command_run,
                                         &command_plan,
                                         NULL};
  return table;
}

const command *command_find(const char *name) {
  for (const command *const *k = command_table(); *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}

static const char *name_at(const void *table, int i) {
  const command *k = ((const command *const *)table)[i];
  return k ? k->name : NULL;
}

const char *command_nearest(const char *name) {
  return nearest_name(name, name_at, command_table());
}

void commands_help(FILE *out) {
  fputs("mpistill: many teacher models into one small student, on any number of MPI ranks\n\n"
        "usage: mpistill COMMAND [OPTIONS]\n"
        "       mpistill COMMAND --help\n"
        "       mpistill --help\n"
        "       mpistill --version\n\n"
        "commands:\n",
        out);
  for (const command *const *k = command_table(); *k; k++)
    fprintf(out, "  %-10s %s%s\n", (*k)->name, (*k)->help, (*k)->mpi ? " (mpirun)" : "");
  fputs("\nResults go to stdout, progress and messages to stderr. Exit status: 0 done; 1 failed; 2 wrong "
        "usage or bad\n"
        "input; 75 stopped early on purpose, the same command goes on.\n",
        out);
}

void command_help(const command *k, FILE *out) {
  fprintf(out, "mpistill %s: %s\n\nusage: mpistill %s %s%s[OPTIONS]\n\nexamples:\n", k->name, k->help,
          k->name, k->arguments ? k->arguments : "", k->arguments ? " " : "");
  for (const char *line = k->examples; *line;) {
    int n = (int)strcspn(line, "\n");
    fprintf(out, "  %.*s\n", n, line);
    line += n + (line[n] == '\n');
  }
  fputs("\noptions:\n", out);
  options_help(k->rows, out);
  if (k->topic) fprintf(out, "  %-27s %s\n", k->topic, k->topic_help);
}

status command_argument(const mpistill_strings *arguments, const char *what, char **out) {
  if (!arguments->n) return status_set(STATUS_BAD_INPUT, "%s is needed", what);
  if (arguments->n > 1)
    return status_set(STATUS_BAD_INPUT, "'%s' is one too many: %s", arguments->items[1], what);
  *out = arguments->items[0];
  return STATUS_OK;
}
