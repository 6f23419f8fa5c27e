#include "comm/queue.h"

#include "comm/internal.h"

#include "base/mem.h"

enum { TAG_ASK = 1, TAG_ANSWER = 2 };

/* What a rank tells rank 0. */
typedef enum word { ASK, STOP, DONE } word;

typedef struct answer {
  int64_t group, item; /* group -1: nothing is left */
} answer;

/* One kind of work, on rank 0. */
typedef struct group {
  int64_t n_items, next, n_left; /* items before `next` are taken or done */
  double cost;
  const unsigned char *done;
  int n_workers;
  bool closed; /* to ranks that are not bound to it */
} group;

struct queue {
  MPI_Comm comm; /* MPI_COMM_NULL: one rank */
  int rank, size;

  /* rank 0 */
  int n_groups;
  group *groups;
  int *worker;             /* [size] the group of each rank, -1: none yet */
  bool *bound;             /* [size] it takes from no other */
  unsigned char *finished; /* the done flags of all groups, ours */
  int n_done;              /* ranks that have said DONE */
  int64_t n_taken;
  bool stopped;

  /* other ranks */
  MPI_Request asking, answering, stopping;
  answer answer;
  int words[3]; /* being sent, by word */
  bool told;    /* that nothing is left */
};

static double cost_left(const group *g) {
  return (double)g->n_left * g->cost;
}

/* The group where one more rank has most to do; with `empty`, among those without a rank. -1: none has
 * anything left. */
static int neediest(const queue *q, bool empty) {
  int best = -1;
  double most = -1;
  for (int i = 0; i < q->n_groups; i++) {
    const group *g = &q->groups[i];
    double share = cost_left(g) / (g->n_workers + 1);
    if (!g->n_left || g->closed || (empty && g->n_workers) || share <= most) continue;
    most = share;
    best = i;
  }
  return best;
}

/* First a rank for every group, then by cost per rank; neighbouring ranks get the same group. */
static void divide_ranks(queue *q) {
  for (int i = 0; i < q->size; i++) {
    if (q->bound[i]) continue;
    int g = neediest(q, true);
    if (g < 0) g = neediest(q, false);
    if (g >= 0) q->groups[g].n_workers++;
  }
  int group = 0, given = 0; /* ranks of that group so far */
  for (int rank = 0; rank < q->size; rank++) {
    if (q->bound[rank]) continue;
    while (group < q->n_groups && (q->groups[group].closed || given == q->groups[group].n_workers)) {
      group++;
      given = 0;
    }
    q->worker[rank] = group < q->n_groups ? group : -1;
    given++;
  }
}

static void bind_ranks(queue *q, const int *bound) {
  for (int rank = 0; bound && rank < q->size; rank++) {
    q->bound[rank] = bound[rank] >= 0;
    q->worker[rank] = bound[rank];
    if (q->bound[rank]) q->groups[bound[rank]].closed = true;
  }
}

static status copy_groups(queue *q, int n_groups, const int64_t *n_items, const double *costs,
                          const unsigned char *const *done, const int *bound) {
  status st = STATUS_OK;
  int64_t n = 0;
  for (int g = 0; g < n_groups; g++) n += n_items[g];
  TRY(mem_new(&q->groups, (size_t)n_groups, sizeof(group)));
  TRY(mem_new(&q->worker, (size_t)q->size, sizeof(int)));
  TRY(mem_new(&q->bound, (size_t)q->size, sizeof(bool)));
  TRY(mem_new(&q->finished, (size_t)n, 1));
  q->n_groups = n_groups;
  unsigned char *flags = q->finished;
  for (int g = 0; g < n_groups; g++) {
    q->groups[g] = (group){.n_items = n_items[g], .cost = costs[g] > 0 ? costs[g] : 1, .done = flags};
    for (int64_t i = 0; i < n_items[g]; i++) {
      *flags = done && done[g] && done[g][i];
      q->groups[g].n_left += !*flags++;
    }
  }
  bind_ranks(q, bound);
  divide_ranks(q);
done:
  return st;
}

static answer take(queue *q, int rank) {
  int at = q->worker[rank];
  if (q->stopped) return (answer){-1, 0};
  if (q->bound[rank] && !q->groups[at].n_left) return (answer){-1, 0};
  if (at < 0 || !q->groups[at].n_left) {
    int g = neediest(q, false);
    if (g < 0) return (answer){-1, 0};
    if (at >= 0) q->groups[at].n_workers--;
    q->groups[g].n_workers++;
    q->worker[rank] = at = g;
  }
  group *g = &q->groups[at];
  while (g->done[g->next]) g->next++;
  g->n_left--;
  q->n_taken++;
  return (answer){at, g->next++};
}

int64_t queue_taken(const queue *q) {
  return q->n_taken;
}

/* Asks for the next item; the answer arrives while the rank works on the last. */
static status ask(queue *q) {
  status st = STATUS_OK;
  TRY_MPI(MPI_Wait(&q->asking, MPI_STATUS_IGNORE));
  TRY_MPI(MPI_Irecv(&q->answer, 2, MPI_INT64_T, 0, TAG_ANSWER, q->comm, &q->answering));
  TRY_MPI(MPI_Isend(&q->words[ASK], 1, MPI_INT, 0, TAG_ASK, q->comm, &q->asking));
done:
  return st;
}

