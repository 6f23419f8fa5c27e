/* mpistill COMMAND [OPTIONS]: the only place that prints errors and turns a status into an exit code. */
#include "base/mem.h"
#include "base/profile.h"
#include "base/progress.h"
#include "base/stop.h"
#include "cli/command.h"
#include "comm/pulse.h"
#include "store/h5.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* This process's rank by the launcher's word, before and without MPI. */
static long launcher_rank(void) {
  static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (getenv(names[i])) return strtol(getenv(names[i]), NULL, 10);
  /* Slurm sets its rank in a batch script too, where nothing was launched. */
  if (getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID")) return strtol(getenv("SLURM_PROCID"), NULL, 10);
  return 0;
}

/* One line that starts with "mpistill: error: ", what follows it indented by two spaces. */
static void print_error(status st) {
  const char *message = status_message();
  char *text = NULL;
  size_t n = 0;
  if (!*message) message = "failed without a message";
  if (mem_new(&text, 3 * strlen(message) + 1, 1)) text = NULL;
  for (const char *c = message; text && *c; c++) {
    text[n++] = *c;
    if (*c != '\n') continue;
    text[n++] = ' ';
    text[n++] = ' ';
  }
  say(true, "%s%s", st == STATUS_STOPPED ? "" : "error: ", text ? text : message);
  mem_free(text);
}

static status flush_results(void) {
  errno = 0;
  if (!fflush(stdout) && !ferror(stdout)) return STATUS_OK;
  return status_set(STATUS_FAILED, "stdout: results could not be written: %s",
                    errno ? strerror(errno) : "an error");
}

/* A rank hangs: MPI cannot be ended any more. */
static void leave(const char *message) {
  if (message) {
    status_set(STATUS_STOPPED, "%s", message);
    print_error(STATUS_STOPPED);
  }
  _exit(STATUS_STOPPED);
}

/* HDF5 would crash at the end of MPI on a rank where a file could not be written: all leave without it. */
static void leave_unwritten(comm *c) {
  int64_t ranks = h5_has_unwritten();
  if (comm_combine_counts(c, &ranks, 1) || !ranks) return;
  fflush(NULL);
  _exit(STATUS_FAILED);
}

typedef struct call {
  const command *k;
  void *config;
  mpistill_strings arguments;
} call;

/* Local: what the command line says. */
static status call_prepare(call *a, int argc, char **argv) {
  status st = STATUS_OK;
  options_seen seen = {0};
  TRY(mem_new(&a->config, 1, a->k->config_bytes));
  TRY(options_defaults(a->k->rows, a->config));
  st = options_parse(a->k->rows, a->config, argc, argv, a->k->arguments ? &a->arguments : NULL, &seen);
  if (!st) st = a->k->prepare(a->config, &a->arguments, &seen);
  if (st == STATUS_BAD_INPUT) status_add_line("see 'mpistill %s --help'", a->k->name);
done:
  options_seen_free(&seen);
  return st;
}

static void call_free(call *a) {
  if (a->config) options_free(a->k->rows, a->config);
  mem_free(a->config);
  strings_free(&a->arguments);
}

static const mpistill_output_options *call_output(const call *a) {
  return (const mpistill_output_options *)((const char *)a->config + a->k->out_at);
}

static status command_call(const command *k, int argc, char **argv, long rank) {
  status st = STATUS_OK;
  comm *c = NULL;
  call a = {.k = k};
  TRY(k->mpi ? comm_start(&c) : comm_alone(&c));
  rank = comm_rank(c);
  TRY(comm_agree(c, call_prepare(&a, argc, argv)));
  TRY(comm_agree(c, profile_check()));
  if (k->mpi) TRY(pulse_start(c, k->name, call_output(&a)->stall_timeout, leave));
  TRY(k->run(c, a.config));
  TRY(comm_agree(c, rank == 0 ? flush_results() : STATUS_OK));
  TRY(comm_agree(c, profile_write((int)rank)));
done:
  /* Before MPI ends: a launcher that sees one rank leave with an error may end the others, and the message
   * with them. */
  if (st && rank == 0) print_error(st);
  if (st == STATUS_FAILED && c) leave_unwritten(c);
  if (c) pulse_stop(c);
  call_free(&a);
  comm_end(&c);
  return st;
}

static bool asks_for(int argc, char **argv, const char *word) {
  for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
    if (word && !strcmp(argv[i], word)) return true;
  return false;
}

static status unknown_command(const char *name) {
  const char *nearest = command_nearest(name);
  if (nearest)
    status_set(STATUS_BAD_INPUT, "unknown command '%s' (did you mean '%s'?)", name, nearest);
  else
    status_set(STATUS_BAD_INPUT, "unknown command '%s'", name);
  status_add_line("see 'mpistill --help'");
  return STATUS_BAD_INPUT;
}

static bool is_help(const char *word) {
  return !strcmp(word, "--help") || !strcmp(word, "-h");
}

/* What needs no command: one process says it. */
static status answer(int argc, char **argv) {
  if (argc < 2) return status_set(STATUS_BAD_INPUT, "a command is needed\nsee 'mpistill --help'");
  if (is_help(argv[1]))
    commands_help(stdout);
  else if (!strcmp(argv[1], "--version"))
    printf("mpistill %s\n", mpistill_version());
  else
    return unknown_command(argv[1]);
  return flush_results();
}

int main(int argc, char **argv) {
#ifdef __GLIBC__
  /* Arrays that a stage frees go back to the system, for the next stage and the node's other ranks. */
  mallopt(M_MMAP_THRESHOLD, 1 << 18);
#endif
  const command *k = argc > 1 ? command_find(argv[1]) : NULL;
  if (k && k->stops) stop_hold_signals();
  profile_start();
  long rank = launcher_rank();
  status st = STATUS_OK;
  bool help = k && (asks_for(argc - 2, argv + 2, "--help") || asks_for(argc - 2, argv + 2, "-h"));
  bool topic = k && asks_for(argc - 2, argv + 2, k->topic);
  bool ranks = k && k->mpi && !help && !topic;
  if (!ranks && rank > 0) return STATUS_OK;
  if (k && !help && !topic) return command_call(k, argc - 2, argv + 2, rank);
  if (!k) {
    st = answer(argc, argv);
  } else {
    if (help)
      command_help(k, stdout);
    else
      k->write_topic(stdout);
    st = flush_results();
  }
  if (st) print_error(st);
  return st;
}
