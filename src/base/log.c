#include "base/log.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/progress.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct run_log {
  FILE *file;
  char *path;
  double started_s;
  int reason; /* errno of the first write that failed, -1 for one without, 0 */
};

/* What a killed run has left of a line is cut off. What is not empty and no log stays as it is. */
static status clean(const char *path) {
  status st = STATUS_OK;
  FILE *f = file_size(path) > 0 ? fopen(path, "r+") : NULL; /* not a pipe */
  if (!f) return st;
  if (fgetc(f) != '{')
    THROW(STATUS_BAD_INPUT, "%s: exists and is no log of JSON lines; use another --log", path);
  long at = fseek(f, 0, SEEK_END) ? 0 : ftell(f), end = at;
  while (at > 0 && !fseek(f, at - 1, SEEK_SET) && fgetc(f) != '\n') at--;
  if (at >= 0 && at < end && ftruncate(fileno(f), at)) errno = 0; /* the line stays, no more than that */
done:
  fclose(f);
  return st;
}

status log_open(run_log **out, const char *path, bool active) {
  status st = STATUS_OK;
  run_log *l = NULL;
  *out = NULL;
  if (!path || !active) goto done;
  TRY(mem_new(&l, 1, sizeof *l));
  TRY(mem_string(&l->path, path));
  TRY(clean(path));
  l->file = fopen(path, "a");
  if (!l->file) THROW(STATUS_BAD_INPUT, "%s: the log cannot be opened: %s", path, strerror(errno));
  l->started_s = clock_seconds();
  *out = l;
  l = NULL;
done:
  if (l) mem_free(l->path);
  mem_free(l);
  return st;
}

static bool write_line(run_log *l, const char *event, json_t *object) {
  errno = 0;
  json_t *line = json_pack("{s:s, s:f}", "event", event, "time_s", clock_seconds() - l->started_s);
  bool good = line && (!object || !json_object_update(line, object)) &&
              !json_dumpf(line, l->file, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) &&
              fputc('\n', l->file) != EOF && !fflush(l->file);
  json_decref(line);
  return good;
}

void log_event(run_log *l, const char *event, json_t *object) {
  if (l && !write_line(l, event, object) && !l->reason) l->reason = errno ? errno : -1;
  json_decref(object);
}

static void drop(run_log **l) {
  mem_free((*l)->path);
  mem_free(*l);
  *l = NULL;
}

status log_close(run_log **l) {
  status st = STATUS_OK;
  if (!*l) return st;
  if (fclose((*l)->file) && !(*l)->reason) (*l)->reason = errno ? errno : -1;
  if ((*l)->reason)
    st = status_set(STATUS_FAILED, "%s: the log could not be written: %s", (*l)->path,
                    (*l)->reason > 0 ? strerror((*l)->reason) : "no memory");
  drop(l);
  return st;
}

void log_end(run_log **l, status st) {
  if (!*l) return;
  if (st)
    log_event(*l, st == STATUS_STOPPED ? "stopped" : "failed",
              json_pack("{s:s}", "message", status_message()));
  fclose((*l)->file);
  drop(l);
}

json_t *json_number(double x) {
  return isfinite(x) ? json_real(x) : json_null();
}
