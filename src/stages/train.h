/* Training a student that need not stand in a file: shared by train, distill and run. */
#ifndef MPISTILL_STAGES_TRAIN_H
#define MPISTILL_STAGES_TRAIN_H

#include "mpistill/mpistill.h"
#include "stages/common.h"

/* Collective. As stage_train, with the student from `student` instead of o->model. */
status train_student(comm *c, const mpistill_train_options *o, const model_source *student);

#endif
