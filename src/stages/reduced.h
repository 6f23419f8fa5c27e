/* The student as it is put to use: float16 or int8. */
#ifndef MPISTILL_STAGES_REDUCED_H
#define MPISTILL_STAGES_REDUCED_H

#include "stages/common.h"

/* Whether these options ask for a student of smaller numbers. */
bool reduced_wanted(const mpistill_train_options *o);

/* Local. "student.onnx" -> "student.float32.onnx": where the trained numbers stay. The caller's (mem_free).
 */
status reduced_full_path(char **out, const char *output);

/* Collective. STATUS_BAD_INPUT when the model has no such form: before the training that ends with it. */
status reduced_check(comm *c, const subject *s, const mpistill_train_options *o);

/* Collective. The bytes of the subject's model with the parameters of `block` in o->precision, on rank 0,
 * owned by the caller (mem_free). int8: the ranges of activations are those of o->calibration_rows rows of
 * the subject's split, evenly spread. */
status reduced_bytes(comm *c, const subject *s, const float *block, dataset *d,
                     const mpistill_train_options *o, unsigned char **bytes, size_t *n);

#endif
