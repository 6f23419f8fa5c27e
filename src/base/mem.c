#include "base/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, HUGE = 1 << 21 };

static atomic_ulong n_allocations;
static atomic_ulong fail_at;

static void read_fault(void) __attribute__((constructor));

static void read_fault(void) {
  const char *text = getenv("MPISTILL_FAIL_ALLOCATION");
  if (!text) return;
  const char *rank = getenv("OMPI_COMM_WORLD_RANK");
  if (!rank) rank = getenv("PMI_RANK");
  char *colon;
  long wanted = strtol(text, &colon, 10);
  if (*colon != ':' || wanted != (rank ? strtol(rank, NULL, 10) : 0)) return;
  mem_fail_at(strtoul(colon + 1, NULL, 10));
}

void mem_fail_at(unsigned long n) {
  atomic_store(&fail_at, n ? atomic_load(&n_allocations) + n : 0);
}

unsigned long mem_count(void) {
  return atomic_load(&n_allocations);
}

/* Fewer page faults here, fewer misses of the address translation wherever the array is read. */
static void use_huge_pages(void *p, size_t bytes) {
#ifdef MADV_HUGEPAGE
  madvise(p, bytes / HUGE * HUGE, MADV_HUGEPAGE);
#endif
}

status mem_new(void *out, size_t n, size_t size) {
  void *p = NULL;
  *(void **)out = NULL;
  unsigned long at = atomic_fetch_add(&n_allocations, 1) + 1;
  if (size && n > (SIZE_MAX - ALIGNMENT) / size)
    return status_set(STATUS_FAILED, "out of memory: %zu elements of %zu bytes were asked for", n, size);
  size_t bytes = (n * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (!bytes) bytes = ALIGNMENT;
  const bool large = bytes >= 2 * (size_t)HUGE;
  const bool made = at != atomic_load(&fail_at) && !posix_memalign(&p, large ? HUGE : ALIGNMENT, bytes);
  if (!made) return status_set(STATUS_FAILED, "out of memory: %zu bytes were asked for", bytes);
  if (large) use_huge_pages(p, bytes);
  memset(p, 0, bytes);
  *(void **)out = p;
  return STATUS_OK;
}

status mem_resize(void *out, size_t old_n, size_t n, size_t size) {
  void *fresh;
  status st = mem_new(&fresh, n, size);
  if (st) return st;
  void *old = *(void **)out;
  if (old) memcpy(fresh, old, (old_n < n ? old_n : n) * size);
  mem_free(old);
  *(void **)out = fresh;
  return STATUS_OK;
}

status mem_string_n(char **out, const char *text, size_t n) {
  status st = mem_new(out, n + 1, 1);
  if (!st) memcpy(*out, text, n);
  return st;
}

status mem_string(char **out, const char *text) {
  return mem_string_n(out, text, strlen(text));
}

status mem_format(char **out, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  va_end(args);
  status st = n < 0 ? status_set(STATUS_FAILED, "cannot format a message") : mem_new(out, (size_t)n + 1, 1);
  if (!st) vsnprintf(*out, (size_t)n + 1, format, again);
  va_end(again);
  return st;
}

void mem_free(void *p) {
  free(p);
}
