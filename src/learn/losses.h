/* The losses there are; each in the file of its name. */
#ifndef MPISTILL_LEARN_LOSSES_H
#define MPISTILL_LEARN_LOSSES_H

#include "learn/loss.h"

extern const loss_kind loss_kd;
extern const loss_kind loss_cross_entropy;

#endif
