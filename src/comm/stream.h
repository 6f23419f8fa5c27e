/* Ranks that answer, and ranks that ask: questions go to the last ranks of a communicator, answers come back
 * in pieces, one for each of the others that wants one.
 *
 *     asking ranks (0 to clients - 1)                 answering ranks (the last `servers`)
 *     stream_greet(s, mine)         all of them
 *     rank 0: stream_ask(s, server, question)   -->   stream_hear(s, question)
 *     stream_take(s, server, to, bytes)         <--   stream_buffer, fill, stream_send for each client
 *     rank 0: stream_dismiss(s)                 -->   stream_hear: *more = false
 *
 * Answers of a server to a client come in the order of the questions. Only rank 0 asks, as far ahead as it
 * likes up to STREAM_AHEAD questions to a server; every client has to take its pieces of all of them, in the
 * same order. */
#ifndef MPISTILL_COMM_STREAM_H
#define MPISTILL_COMM_STREAM_H

#include "comm/comm.h"

enum { STREAM_WORDS = 2, STREAM_AHEAD = 4 };

typedef struct stream stream;

/* Collective over c. bytes: of the largest answer, to all clients together. */
status stream_new(stream **out, comm *c, int servers, size_t bytes);
void stream_free(stream **s); /* collective */

/* Clients. Before the first question: what every server is to know of this client. */
status stream_greet(stream *s, const int64_t words[STREAM_WORDS]);
/* Rank 0 alone; nothing on other clients. server: from 0 on. */
status stream_ask(stream *s, int server, const int64_t question[STREAM_WORDS]);
status stream_dismiss(stream *s);
/* The next piece of that server for this client, which is exactly so long. */
status stream_take(stream *s, int server, void *to, size_t bytes);

/* Servers. Waits for the next question; *more false: there are none any more. */
status stream_hear(stream *s, int64_t question[STREAM_WORDS], bool *more);
/* greetings[clients]; waits for them. */
status stream_greetings(stream *s, int64_t (*greetings)[STREAM_WORDS]);
/* Room for the next answer, once what was sent from it has arrived. */
status stream_buffer(stream *s, void **out);
/* A piece in the buffer taken last, which stays as it is until it is given out again. */
status stream_send(stream *s, int client, const void *piece, size_t bytes);

#endif
