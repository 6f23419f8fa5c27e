#include "base/mem.h"
#include "graph/plan_private.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

struct arena {
  unsigned char *base;
  size_t bytes;
  plan *plans;
};

status arena_new(arena **out) {
  return mem_new(out, 1, sizeof **out);
}

void arena_free(arena **a) {
  if (!*a) return;
  mem_free((*a)->base);
  mem_free(*a);
  *a = NULL;
}

size_t arena_bytes(const arena *a) {
  return a->bytes;
}

void bindings_set(const bindings *b, void *base) {
  for (int i = 0; i < b->n; i++) *b->items[i].at = base ? (char *)base + b->items[i].offset : NULL;
}

/* Contents need not move: no plan is between forward and backward while another one is made. */
status arena_join(arena *a, plan *p) {
  if (p->arena_bytes > a->bytes) {
    unsigned char *fresh;
    status st = mem_new(&fresh, p->arena_bytes, 1);
    if (st) return st;
    mem_free(a->base);
    a->base = fresh;
    a->bytes = p->arena_bytes;
    for (plan *q = a->plans; q; q = q->next) bindings_set(&q->in_arena, a->base);
  }
  p->next = a->plans;
  a->plans = p;
  bindings_set(&p->in_arena, a->base);
  return STATUS_OK;
}

void arena_leave(arena *a, plan *p) {
  for (plan **at = &a->plans; *at; at = &(*at)->next) {
    if (*at != p) continue;
    *at = p->next;
    return;
  }
}

static int larger_first(const void *a, const void *b) {
  const interval *x = *(interval *const *)a, *y = *(interval *const *)b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return x < y ? -1 : x > y;
}

/* The offset for `item` among n placed ones, which are sorted by offset. */
static size_t best_gap(const interval *placed, int n, const interval *item, size_t bytes) {
  size_t end = 0, best = SIZE_MAX, best_bytes = SIZE_MAX;
  for (int i = 0; i < n; i++) {
    if (placed[i].first > item->last || placed[i].last < item->first) continue;
    if (placed[i].offset >= end + bytes && placed[i].offset - end < best_bytes) {
      best = end;
      best_bytes = placed[i].offset - end;
    }
    if (placed[i].offset + placed[i].bytes > end) end = placed[i].offset + placed[i].bytes;
  }
  return best != SIZE_MAX ? best : end;
}

status layout_place(interval *items, int n, size_t *total) {
  status st = STATUS_OK;
  interval **order = NULL, *placed = NULL;
  *total = 0;
  TRY(mem_new(&order, (size_t)n, sizeof *order));
  TRY(mem_new(&placed, (size_t)n, sizeof *placed));
  for (int i = 0; i < n; i++) order[i] = &items[i];
  qsort(order, (size_t)n, sizeof *order, larger_first);
  for (int i = 0; i < n; i++) {
    size_t bytes = (order[i]->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    order[i]->offset = best_gap(placed, i, order[i], bytes);
    int at = i;
    while (at && placed[at - 1].offset > order[i]->offset) at--;
    memmove(&placed[at + 1], &placed[at], (size_t)(i - at) * sizeof *placed);
    placed[at] = *order[i];
    placed[at].bytes = bytes;
    if (order[i]->offset + bytes > *total) *total = order[i]->offset + bytes;
  }
done:
  mem_free(order);
  mem_free(placed);
  return st;
}
