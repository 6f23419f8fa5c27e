#include "base/profile.h"

#include "base/file.h"
#include "base/mem.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_THREADS = 1024, MOST_OPERATORS = 128 };

typedef struct operator_time {
  const char *name;
  double s[2]; /* forward, backward */
  int64_t calls[2];
} operator_time;

typedef struct slot { /* of a thread */
  profile_phase now;
  double since, s[PROFILE_PHASES];
  int n;
  operator_time operators[MOST_OPERATORS];
} slot;

bool profile_is_on;

static double started_s;
static slot *slots[MOST_THREADS];
static int n_slots; /* the first is the thread's that began */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local slot *mine;

/* NULL: the thread's time is not kept, as there is no room for it. */
static slot *my_slot(void) {
  if (mine) return mine;
  pthread_mutex_lock(&mutex);
  if (n_slots < MOST_THREADS && !mem_new(&mine, 1, sizeof *mine)) {
    mine->since = clock_seconds();
    slots[n_slots++] = mine;
  }
  pthread_mutex_unlock(&mutex);
  return mine;
}

void profile_start(void) {
  const char *folder = getenv("MPISTILL_PROFILE");
  if (!folder || !*folder) return;
  started_s = clock_seconds();
  profile_is_on = my_slot();
}

profile_phase profile_switch(profile_phase to) {
  slot *t = my_slot();
  if (!t) return PROFILE_OTHER;
  const profile_phase before = t->now;
  const double now = clock_seconds();
  t->s[before] += now - t->since;
  t->since = now;
  t->now = to;
  return before;
}

static operator_time *find(slot *t, const char *name) {
  for (int i = 0; i < t->n; i++)
    if (!strcmp(t->operators[i].name, name)) return &t->operators[i];
  if (t->n == MOST_OPERATORS) return NULL;
  t->operators[t->n].name = name;
  return &t->operators[t->n++];
}

void profile_add(const char *what, bool backward, double seconds) {
  slot *t = my_slot();
  operator_time *o = t ? find(t, what) : NULL;
  if (!o) return;
  o->s[backward] += seconds;
  o->calls[backward]++;
}

/* ---- the file ---- */

/* A thread that was started for a piece of work waits before and after it. */
static void add_phases(double s[PROFILE_PHASES], double now) {
  for (int i = 0; i < n_slots; i++) {
    slot *t = slots[i];
    double counted = 0;
    t->s[t->now] += now - t->since;
    t->since = now;
    for (int p = i ? PROFILE_READ : PROFILE_OTHER; p < PROFILE_PHASES; p++) {
      s[p] += t->s[p];
      counted += t->s[p];
    }
    if (i) s[PROFILE_WAIT] += now - started_s - counted;
  }
}

static json_t *phases_json(const double s[PROFILE_PHASES]) {
  static const char *const names[] = {"other",  "read",   "forward", "backward",
                                      "reduce", "update", "write",   "wait"};
  json_t *all = json_object();
  for (int p = 0; p < PROFILE_PHASES; p++) json_object_set_new(all, names[p], json_real(s[p]));
  return all;
}

static json_t *operators_json(void) {
  json_t *all = json_array();
  for (int i = 0; i < n_slots; i++)
    for (int k = 0; k < slots[i]->n; k++) {
      const operator_time *o = &slots[i]->operators[k];
      json_array_append_new(all, json_pack("{s:s, s:f, s:f, s:I, s:I}", "name", o->name, "forward", o->s[0],
                                           "backward", o->s[1], "calls", (json_int_t)o->calls[0],
                                           "backward_calls", (json_int_t)o->calls[1]));
    }
  return all;
}

status profile_check(void) {
  return profile_is_on ? file_make_folder(getenv("MPISTILL_PROFILE")) : STATUS_OK;
}

status profile_write(int rank) {
  status st = STATUS_OK;
  char *path = NULL, *text = NULL;
  json_t *all = NULL;
  double s[PROFILE_PHASES] = {0}, now = clock_seconds();
  if (!profile_is_on) return st;
  add_phases(s, now);
  all = json_pack("{s:i, s:i, s:f, s:o, s:o}", "rank", rank, "threads", n_slots, "seconds", now - started_s,
                  "phases", phases_json(s), "operators", operators_json());
  text = json_dumps(all, JSON_COMPACT);
  if (!text) THROW(STATUS_FAILED, "out of memory: the profile could not be written");
  TRY(mem_format(&path, "%s/%d.json", getenv("MPISTILL_PROFILE"), rank));
  TRY(file_write(path, text, strlen(text)));
done:
  json_decref(all);
  free(text);
  mem_free(path);
  return st;
}
