#include "comm/internal.h"

#include "base/file.h"
#include "base/mem.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 8192 }; /* what base/status keeps */

status comm_failed(int code, const char *call) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int n = 0;
  if (MPI_Error_string(code, text, &n) != MPI_SUCCESS) text[0] = '\0';
  return status_set(STATUS_FAILED, "%.*s failed: %s (code %d)", (int)strcspn(call, "("), call,
                    text[0] ? text : "no reason given", code);
}

/* The ranks of this host; MPISTILL_RANKS_PER_NODE cuts it into several "nodes". */
static status find_node(comm *c) {
  status st = STATUS_OK;
  MPI_Comm host = MPI_COMM_NULL;
  TRY_MPI(MPI_Comm_split_type(c->world, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &host));
  int host_rank, cut = launch_number("MPISTILL_RANKS_PER_NODE");
  TRY_MPI(MPI_Comm_rank(host, &host_rank));
  TRY_MPI(MPI_Comm_size(host, &c->host_size));
  TRY_MPI(MPI_Comm_split(host, cut ? host_rank / cut : 0, c->rank, &c->node));
  TRY_MPI(MPI_Comm_set_errhandler(c->node, MPI_ERRORS_RETURN));
  TRY_MPI(MPI_Comm_rank(c->node, &c->node_rank));
  TRY_MPI(MPI_Comm_size(c->node, &c->node_size));
  c->leader = c->rank;
  TRY_MPI(MPI_Bcast(&c->leader, 1, MPI_INT, 0, c->node));
  int leads = c->node_rank == 0;
  TRY_MPI(MPI_Allreduce(&leads, &c->nodes, 1, MPI_INT, MPI_SUM, c->world));
done:
  if (host != MPI_COMM_NULL) MPI_Comm_free(&host);
  return st;
}

static status join(comm *c, MPI_Comm parent) {
  status st = STATUS_OK;
  TRY_MPI(MPI_Comm_dup(parent, &c->world));
  TRY_MPI(MPI_Comm_set_errhandler(c->world, MPI_ERRORS_RETURN));
  TRY_MPI(MPI_Comm_rank(c->world, &c->rank));
  TRY_MPI(MPI_Comm_size(c->world, &c->size));
  TRY(find_node(c));
done:
  return st;
}

static const comm nobody = {
    .world = MPI_COMM_NULL, .node = MPI_COMM_NULL, .size = 1, .node_size = 1, .nodes = 1, .host_size = 1};

static void leave(comm *c) {
  if (c->node != MPI_COMM_NULL) MPI_Comm_free(&c->node);
  if (c->world != MPI_COMM_NULL) MPI_Comm_free(&c->world);
  if (c->finalize) MPI_Finalize();
  mem_free(c->window_folder);
}

/* Takes what *c holds, in any case. An allocation that fails on one rank is a failure of all. */
static status keep(comm **out, comm *c) {
  status st = comm_agree(c, mem_new(out, 1, sizeof **out));
  if (!st) {
    **out = *c;
    return st;
  }
  mem_free(*out);
  *out = NULL;
  leave(c);
  return st;
}

status comm_alone(comm **out) {
  comm c = nobody;
  return keep(out, &c);
}

status comm_from(comm **out, MPI_Comm parent) {
  comm c = nobody;
  *out = NULL;
  status st = join(&c, parent);
  if (!st) return keep(out, &c);
  leave(&c);
  return st;
}

status comm_split(comm **out, comm *c, int group) {
  status st = STATUS_OK;
  MPI_Comm part = MPI_COMM_NULL;
  if (c->world == MPI_COMM_NULL) return comm_alone(out);
  *out = NULL;
  TRY_MPI(MPI_Comm_split(c->world, group, c->rank, &part));
  TRY_MPI(MPI_Comm_set_errhandler(part, MPI_ERRORS_RETURN));
  TRY(comm_from(out, part));
done:
  if (part != MPI_COMM_NULL) MPI_Comm_free(&part);
  return st;
}

/* MPI itself, unless the program has started it already. */
static status start_mpi(comm *c) {
  status st = STATUS_OK;
  int running = 0, threads;
  TRY_MPI(MPI_Initialized(&running));
  if (!running) {
    /* Open MPI's shared file pointers, which nobody here uses, would leave files beside those of a killed
     * run. */
    setenv("OMPI_MCA_sharedfp", "^lockedfile", 0);
    const int started =
        MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &threads); /* is no waiting for others */
    TRY_MPI(started);
    c->finalize = true;
    if (threads < MPI_THREAD_FUNNELED) THROW(STATUS_FAILED, "this MPI cannot run in a program with threads");
  }
  TRY_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
done:
  return st;
}

status comm_start(comm **out) {
  status st = STATUS_OK;
  comm c = nobody;
  const launch l = launch_read(); /* before MPI_Init, which may change the environment */
  *out = NULL;
  TRY(launch_check(&l, 0));
  TRY(start_mpi(&c));
  TRY(join(&c, MPI_COMM_WORLD));
  TRY(launch_check(&l, c.size));
  return keep(out, &c);
done:
  leave(&c);
  return st;
}

void comm_end(comm **c) {
  if (!*c) return;
  leave(*c);
  mem_free(*c);
  *c = NULL;
}

int comm_rank(const comm *c) {
  return c->rank;
}

int comm_size(const comm *c) {
  return c->size;
}

int comm_node_rank(const comm *c) {
  return c->node_rank;
}

int comm_node_size(const comm *c) {
  return c->node_size;
}

int comm_nodes(const comm *c) {
  return c->nodes;
}

MPI_Comm comm_mpi(const comm *c) {
  return c->world;
}

