/* Kinds of numbers in foreign files, and what they become in a dataset. */
#ifndef MPISTILL_IMPORT_NUMBER_KINDS_H
#define MPISTILL_IMPORT_NUMBER_KINDS_H

#include "store/dataset.h"

/* Converts n numbers of the machine's byte order. Returns the index of the first that cannot be stored (NaN,
 * infinite, out of range), -1 if all can. `from` and `to` do not overlap. */
typedef int64_t number_convert(const void *from, void *to, int64_t n);

typedef struct number_kind {
  const char *name; /* numpy's: "f4" */
  size_t bytes;
  element input; /* type of an input array made of it */
  number_convert *to_input;
  number_convert *to_label;  /* int32 from -1; NULL: not whole numbers */
  number_convert *to_target; /* float32; NULL: whole numbers */
} number_kind;

const number_kind *number_find(const char *name); /* NULL if unknown */

/* Turns the bytes of n numbers of `bytes` bytes around. */
void number_swap(void *data, size_t bytes, int64_t n);

bool number_machine_is_big_endian(void);

#endif
