#include "store/column.h"

#include "base/mem.h"
#include "base/profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 1 << 26, AHEAD = 64 };

status column_open(column *q, comm *c, const char *path, const char *object, int type, int rank,
                   const int64_t *dims) {
  status st = STATUS_OK;
  *q = (column){.c = c};
  TRY(h5_open(&q->file, path));
  TRY(h5_array_open(&q->a, q->file, path, object));
  if (q->a.type != type || q->a.rank != rank || memcmp(q->a.dims, dims, (size_t)rank * sizeof *dims))
    THROW(STATUS_BAD_INPUT, "%s: its type or shape has changed since the file was opened", q->a.label);
done:
  st = comm_agree(c, st);
  if (st) column_close(q);
  return st;
}

void column_close(column *q) {
  h5_array_close(&q->a);
  h5_close(&q->file);
  shared_free(&q->memory);
  if (q->ahead) shared_free(&q->ahead->memory);
  mem_free(q->ahead);
  *q = (column){0};
}

size_t column_bytes(const column *q) {
  return (size_t)q->a.dims[0] * q->a.row_bytes;
}

/* The number behind `key` in a file of lines "key number", or of a file that is one number; `absent`
 * otherwise. */
static uint64_t read_number(const char *path, const char *key, uint64_t absent) {
  char line[512];
  uint64_t value = absent, found;
  FILE *f = fopen(path, "r");
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), "%" SCNu64, &found) == 1)
      value = found;
  if (f) fclose(f);
  return value;
}

/* What a batch system grants is in the control group, not in /proc/meminfo. */
static uint64_t group_free(void) {
  char line[512], path[600];
  uint64_t most = UINT64_MAX, used = 0;
  FILE *f = fopen("/proc/self/cgroup", "r");
  while (f && fgets(line, sizeof line, f)) {
    if (strncmp(line, "0::", 3)) continue;
    line[strcspn(line, "\n")] = '\0';
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", line + 3);
    most = read_number(path, "", UINT64_MAX);
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", line + 3);
    used = read_number(path, "", 0);
  }
  if (f) fclose(f);
  return most > used ? most - used : 0;
}

static uint64_t memory_free(void) {
  uint64_t system = read_number("/proc/meminfo", "MemAvailable:", 0) * 1024, group = group_free();
  return system < group ? system : group;
}

/* What one array may take of a node: MPISTILL_DATA_MEMORY in MiB, else half of what is free. */
static size_t usual_limit(void) {
  const char *text = getenv("MPISTILL_DATA_MEMORY");
  char *end = NULL;
  const double mib = text ? strtod(text, &end) : -1;
  return end && end > text && !*end && mib >= 0 && mib < 1e12 ? (size_t)(mib * (1 << 20))
                                                              : (size_t)(memory_free() / 2);
}

/* All ranks decide alike: it fits if it fits on every node. */
static status fits_everywhere(const column *q, size_t limit, bool *fits) {
  status st = STATUS_OK;
  bool *all = NULL, mine = column_bytes(q) <= (limit ? limit : usual_limit());
  st = comm_agree(q->c, mem_new(&all, (size_t)comm_size(q->c), sizeof *all));
  TRY(st);
  TRY(comm_gather_all(q->c, &mine, all, sizeof mine));
  *fits = true;
  for (int i = 0; i < comm_size(q->c); i++) *fits = *fits && all[i];
done:
  mem_free(all);
  return st;
}

/* Rows [first, first + n) to `to`, cut among the ranks that share the memory. */
static status read_share(const column *q, const shared *memory, int64_t first, int64_t n, unsigned char *to) {
  int64_t size = comm_node_size(q->c), rank = comm_node_rank(q->c);
  bool whole = !shared_is_shared(memory);
  int64_t row = whole ? 0 : n * rank / size, end = whole ? n : n * (rank + 1) / size;
  int64_t step = q->a.row_bytes < PIECE_BYTES ? PIECE_BYTES / (int64_t)q->a.row_bytes : 1;
  for (; row < end; row += step) {
    status st = h5_array_read(&q->a, first + row, end - row < step ? end - row : step,
                              to + (size_t)row * q->a.row_bytes);
    if (st) return st;
  }
  return STATUS_OK;
}

