/* Losses between inner tensors: which tensors of which soft-label files, or live teachers, and of the student
 * they read, and what they learn themselves. */
#ifndef MPISTILL_STAGES_FEATURES_H
#define MPISTILL_STAGES_FEATURES_H

#include "learn/feature.h"
#include "stages/live.h"

#include <jansson.h>

enum { FEATURES_MAX = 32, FEATURES_MAX_TENSORS = FEATURES_MAX * FEATURE_TENSORS };

typedef struct feature_term { /* one loss: an entry of the options, for one of its layers */
  mpistill_feature options;   /* strings borrowed */
  const feature_kind *kind;
  char *name;                        /* "hint:act1", for logs */
  int student[FEATURE_TENSORS];      /* places among the classifier's inner tensors */
  int teacher[FEATURE_TENSORS];      /* places among features.tensors */
  feature_map mine[FEATURE_TENSORS]; /* the student's, without values */
  int64_t first, n_parameters;       /* its own, among those of all terms */
} feature_term;

typedef struct feature_tensor { /* of a teacher */
  softlabels *file;             /* NULL: of a live one */
  int teacher;                  /* of live_inner */
  int feature;                  /* place among the tensors of either */
  feature_map map;              /* without values */
} feature_tensor;

typedef struct features {
  int n;
  int first_tap; /* of a plan: the classifier's inner tensors lie behind its heads */
  feature_term terms[FEATURES_MAX];
  int n_tensors;
  feature_tensor tensors[FEATURES_MAX_TENSORS];
  int n_files; /* opened for their features alone */
  softlabels **files;
  live *teachers;       /* borrowed; NULL: none is live */
  int64_t n_parameters; /* what all terms learn themselves, each at a multiple of 16 */
} features;

/* Collective. o->features, from the files of all tasks and those of o->feature_files, which are opened and
 * checked against the dataset, else from live teachers (NULL: there are none); the student's tensors are
 * added to k->inner. STATUS_BAD_INPUT for tensors that are not there or do not go together. features_close in
 * any case. Strings of o are borrowed. */
status features_open(features *f, comm *c, const mpistill_train_options *o, const tasks *work, dataset *d,
                     const split *sp, classifier *k, live *teachers);
/* Collective. softlabels_check of the files opened for their features alone. */
status features_check_files(const features *f);
/* Local. Whether live teachers have any of the tensors. */
bool features_ask(const features *f);
void features_close(features *f); /* collective */

/* Collective. The teachers' tensors into memory, for features_rows. */
status features_load(const features *f);

/* Local. As objective_check_shards. */
status features_check_shards(const mpistill_features *list, const int64_t *sizes, int n_sizes);

/* Local. Where parameters begin: to[n_parameters]. */
void features_initial(const features *f, uint64_t seed, float *to);

/* Local. Floats of a row of all teachers' tensors; doubles of scratch. */
int64_t features_row_values(const features *f);
size_t features_scratch(const features *f, int64_t rows);

/* Local, any thread. The teachers' tensors of n rows, one after the other: out[n * features_row_values]. The
 * rows as files count them: views_labels. */
status features_rows(const features *f, const int64_t *ids, const int64_t *stored, int64_t n, float *out);

/* Local. STATUS_BAD_INPUT naming the student's tensor that no trained parameter reaches. */
status features_check_plan(const features *f, const plan *p, const classifier *k);

/* Local. parts[n] of a shard of `rows` rows; adds the gradients by the student's tensors, overwrites
 * parameter_gradient[n_parameters]. teacher: of features_rows. */
void features_evaluate(const features *f, const plan *p, int64_t rows, int64_t batch_rows,
                       const float *teacher, const float *parameters, float *parameter_gradient,
                       double *scratch, double *parts);

/* Local. Adds the names of the tensors that the losses read from a teacher of that name, NULL: from the
 * student, each once; strings_free. */
status features_tensors(const mpistill_features *list, const char *teacher, mpistill_strings *names);

/* Local. Whether the student learns anything from them. */
bool features_teach(const mpistill_features *list);

/* Local. STATUS_BAD_INPUT unless layers are given where a tensor's name has a place for them, and there
 * alone.
 */
status features_check_layers(const mpistill_feature *o);

/* Local. STATUS_BAD_INPUT when tensors of the student and of the teacher of that name do not go together:
 * what features_open finds, before the teacher has stored any. */
status features_check(const mpistill_features *list, const char *name, classifier *student,
                      classifier *teacher);

/* Local. The options as JSON: what decides the student's bytes. */
json_t *features_json(const mpistill_features *list);

#endif
