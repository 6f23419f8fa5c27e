#include "comm/stream.h"

#include "comm/internal.h"

#include "base/mem.h"

#include <limits.h>

enum { TAG_QUESTION = 1, TAG_GREETING = 2, TAG_ANSWER = 3, BUFFERS = 3, END_OF_QUESTIONS = -1 };

typedef struct room { /* of one answer on its way */
  char *bytes;
  int n_sends;
  MPI_Request *sends; /* [clients] */
} room;

struct stream {
  MPI_Comm comm; /* MPI_COMM_NULL: one rank, no servers */
  int rank, clients, servers;
  bool dismissed;
  int now; /* the room taken last */
  room rooms[BUFFERS];
};

static status make_rooms(stream *s, size_t bytes) {
  status st = STATUS_OK;
  for (int i = 0; i < BUFFERS && s->rank >= s->clients; i++) {
    TRY(mem_new(&s->rooms[i].bytes, bytes, 1));
    TRY(mem_new(&s->rooms[i].sends, (size_t)s->clients, sizeof(MPI_Request)));
  }
done:
  return st;
}

status stream_new(stream **out, comm *c, int servers, size_t bytes) {
  status st = mem_new(out, 1, sizeof **out);
  stream *s = *out;
  if (!st) {
    *s = (stream){.comm = MPI_COMM_NULL, .rank = c->rank, .clients = c->size - servers, .servers = servers};
    st = bytes > INT_MAX ? status_set(STATUS_BAD_INPUT,
                                      "live teachers: the labels of one batch take %zu bytes, which is more "
                                      "than a message holds; take a smaller --batch",
                                      bytes)
                         : make_rooms(s, bytes);
  }
  TRY(comm_agree(c, st));
  TRY_MPI(MPI_Comm_dup(c->world, &s->comm));
  TRY_MPI(MPI_Comm_set_errhandler(s->comm, MPI_ERRORS_RETURN));
done:
  if (st) stream_free(out);
  return st;
}

static status wait_room(room *r) {
  status st = STATUS_OK;
  TRY_MPI(MPI_Waitall(r->n_sends, r->sends, MPI_STATUSES_IGNORE));
done:
  r->n_sends = 0;
  return st;
}

void stream_free(stream **out) {
  stream *s = *out;
  if (!s) return;
  for (int i = 0; i < BUFFERS; i++) {
    if (s->rooms[i].n_sends) wait_room(&s->rooms[i]);
    mem_free(s->rooms[i].bytes);
    mem_free(s->rooms[i].sends);
  }
  if (s->comm != MPI_COMM_NULL) {
    pulse_wait(true);
    MPI_Comm_free(&s->comm);
    pulse_wait(false);
  }
  mem_free(s);
  *out = NULL;
}

/* ---- clients ---- */

status stream_greet(stream *s, const int64_t words[STREAM_WORDS]) {
  status st = STATUS_OK;
  for (int i = 0; i < s->servers; i++)
    TRY_MPI(MPI_Send(words, STREAM_WORDS, MPI_INT64_T, s->clients + i, TAG_GREETING, s->comm));
done:
  return st;
}

status stream_ask(stream *s, int server, const int64_t question[STREAM_WORDS]) {
  status st = STATUS_OK;
  if (s->rank > 0) return st;
  TRY_MPI(MPI_Send(question, STREAM_WORDS, MPI_INT64_T, s->clients + server, TAG_QUESTION, s->comm));
done:
  return st;
}

status stream_dismiss(stream *s) {
  status st = STATUS_OK;
  const int64_t end[STREAM_WORDS] = {END_OF_QUESTIONS};
  if (s->dismissed) return st;
  s->dismissed = true;
  for (int i = 0; i < s->servers; i++) TRY(stream_ask(s, i, end));
done:
  return st;
}

status stream_take(stream *s, int server, void *to, size_t bytes) {
  status st = STATUS_OK;
  TRY_MPI(MPI_Recv(to, (int)bytes, MPI_BYTE, s->clients + server, TAG_ANSWER, s->comm, MPI_STATUS_IGNORE));
done:
  return st;
}

/* ---- servers ---- */

status stream_hear(stream *s, int64_t question[STREAM_WORDS], bool *more) {
  status st = STATUS_OK;
  *more = false;
  TRY_MPI(MPI_Recv(question, STREAM_WORDS, MPI_INT64_T, 0, TAG_QUESTION, s->comm, MPI_STATUS_IGNORE));
  *more = question[0] != END_OF_QUESTIONS;
done:
  return st;
}

status stream_greetings(stream *s, int64_t (*greetings)[STREAM_WORDS]) {
  status st = STATUS_OK;
  for (int i = 0; i < s->clients; i++)
    TRY_MPI(MPI_Recv(greetings[i], STREAM_WORDS, MPI_INT64_T, i, TAG_GREETING, s->comm, MPI_STATUS_IGNORE));
done:
  return st;
}

status stream_buffer(stream *s, void **out) {
  s->now = (s->now + 1) % BUFFERS;
  *out = s->rooms[s->now].bytes;
  return wait_room(&s->rooms[s->now]);
}

status stream_send(stream *s, int client, const void *piece, size_t bytes) {
  status st = STATUS_OK;
  room *r = &s->rooms[s->now];
  TRY_MPI(MPI_Isend(piece, (int)bytes, MPI_BYTE, client, TAG_ANSWER, s->comm, &r->sends[r->n_sends]));
  r->n_sends++;
done:
  return st;
}
