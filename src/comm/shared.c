#include "comm/internal.h"

#include "base/mem.h"
#include "base/profile.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { LINE = 64, SPINS = 2000, ROOM = 4 << 20, FOLDER_BYTES = 4096 };

/* A barrier in the shared memory itself: several times faster than a collective call. */
typedef struct gate {
  _Alignas(LINE) atomic_int arrived;
  _Alignas(LINE) atomic_uint phase;
} gate;

struct shared {
  comm *c;
  MPI_Win win; /* MPI_WIN_NULL: memory of this rank alone */
  bool is_shared;
  int spins; /* looks at the gate before this rank gives its core away; none where ranks share cores */
  gate *gate;
  void *data, *own;
};

/* The folder where Open MPI puts the file behind a window, as all of its settings say. */
static status find_folder(char **out) {
  status st = STATUS_OK;
  int provided, index, count;
  char *text = NULL;
  MPI_T_cvar_handle handle;
  TRY(mem_new(&text, FOLDER_BYTES + 1, 1));
  TRY_MPI(MPI_T_init_thread(MPI_THREAD_SINGLE, &provided));
  if (MPI_T_cvar_get_index("osc_sm_backing_directory", &index) == MPI_SUCCESS &&
      MPI_T_cvar_handle_alloc(index, NULL, &handle, &count) == MPI_SUCCESS) {
    if (count <= FOLDER_BYTES) MPI_T_cvar_read(handle, text);
    MPI_T_cvar_handle_free(&handle);
  }
  MPI_T_finalize();
  TRY(mem_string(out, text[0] == '/' ? text : "/dev/shm"));
done:
  mem_free(text);
  return st;
}

static bool folder_has_room(const char *folder, size_t bytes) {
  struct statvfs fs;
  return !statvfs(folder, &fs) && (double)fs.f_bavail * (double)fs.f_frsize >= (double)bytes + ROOM;
}

bool shared_is_wanted(void) {
  const char *wanted = getenv("MPISTILL_SHARED_MEMORY");
  return !wanted || strcmp(wanted, "0");
}

/* MPI_T is slow to start: it loads all of Open MPI's components, one of which (PSM) sleeps for 0.2 s. So it
 * is asked, once, where the usual folder has no room; a setting of mpirun is in the environment. */
static bool has_room(comm *c, size_t bytes) {
  const char *set = getenv("OMPI_MCA_osc_sm_backing_directory");
  if (bytes > PTRDIFF_MAX - sizeof(gate) - LINE || !shared_is_wanted()) return false;
  if (!c->window_folder) {
    if (folder_has_room(set ? set : "/dev/shm", bytes)) return true;
    if (find_folder(&c->window_folder)) return false;
  }
  return folder_has_room(c->window_folder, bytes);
}

/* The same answer on all ranks of the node: no, if one says no. */
static status agree_node(comm *c, bool mine, bool *all) {
  status st = STATUS_OK;
  int yes = mine, every = 0;
  TRY_MPI(MPI_Allreduce(&yes, &every, 1, MPI_INT, MPI_MIN, c->node));
  *all = every;
done:
  return st;
}

/* Rank 0 of the node gives all the memory; the others ask where it lies. A window that only some ranks got is
 * left alone: freeing is collective. */
static status open_window(shared *s, size_t bytes) {
  status st = STATUS_OK;
  comm *c = s->c;
  char *base = NULL;
  MPI_Aint size, mine = c->node_rank == 0 ? (MPI_Aint)bytes : 0;
  int unit;
  pulse_wait(true);
  bool good = MPI_Win_allocate_shared(mine, 1, MPI_INFO_NULL, c->node, &base, &s->win) == MPI_SUCCESS &&
              MPI_Win_set_errhandler(s->win, MPI_ERRORS_RETURN) == MPI_SUCCESS &&
              MPI_Win_shared_query(s->win, 0, &size, &unit, &base) == MPI_SUCCESS && (size_t)size >= bytes &&
              MPI_Win_lock_all(MPI_MODE_NOCHECK, s->win) == MPI_SUCCESS;
  pulse_wait(false);
  TRY(agree_node(c, good, &good));
  if (good) {
    /* Mappings begin at a page, so that all ranks find the same place. */
    s->gate = (gate *)(((uintptr_t)base + LINE - 1) / LINE * LINE);
    s->data = s->gate + 1;
  } else {
    s->win = MPI_WIN_NULL;
  }
done:
  return st;
}

