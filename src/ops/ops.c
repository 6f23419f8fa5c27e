#include "ops/ops.h"

#include "ops/blas.h"
#include "ops/dnnl.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#define OP(identifier) extern const op op_##identifier;
#include "ops/ops.def"
#undef OP

static const op *const table[] = {
#define OP(identifier) &op_##identifier,
#include "ops/ops.def"
#undef OP
    NULL};

const op *const *op_table(void) {
  return table;
}

/* "ai.onnx" is how some exporters spell the default domain. */
static const char *plain_domain(const char *domain) {
  return domain && strcmp(domain, "ai.onnx") != 0 ? domain : "";
}

const op *op_find(const char *domain, const char *name, int opset) {
  domain = plain_domain(domain);
  for (const op *const *row = table; *row; row++) {
    const op *o = *row;
    if (opset < o->since || (o->until && opset > o->until)) continue;
    if (strcmp(o->name, name) == 0 && strcmp(o->domain, domain) == 0) return o;
  }
  return NULL;
}

status ops_init(void) {
  if (openblas_get_parallel() != OPENBLAS_OPENMP) {
    return status_set(
        STATUS_FAILED,
        "the OpenBLAS that was loaded (%s) is not its OpenMP build; install libopenblas0-openmp, or put "
        "the folder of the OpenMP build first in LD_LIBRARY_PATH",
        openblas_get_config());
  }
  blas_init();
  openblas_set_num_threads(1);
  omp_set_num_threads(1);
  return STATUS_OK;
}

/* The version out of openblas_get_config()'s "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...". */
static int openblas_version_length(const char *config) {
  const char *first = strchr(config, ' ');
  const char *second = first ? strchr(first + 1, ' ') : NULL;
  return (int)(second ? (size_t)(second - config) : strlen(config));
}

const char *ops_libraries(void) {
  static _Thread_local char text[160];
  const char *config = openblas_get_config();
  snprintf(text, sizeof text, "%.*s %s, %s", openblas_version_length(config), config, openblas_get_corename(),
           dnnl_description());
  return text;
}
