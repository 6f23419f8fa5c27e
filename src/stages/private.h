/* Private teachers: each has ranks of its own, which alone open its model and its data (FedMD: Li and Wang
 * 2019). What leaves them are soft labels of the rows that all share, and what a soft-label file says of its
 * teacher. */
#ifndef MPISTILL_STAGES_PRIVATE_H
#define MPISTILL_STAGES_PRIVATE_H

#include "stages/teach_job.h"

/* Local. Marks the private teachers of j, with what --private says. STATUS_BAD_INPUT for names that are none,
 * and for taps of private teachers. */
status private_choose(teach_job *j);

/* Local. j->bound, of `size` ranks: the teacher that a rank works for alone, -1: all that are not private;
 * NULL when none is. Ranks are cut into equal ranges, in the order of the private teachers and the last for
 * all others, where there are others; or each private teacher names its own. STATUS_BAD_INPUT when there are
 * too few ranks. */
status private_groups(teach_job *j, int size);

/* Local. What private_groups refuses of so many ranks, before there is anything else of the job. */
status private_check(int size, const mpistill_teachers *teachers);

/* Local. The rank that reads teacher i to tell the others of it. */
int private_reader(const teach_job *j, int i);

/* Collective. Private teachers with data of their own are measured on them; the first of their ranks says how
 * they did, and nobody else learns it. */
status private_measure(teach_job *j);

#endif