/* Each rank clears its part, and so gets the pages of that part near to it. Written pages also count as used:
 * the next window's look at the free space sees them. */
static void clear(shared *s, size_t bytes) {
  size_t n = (size_t)s->c->node_size, i = (size_t)s->c->node_rank;
  size_t from = bytes / n * i, to = i + 1 == n ? bytes : bytes / n * (i + 1);
  memset((char *)s->data + from, 0, to - from);
}

status shared_window(shared **out, comm *c, size_t bytes) {
  status st = STATUS_OK;
  shared *s = NULL;
  *out = NULL;
  if (c->node_size == 1) return STATUS_OK;
  bool fits = false;
  st = mem_new(&s, 1, sizeof *s);
  bool ready = !st && has_room(c, bytes);
  st = STATUS_OK; /* no memory for a few bytes: the others must know before this rank's next allocation says
                     so */
  TRY(agree_node(c, ready, &fits));
  if (!fits) goto done;
  *s = (shared){
      .c = c, .win = MPI_WIN_NULL, .spins = c->host_size <= sysconf(_SC_NPROCESSORS_ONLN) ? SPINS : 0};
  TRY(open_window(s, bytes + sizeof(gate) + LINE));
  if (s->win == MPI_WIN_NULL) goto done;
  s->is_shared = true;
  if (c->node_rank == 0) memset(s->gate, 0, sizeof *s->gate);
  clear(s, bytes);
  TRY_MPI(MPI_Barrier(c->node));
  *out = s;
  s = NULL;
done:
  mem_free(s);
  return st;
}

static status own_memory(shared **out, comm *c, size_t bytes) {
  status st = mem_new(out, 1, sizeof **out);
  if (st) return st;
  **out = (shared){.c = c, .win = MPI_WIN_NULL, .is_shared = c->node_size == 1};
  st = mem_new(&(*out)->own, bytes, 1);
  (*out)->data = (*out)->own;
  return st;
}

status shared_new(shared **out, comm *c, size_t bytes) {
  status st = STATUS_OK;
  *out = NULL;
  TRY(comm_agree(c, shared_window(out, c, bytes)));
  TRY(comm_agree(c, *out ? STATUS_OK : own_memory(out, c, bytes)));
done:
  if (st) shared_free(out);
  return st;
}

void *shared_data(const shared *s) {
  return s->data;
}

bool shared_is_shared(const shared *s) {
  return s->is_shared;
}

/* A rank that waits long gives its core away, and lets MPI move what it still has to send: another node may
 * wait for that. */
static status wait_for_phase(shared *s, unsigned old) {
  status st = STATUS_OK;
  const profile_phase before = profile_enter(PROFILE_WAIT);
  for (int i = 0; i < s->spins; i++) {
    if (atomic_load_explicit(&s->gate->phase, memory_order_acquire) != old) goto passed;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }
  pulse_wait(true);
  for (int i = 0, found; atomic_load_explicit(&s->gate->phase, memory_order_acquire) == old;
       i = (i + 1) % 16) {
    if (i == 0) TRY_MPI(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, s->c->node, &found, MPI_STATUS_IGNORE));
    sched_yield();
  }
done:
  pulse_wait(false);
passed:
  profile_enter(before);
  return st;
}

status shared_sync(shared *s) {
  status st = STATUS_OK;
  if (s->win == MPI_WIN_NULL) {
    if (s->c->node_size > 1) TRY_MPI(MPI_Barrier(s->c->node));
    return STATUS_OK;
  }
  TRY_MPI(MPI_Win_sync(s->win));
  unsigned phase = atomic_load_explicit(&s->gate->phase, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&s->gate->arrived, 1, memory_order_acq_rel) + 1 == s->c->node_size) {
    atomic_store_explicit(&s->gate->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&s->gate->phase, phase + 1, memory_order_release);
  } else {
    TRY(wait_for_phase(s, phase));
  }
  TRY_MPI(MPI_Win_sync(s->win));
done:
  return st;
}

void shared_free(shared **s) {
  if (!*s) return;
  if ((*s)->win != MPI_WIN_NULL) {
    pulse_wait(true);
    MPI_Win_unlock_all((*s)->win);
    MPI_Win_free(&(*s)->win);
    pulse_wait(false);
  }
  mem_free((*s)->own);
  mem_free(*s);
  *s = NULL;
}
