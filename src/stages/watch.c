#include "stages/watch.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HOST_BYTES = 64 };

static json_t *unlike_hosts(const char *names, int n) {
  json_t *list = json_array();
  for (int i = 0; i < n; i++) {
    const char *name = names + (size_t)i * HOST_BYTES;
    bool new = !i || strcmp(name, name - HOST_BYTES);
    for (size_t k = 0; new &&k < json_array_size(list); k++)
      new = strcmp(name, json_string_value(json_array_get(list, k)));
    if (new) json_array_append_new(list, json_string(name));
  }
  return list;
}

json_t *watch_ranks(comm *c, int threads) {
  status st = STATUS_OK;
  json_t *out = NULL;
  char mine[HOST_BYTES] = {0}, *all = NULL;
  if (gethostname(mine, sizeof mine - 1)) strcpy(mine, "?");
  TRY(comm_agree(c, mem_new(&all, (size_t)comm_size(c), HOST_BYTES)));
  TRY(comm_gather_all(c, mine, all, HOST_BYTES));
  out = json_pack("{s:i, s:i, s:o}", "ranks", comm_size(c), "nodes", comm_nodes(c), "hosts",
                  unlike_hosts(all, comm_size(c)));
  if (out && threads) json_object_set_new(out, "threads", json_integer(threads));
done:
  mem_free(all);
  return out;
}

bool watch_due(watch *w) {
  double now = clock_seconds();
  if (!w->started_s) w->started_s = w->told_s = now;
  double every = (now - w->started_s) / 60;
  every = every < 5 ? 5 : every > 60 ? 60 : every;
  if (now - w->told_s < every) return false;
  w->told_s = now;
  return true;
}

/* ---- reading ---- */

/* The last line of each kind of event, of the stage that wrote last. */
typedef struct last_lines {
  json_t *start, *epoch, *progress, *checkpoint, *rollback;
} last_lines;

static void keep(json_t **place, json_t *line) {
  json_decref(*place);
  *place = json_incref(line);
}

static void forget(last_lines *l) {
  json_decref(l->start);
  json_decref(l->epoch);
  json_decref(l->progress);
  json_decref(l->checkpoint);
  json_decref(l->rollback);
  *l = (last_lines){0};
}

static void take_line(last_lines *l, json_t *line) {
  const char *event = json_string_value(json_object_get(line, "event"));
  if (!event) return;
  if (!strcmp(event, "start")) {
    forget(l);
    keep(&l->start, line);
  }
  if (!strcmp(event, "epoch")) keep(&l->epoch, line);
  if (!strcmp(event, "progress")) keep(&l->progress, line);
  if (!strcmp(event, "checkpoint") || !strcmp(event, "resume")) keep(&l->checkpoint, line);
  if (!strcmp(event, "rollback") || !strcmp(event, "resume")) keep(&l->rollback, line); /* both count them */
}

/* A line that is being written this moment is no JSON yet, and passed over. */
static void read_log(const char *path, last_lines *l) {
  char *text = NULL;
  size_t room = 0;
  FILE *f = fopen(path, "r");
  if (!f) return;
  while (getline(&text, &room, f) >= 0) {
    json_t *line = json_loads(text, 0, NULL);
    if (line) take_line(l, line);
    json_decref(line);
  }
  free(text);
  fclose(f);
}

/* Seconds since a file was written last, -1 if there is none. */
static double file_age(const char *path) {
  struct stat s;
  if (stat(path, &s)) return -1;
  double age = difftime(time(NULL), s.st_mtime);
  return age > 0 ? age : 0;
}

static void copy(json_t *out, const char *name, const json_t *from, const char *key) {
  json_t *found = json_object_get(from, key);
  if (found) json_object_set(out, name, found);
}

static void describe(json_t *out, const last_lines *l, double age) {
  const json_t *newest = l->progress;
  double epoch_at = json_number_value(json_object_get(l->epoch, "time_s")),
         told_at = json_number_value(json_object_get(l->progress, "time_s"));
  if (!newest || epoch_at > told_at) newest = l->epoch;
  copy(out, "ranks", l->start, "ranks");
  copy(out, "nodes", l->start, "nodes");
  copy(out, "threads", l->start, "threads");
  copy(out, "hosts", l->start, "hosts");
  copy(out, "epoch", newest, "epoch");
  copy(out, "epochs", json_object_get(l->start, "inputs"), "epochs");
  copy(out, "loss", json_object_get(l->epoch, "loss"), "total");
  copy(out, "rollbacks", l->rollback, "rollbacks");
  copy(out, "samples_per_s", newest, "samples_per_s");
  copy(out, "blocks_done", newest, "blocks_done");
  copy(out, "blocks", newest, "blocks");
  json_t *left = json_object_get(l->progress, "seconds_left");
  if (json_is_number(left)) {
    double s = json_number_value(left) - (epoch_at > told_at ? epoch_at - told_at : 0) - age;
    json_object_set_new(out, "seconds_left", json_real(s > 0 ? s : 0));
  }
  if (l->checkpoint)
    json_object_set_new(out, "last_checkpoint",
                        json_pack("{s:O, s:O}", "epoch", json_object_get(l->checkpoint, "epoch"), "batch",
                                  json_object_get(l->checkpoint, "batch")));
}

status watch_read(json_t *out, const char *folder) {
  status st = STATUS_OK;
  char *state_path = NULL, *log_path = NULL;
  json_t *state = NULL;
  last_lines l = {0};
  TRY(file_join(&state_path, folder, "state.json"));
  TRY(file_join(&log_path, folder, "run.jsonl"));
  state = json_load_file(state_path, 0, NULL);
  if (!json_is_object(state))
    THROW(STATUS_BAD_INPUT, "%s: no run there: state.json is missing or not readable", folder);
  json_object_set_new(out, "kind", json_string("run"));
  json_object_set_new(out, "folder", json_string(folder));
  json_object_update(out, state);
  double age = file_age(log_path), state_age = file_age(state_path);
  if (age < 0 || age > state_age) age = state_age;
  read_log(log_path, &l);
  describe(out, &l, age);
  json_object_set_new(out, "seconds_ago", json_real(age));
done:
  forget(&l);
  json_decref(state);
  mem_free(state_path);
  mem_free(log_path);
  return st;
}