status queue_new(queue **out, comm *c, int n_groups, const int64_t *n_items, const double *costs,
                 const unsigned char *const *done, const int *bound) {
  status st = mem_new(out, 1, sizeof **out);
  queue *q = *out;
  if (!st) {
    *q = (queue){.comm = MPI_COMM_NULL, .rank = c->rank, .size = c->size, .words = {ASK, STOP, DONE}};
    q->asking = q->answering = q->stopping = MPI_REQUEST_NULL;
    if (c->rank == 0) st = copy_groups(q, n_groups, n_items, costs, done, bound);
  }
  TRY(comm_agree(c, st));
  if (c->size > 1) {
    TRY_MPI(MPI_Comm_dup(c->world, &q->comm));
    TRY_MPI(MPI_Comm_set_errhandler(q->comm, MPI_ERRORS_RETURN));
    if (c->rank > 0) TRY(ask(q));
  }
done:
  if (st) queue_free(out);
  return st;
}

static void drop(MPI_Request *request) {
  if (*request == MPI_REQUEST_NULL) return;
  MPI_Cancel(request);
  MPI_Request_free(request);
}

void queue_free(queue **out) {
  queue *q = *out;
  if (!q) return;
  if (q->comm != MPI_COMM_NULL) {
    drop(&q->asking);
    drop(&q->answering);
    drop(&q->stopping);
    pulse_wait(true);
    MPI_Comm_free(&q->comm);
    pulse_wait(false);
  }
  mem_free(q->groups);
  mem_free(q->worker);
  mem_free(q->bound);
  mem_free(q->finished);
  mem_free(q);
  *out = NULL;
}

/* Receives one message and answers it. */
static status hear(queue *q, int rank) {
  status st = STATUS_OK;
  int said;
  TRY_MPI(MPI_Recv(&said, 1, MPI_INT, rank, TAG_ASK, q->comm, MPI_STATUS_IGNORE));
  if (said == STOP) q->stopped = true;
  if (said == DONE) q->n_done++;
  if (said == ASK) {
    answer a = take(q, rank);
    TRY_MPI(MPI_Send(&a, 2, MPI_INT64_T, rank, TAG_ANSWER, q->comm));
  }
done:
  return st;
}

status queue_serve(queue *q) {
  status st = STATUS_OK;
  int found = 1;
  MPI_Status from;
  if (q->rank > 0 || q->size == 1) return STATUS_OK;
  while (found) {
    TRY_MPI(MPI_Iprobe(MPI_ANY_SOURCE, TAG_ASK, q->comm, &found, &from));
    if (found) TRY(hear(q, from.MPI_SOURCE));
  }
done:
  return st;
}

/* The answer to what this rank has asked; it asks again unless there is no reason to. */
static status next_answer(queue *q, answer *a) {
  status st = STATUS_OK;
  *a = (answer){-1, 0};
  if (q->told) return STATUS_OK;
  TRY_MPI(MPI_Wait(&q->answering, MPI_STATUS_IGNORE));
  *a = q->answer;
  if (a->group < 0)
    q->told = true;
  else
    TRY(ask(q));
done:
  return st;
}

status queue_next(queue *q, int *group, int64_t *item) {
  status st = STATUS_OK;
  answer a = {-1, 0};
  TRY(queue_serve(q));
  if (q->rank == 0)
    a = take(q, 0);
  else if (!q->stopped)
    TRY(next_answer(q, &a));
done:
  *group = st ? -1 : (int)a.group;
  *item = a.item;
  return st;
}

void queue_stop(queue *q) {
  if (q->stopped) return;
  q->stopped = true;
  /* An error here is one of the connection: queue_finish meets it as well. */
  if (q->rank > 0) MPI_Isend(&q->words[STOP], 1, MPI_INT, 0, TAG_ASK, q->comm, &q->stopping);
}

/* Waits for the last answer, which may be an item that nobody will do any more, and says so. */
static status say_done(queue *q) {
  status st = STATUS_OK;
  TRY_MPI(MPI_Wait(&q->answering, MPI_STATUS_IGNORE));
  TRY_MPI(MPI_Wait(&q->asking, MPI_STATUS_IGNORE));
  TRY_MPI(MPI_Wait(&q->stopping, MPI_STATUS_IGNORE));
  TRY_MPI(MPI_Send(&q->words[DONE], 1, MPI_INT, 0, TAG_ASK, q->comm));
done:
  return st;
}

status queue_finish(queue *q) {
  status st = STATUS_OK;
  MPI_Status from;
  if (q->size == 1) return STATUS_OK;
  if (q->rank > 0) TRY(say_done(q));
  while (q->rank == 0 && q->n_done < q->size - 1) {
    TRY_MPI(MPI_Probe(MPI_ANY_SOURCE, TAG_ASK, q->comm, &from));
    TRY(hear(q, from.MPI_SOURCE));
  }
  TRY_MPI(MPI_Barrier(q->comm));
done:
  return st;
}