/* On another host than rank 0, which had no such trouble: the message with the name of the host. */
static bool failed_alone(const comm *c, char *text, size_t bytes) {
  char host[128] = "";
  if (c->rank == 0 || c->host_size == c->size) return false;
  if (gethostname(host, sizeof host - 1)) strcpy(host, "?");
  snprintf(text, bytes,
           "%.*s\nso says rank %d on host %s, unlike rank 0; files must be where every host sees them",
           (int)(bytes - 256), status_message(), c->rank, host);
  return true;
}

status comm_adopt(comm *c, status code, int worst) {
  status st = STATUS_OK;
  char text[MESSAGE_BYTES] = "";
  if (c->size == 1) return code;
  if (c->rank == worst && (code == STATUS_STOPPED || !failed_alone(c, text, sizeof text)))
    strncpy(text, status_message(), sizeof text - 1);
  TRY_MPI(MPI_Bcast(text, MESSAGE_BYTES, MPI_CHAR, worst, c->world));
  st = status_set(code, "%s", text);
done:
  return st;
}

status comm_agree(comm *c, status mine) {
  status st = STATUS_OK;
  if (c->size == 1) return mine;
  /* Highest code first, then lowest rank. */
  int64_t key = (int64_t)mine << 32 | (int64_t)(INT_MAX - c->rank), worst;
  TRY_MPI(MPI_Allreduce(&key, &worst, 1, MPI_INT64_T, MPI_MAX, c->world));
  if (worst >> 32) st = comm_adopt(c, (status)(worst >> 32), INT_MAX - (int)(worst & INT_MAX));
done:
  return st;
}

status comm_barrier(comm *c) {
  status st = STATUS_OK;
  if (c->size > 1) TRY_MPI(MPI_Barrier(c->world));
done:
  return st;
}

static size_t least(size_t a, size_t b) {
  return a < b ? a : b;
}

status comm_broadcast(comm *c, int root, void *data, size_t bytes) {
  status st = STATUS_OK;
  if (c->size == 1) return STATUS_OK;
  for (size_t at = 0; at < bytes; at += COMM_PIECE)
    TRY_MPI(MPI_Bcast((char *)data + at, (int)least(bytes - at, COMM_PIECE), MPI_BYTE, root, c->world));
done:
  return st;
}

status comm_read_file(comm *c, const char *path, unsigned char **bytes, size_t *n) {
  status st = STATUS_OK;
  *bytes = NULL;
  *n = 0;
  TRY(comm_agree(c, c->rank == 0 ? file_read(path, bytes, n) : STATUS_OK));
  TRY(comm_broadcast(c, 0, n, sizeof *n));
  TRY(comm_agree(c, c->rank == 0 ? STATUS_OK : mem_new(bytes, *n + 1, 1)));
  TRY(comm_broadcast(c, 0, *bytes, *n));
done:
  if (st) {
    mem_free(*bytes);
    *bytes = NULL;
  }
  return st;
}

status comm_combine(comm *c, double *values, size_t n) {
  status st = STATUS_OK;
  for (size_t at = 0; c->size > 1 && at < n; at += COMM_PIECE)
    TRY_MPI(MPI_Allreduce(MPI_IN_PLACE, values + at, (int)least(n - at, COMM_PIECE), MPI_DOUBLE, MPI_SUM,
                          c->world));
  /* A sum with the zeros of other ranks turns -0 into 0: on one rank as well. */
  for (size_t i = 0; i < n; i++) values[i] += 0.0;
done:
  return st;
}

status comm_combine_counts(comm *c, int64_t *values, size_t n) {
  status st = STATUS_OK;
  for (size_t at = 0; c->size > 1 && at < n; at += COMM_PIECE)
    TRY_MPI(MPI_Allreduce(MPI_IN_PLACE, values + at, (int)least(n - at, COMM_PIECE), MPI_INT64_T, MPI_SUM,
                          c->world));
done:
  return st;
}

/* One piece of every rank's bytes, into its place among the whole blocks. */
static status gather_piece(comm *c, const char *in, char *out, size_t piece, size_t block) {
  status st = STATUS_OK;
  MPI_Datatype dense = MPI_DATATYPE_NULL, spread = MPI_DATATYPE_NULL;
  TRY_MPI(MPI_Type_contiguous((int)piece, MPI_BYTE, &dense));
  TRY_MPI(MPI_Type_create_resized(dense, 0, (MPI_Aint)block, &spread));
  TRY_MPI(MPI_Type_commit(&spread));
  TRY_MPI(MPI_Allgather(in, (int)piece, MPI_BYTE, out, 1, spread, c->world));
done:
  if (dense != MPI_DATATYPE_NULL) MPI_Type_free(&dense);
  if (spread != MPI_DATATYPE_NULL) MPI_Type_free(&spread);
  return st;
}

status comm_gather_pieces(comm *c, const void *in, void *out, size_t bytes, size_t most) {
  status st = STATUS_OK;
  for (size_t at = 0; at < bytes; at += most)
    TRY(gather_piece(c, (const char *)in + at, (char *)out + at, least(bytes - at, most), bytes));
done:
  return st;
}

status comm_gather_all(comm *c, const void *in, void *out, size_t bytes) {
  status st = STATUS_OK;
  /* Some algorithms count the bytes of all ranks in an int. */
  size_t most = COMM_PIECE / (size_t)c->size + 1;
  if (c->size == 1)
    memmove(out, in, bytes);
  else if (bytes > most)
    TRY(comm_gather_pieces(c, in, out, bytes, most));
  else
    TRY_MPI(MPI_Allgather(in, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE, c->world));
done:
  return st;
}
