/* In which order the epochs of a training see the rows: a pure function of seed, epoch, the number of rows
 * and the window; neither of how the rows are read nor of who reads them.
 *
 * Without a window any order of all rows. Else the rows are cut into n / window ranges of like length
 * (window to 2 window - 1 rows); an epoch visits them in any order, and the rows of each in any order before
 * the next one's. So few rows have to be at hand at a time, and each range is read at once. */
#ifndef MPISTILL_STAGES_ORDER_H
#define MPISTILL_STAGES_ORDER_H

#include "base/status.h"

#include <stdint.h>

typedef struct order order;

/* Local. window 0: none. most: rows asked for at a time, at most as many as a window has. */
status order_new(order **out, uint64_t seed, int64_t n, int64_t window, int64_t most);
void order_free(order **o);

/* Local. The rows in places [from, from + n) of an epoch; borrowed until the next call. */
const int64_t *order_rows(order *o, int64_t epoch, int64_t from, int64_t n);

/* Local. Windows are counted in the order of their visits through all epochs; each epoch has as many. */
int64_t order_n_windows(const order *o);
int64_t order_longest(const order *o);                                 /* rows of the longest */
int64_t order_window_at(order *o, int64_t epoch, int64_t place);       /* the one that has this place */
void order_window(order *o, int64_t g, int64_t *first, int64_t *rows); /* the rows of window g */

#endif
