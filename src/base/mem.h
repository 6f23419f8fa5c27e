/* Memory: every allocation of the library goes through here, so that a test can fail the n-th one. */
#ifndef MPISTILL_BASE_MEM_H
#define MPISTILL_BASE_MEM_H

#include "base/status.h"

#include <stddef.h>

/* Local. `*out` gets n * size zeroed bytes, aligned to 64 and owned by the caller (mem_free); never NULL on
 * success, also for 0 bytes. STATUS_FAILED with the size in the message when there is no memory or n * size
 * overflows. `out` is the address of a pointer of any type. */
status mem_new(void *out, size_t n, size_t size);

/* Local. Grows or shrinks what mem_new gave from old_n to n elements, contents kept, new ones zeroed. On
 * failure
 * `*out` stays valid. */
status mem_resize(void *out, size_t old_n, size_t n, size_t size);

/* Local. A copy of a string, or of its first n bytes. */
status mem_string(char **out, const char *text);
status mem_string_n(char **out, const char *text, size_t n);

/* Local. printf into a fresh string. */
status mem_format(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Local. Frees what mem_* gave; NULL is fine. */
void mem_free(void *p);

/* Local. The number of allocations made by mem_* so far, in all threads. */
unsigned long mem_count(void);

/* Local. Tests: the n-th allocation from now on fails (1 = the next); 0 switches it off. Also read once from
 * the environment variable MPISTILL_FAIL_ALLOCATION ("RANK:N", rank by OMPI_COMM_WORLD_RANK, PMI_RANK or 0).
 */
void mem_fail_at(unsigned long n);

#endif
