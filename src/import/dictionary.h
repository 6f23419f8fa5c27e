/* Distinct texts with numbers from 0. */
#ifndef MPISTILL_IMPORT_DICTIONARY_H
#define MPISTILL_IMPORT_DICTIONARY_H

#include "base/status.h"

#include <stdint.h>

typedef struct dictionary dictionary;

enum { DICTIONARY_MAX = 1 << 20 };

/* Local. Empty; dictionary_free. */
status dictionary_new(dictionary **out);
void dictionary_free(dictionary **d);

/* Local. The number of a text, the next free one if it is new. `text` is copied. *code is -1 (and the status
 * OK) when DICTIONARY_MAX others are there already. */
status dictionary_add(dictionary *d, const char *text, int32_t *code);

/* The number of a text, -1 if it is not there. */
int32_t dictionary_find(const dictionary *d, const char *text);

int32_t dictionary_count(const dictionary *d);
const char *const *dictionary_texts(const dictionary *d); /* by number; valid until the next add or sort */

/* Local. Numbers the texts anew in the order of their bytes. */
void dictionary_sort(dictionary *d);

#endif
