/* Windows of rows, read while the one before them is used: from the arrays of a dataset and of soft labels
 * that are not in memory. A thread of this rank reads; the ranks of a node read a part each into memory that
 * they share. What is in a window is found there by all that read rows by their numbers; any other row is
 * read as before, so that windows change the time and nothing else.
 *
 *     ahead_new(&a, c, most);
 *     rows_ahead(r, a);
 *     softlabels_ahead(s, a, rows_a_view);
 *     ahead_start(a, g, first, n, view);     // window g into slot g modulo 2, where nobody reads any more
 *     ... work on window g - 1 ...
 *     ahead_wait(a);                         // now g is there, and no longer g - 2 */
#ifndef MPISTILL_STORE_AHEAD_H
#define MPISTILL_STORE_AHEAD_H

#include "store/softlabels.h"

typedef struct ahead ahead;

/* Collective. Windows of up to `most` rows. */
status ahead_new(ahead **out, comm *c, int64_t most);
void ahead_free(ahead **a); /* local, before what it reads from is closed; NULL is fine */

/* Collective. Adds what is not in memory. stride: from a row in one view to the same row in the next, 0: the
 * rows of all views are the same. */
status rows_ahead(rows *r, ahead *a);
status softlabels_ahead(softlabels *s, ahead *a, int64_t stride);
status softlabels_feature_ahead(softlabels *s, int feature, ahead *a, int64_t stride);
bool ahead_is_used(const ahead *a); /* something was added */

/* Local, but the same on all ranks. Begins to read rows [first, first + n). None may be under way. */
void ahead_start(ahead *a, int64_t g, int64_t first, int64_t n, int64_t view);
/* Local. The window that was started last, -1: none was; whether window g is there. */
int64_t ahead_newest(const ahead *a);
bool ahead_has(const ahead *a, int64_t g);
/* Collective. Waits for what is under way. Errors are those of reading, the same on all ranks. */
status ahead_wait(ahead *a);
/* Local. No thread reads any more until ahead_start; NULL is fine. */
void ahead_rest(ahead *a);

#endif
