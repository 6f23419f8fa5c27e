/* A header on its way: parsed in a child process of one rank, handed to all ranks.
 *
 * In a child, because libhdf5 1.10 crashes on some damaged files (variable-length strings above all): what
 * would end a job of a thousand ranks without a word becomes an error with the file's name. By one rank,
 * because a thousand ranks that read the same few hundred bytes are slow on a parallel file system, and
 * because then all ranks see the same.
 *
 * One function describes a struct in both directions:
 *
 *     static status point_wire(wire *w, point *p) {
 *       status st = STATUS_OK;
 *       TRY(wire_text(w, &p->name));
 *       TRY(wire_list(w, &p->n, &p->values, sizeof *p->values)); // when reading: allocated, zeroed
 *       TRY(wire_bytes(w, p->values, p->n * sizeof *p->values));
 *     done:
 *       return st;
 *     } */
#ifndef MPISTILL_STORE_WIRE_H
#define MPISTILL_STORE_WIRE_H

#include "comm/comm.h"

typedef struct wire {
  bool reading;
  unsigned char *bytes;
  size_t n, room, at;
} wire;

status wire_bytes(wire *w, void *data, size_t n);
status wire_int(wire *w, int *x);
status wire_text(wire *w, char **text); /* NULL stays NULL */
status wire_list(wire *w, int *n, void *items, size_t size);
status wire_texts(wire *w, int *n, char ***texts);
void wire_free(wire *w);

/* Collective. Rank 0 runs work(path, &w) in a child process; afterwards every rank has w, ready to be read.
 */
status wire_fetch(wire *w, comm *c, const char *path, status (*work)(const char *path, wire *w));

#endif