status column_load(column *q, size_t limit) {
  status st = STATUS_OK;
  bool fits = false;
  if (q->rows) return STATUS_OK;
  const profile_phase before = profile_enter(PROFILE_READ);
  TRY(fits_everywhere(q, limit, &fits));
  if (!fits) goto done;
  TRY(comm_agree(q->c, shared_new(&q->memory, q->c, column_bytes(q))));
  TRY(comm_agree(q->c, read_share(q, q->memory, 0, q->a.dims[0], shared_data(q->memory))));
  TRY(shared_sync(q->memory));
  q->rows = shared_data(q->memory);
done:
  profile_enter(before);
  return st;
}

status column_make_windows(column *q, int64_t most) {
  status st = STATUS_OK;
  column_windows *w = NULL;
  if (q->rows || q->ahead) return st;
  TRY(comm_agree(q->c, mem_new(&w, 1, sizeof *w)));
  TRY(comm_agree(q->c, shared_new(&w->memory, q->c, 2 * (size_t)most * q->a.row_bytes)));
  w->most = most;
  q->ahead = w;
  w = NULL;
done:
  mem_free(w);
  return st;
}

status column_fill_window(column *q, int slot, int64_t first, int64_t n) {
  const column_windows *w = q->ahead;
  return read_share(q, w->memory, first, n,
                    (unsigned char *)shared_data(w->memory) + (size_t)(slot * w->most) * q->a.row_bytes);
}

typedef struct wanted {
  int64_t id, at;
} wanted;

static int compare(const void *a, const void *b) {
  const wanted *x = a, *y = b;
  return x->id != y->id ? (x->id < y->id ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

/* Sorted, each row once, neighbours in one read. */
static status gather(const column *q, const int64_t *ids, int64_t n, column_view *v) {
  status st = STATUS_OK;
  wanted *order = NULL;
  unsigned char *scratch = NULL;
  int64_t *slots = NULL, used = 0;
  TRY(mem_new(&order, (size_t)n, sizeof *order));
  TRY(mem_new(&slots, (size_t)n, sizeof *slots));
  TRY(mem_new(&scratch, (size_t)n, q->a.row_bytes));
  for (int64_t i = 0; i < n; i++) order[i] = (wanted){.id = ids[i], .at = i};
  qsort(order, (size_t)n, sizeof *order, compare);
  for (int64_t i = 0, next; i < n; i = next) {
    int64_t first = order[i].id, last = first;
    for (next = i; next < n && order[next].id <= last + 1; next++) {
      last = order[next].id;
      slots[order[next].at] = used + last - first;
    }
    TRY(h5_array_read(&q->a, first, last - first + 1, scratch + (size_t)used * q->a.row_bytes));
    used += last - first + 1;
  }
done:
  mem_free(order);
  v->rows = scratch;
  v->slots = slots;
  v->scratch = scratch;
  v->order = slots;
  return st;
}

/* The place of a row in the windows, -1: it is in none. */
static int64_t place_ahead(const column_windows *w, int64_t id) {
  for (int s = 0; s < 2; s++)
    if (id >= w->first[s] && id < w->first[s] + w->rows[s]) return s * w->most + id - w->first[s];
  return -1;
}

/* *all: every row is in a window, and v shows them there. */
static status view_windows(const column *q, const int64_t *ids, int64_t n, column_view *v, bool *all) {
  int64_t *slots = NULL;
  *all = q->ahead;
  for (int64_t i = 0; i < n && *all; i++) *all = place_ahead(q->ahead, ids[i]) >= 0;
  if (!*all) return STATUS_OK;
  status st = mem_new(&slots, (size_t)n, sizeof *slots);
  for (int64_t i = 0; i < n && !st; i++) slots[i] = place_ahead(q->ahead, ids[i]);
  v->rows = shared_data(q->ahead->memory);
  v->slots = v->order = slots;
  return st;
}

status column_view_rows(const column *q, const int64_t *ids, int64_t n, column_view *v) {
  *v = (column_view){.rows = q->rows, .slots = ids, .row_bytes = q->a.row_bytes};
  for (int64_t i = 0; i < n; i++) {
    if (ids[i] < 0 || ids[i] >= q->a.dims[0])
      return status_set(STATUS_FAILED, "%s: row %" PRId64 " was asked for; there are %" PRId64, q->a.label,
                        ids[i], q->a.dims[0]);
    if (q->rows && i < AHEAD)
      __builtin_prefetch(column_row(v, i)); /* shuffled rows: each would be waited for */
  }
  if (q->rows) return STATUS_OK;
  bool ahead;
  status st = view_windows(q, ids, n, v, &ahead);
  return st || ahead ? st : gather(q, ids, n, v);
}

void column_unview(column_view *v) {
  mem_free(v->scratch);
  mem_free(v->order);
}
