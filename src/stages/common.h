/* What several stages do alike: threads, models, the mark of what made an output. */
#ifndef MPISTILL_STAGES_COMMON_H
#define MPISTILL_STAGES_COMMON_H

#include "base/lock.h"
#include "base/options.h"
#include "comm/comm.h"
#include "comm/pulse.h"
#include "mpistill/mpistill.h"
#include "onnx/model.h"
#include "stages/predict.h"

#include <jansson.h>

/* Collective, first of all in a stage that computes. One thread a kernel; STATUS_BAD_INPUT when ranks run on
 * unlike processors or libraries, since the result would then depend on which rank did what; with
 * mixed_processors a warning, unless no_result. */
status stage_begin(comm *c, const mpistill_output_options *o);
/* Local. Marks what made an output. */
void stage_mark_mixed(json_t *inputs, const mpistill_output_options *o);

/* Local. Signals and, if the user wants it, the end of the batch job stop the stage from now on
 * (base/stop.h); where nothing tells that end, it is said. */
void stage_listen(const comm *c, const mpistill_output_options *o);

/* Local. --threads, else OMP_NUM_THREADS, else 1: never guessed from the machine. */
int stage_threads(int64_t threads);

/* Local. The rows that a student is tested on. *out NULL: none are, where the name is NULL or "none", or
 * "test", the default, which a dataset need not have. STATUS_BAD_INPUT for another split that is not there.
 */
status stage_test_split(const dataset *d, const char *name, const split **out);

/* A model file, or the bytes of one that stands nowhere on disk (path then only names it in messages). */
typedef struct model_source {
  const char *path;
  const unsigned char *bytes; /* NULL: read path */
  size_t n;
  const mpistill_preprocess *pre; /* of its input, NULL: none */
  const head_options *heads;      /* the outputs to take */
  int n_heads;                    /* 0: the only one */
} model_source;

/* Local. Warns of a model that was exported in training mode, and of a student whose batch norms an export
 * for inference has taken away. */
void stage_tell_mode(bool show, const model *m, bool student);

/* Local. STATUS_BAD_INPUT when the dataset names the classes of an output (truth_is_named), and the model
 * gives another number of them. */
status stage_check_classes(const classifier *k, const dataset *d, const split *sp);

/* Collective, as subject_close. A model, the split and the input arrays it reads; stage_check_classes holds.
 * One rank of each node reads the file, and the ranks of a node have its numbers once, where they can share
 * memory; else, and of models with Ifs or loops, rank 0 reads it, and each rank has its own. */
typedef struct subject {
  model *m;
  const float *block; /* the file's parameters */
  shared *window;     /* which holds them for all ranks of the node */
  float *own;         /* or this rank's own */
  const split *sp;
  const array *input; /* the first */
  classifier k;
} subject;
status subject_open(subject *s, comm *c, const model_source *from, dataset *d, const char *split_name,
                    const char *input_name);
/* Collective. The same for a model that may know other classes than the dataset names. */
status subject_open_any(subject *s, comm *c, const model_source *from, dataset *d, const char *split_name,
                        const char *input_name);
/* Local. head_order of all heads. */
status stage_order_classes(classifier *k, const dataset *d, const split *sp);
/* Collective. The same, before the model's logits are compared with labels. */
status subject_order(subject *s, comm *c, const dataset *d);
/* Collective. STATUS_BAD_INPUT unless the model can be trained on logits in the order of the dataset's
 * classes. */
status subject_check_student(subject *s, comm *c, const dataset *d);
void subject_close(subject *s);

/* Collective. Rank 0 takes the lock of an output, a file or a folder (base/lock.h), before it looks at what
 * is there; lock_release on all ranks. STATUS_BAD_INPUT also when the output cannot be written. */
status stage_lock(comm *c, lock **out, const char *output, const mpistill_output_options *o);

/* Collective. STATUS_BAD_INPUT where OUTPUT is a file that the options name, or one of `inputs` (NULL: none),
 * under whatever name: --force would have the command overwrite what it works from. The log counts as one. */
status stage_refuse_input(comm *c, const char *output, const char *log, const option *rows,
                          const void *options, const mpistill_strings *inputs);

/* ---- the mark beside an output: OUTPUT.inputs, one JSON object that says by hash what it was made from ----
 *
 * Output and mark change together, whenever the run is killed: OUTPUT.part is whole; then the mark, with the
 * hash of what it belongs to, is whole under OUTPUT.inputs.part; then both are renamed. mark_check finds a
 * run that got only half way, and ends it or takes it back. `beside`, NULL: none, is a second file that
 * belongs to OUTPUT; the mark holds its hash too. */

typedef enum mark { MARK_FRESH, MARK_DONE } mark;

/* Collective. MARK_DONE when OUTPUT (and beside) is there, whole, and made from the same inputs.
 * STATUS_BAD_INPUT when it was made from others (naming the first difference) or has no mark, unless `force`;
 * also when OUTPUT cannot be written. inputs: borrowed. */
status mark_check(comm *c, const char *output, const char *beside, const json_t *inputs, bool force,
                  mark *out);
/* Says that OUTPUT is there, made from the same inputs, and prints that as the results, where they are asked
 * for. note: what else is to be said of it, "" for nothing. */
void stage_tell_done(const comm *c, const char *output, const mpistill_output_options *o, const char *note);
/* Whether an output that was made from the same inputs stays: not when one command is forced. A run that is
 * forced makes anew what has other inputs than it had. */
bool stage_keeps_done(const mpistill_output_options *o);
/* Local. STATUS_BAD_INPUT that names the first input that differs: "WHAT was made with epochs = 5, now it is
 * 10; REMEDY". */
status mark_difference(const char *what, const json_t *old, const json_t *inputs, const char *remedy);
/* Local, one rank. OUTPUT.part, which is whole and on disk as is beside, becomes OUTPUT, with its mark. */
status mark_commit(const char *output, const char *beside, const json_t *inputs);

/* Collective. "xxh3:..." of a file, computed by rank 0. */
status stage_hash_file(comm *c, const char *path, char out[HASH_TEXT_BYTES]);

/* Collective. model_hash of a file: with the files that hold data of its tensors. */
status stage_hash_model(comm *c, const char *path, char out[HASH_TEXT_BYTES]);

/* Local. Prints a JSON object on stdout on rank 0 and frees it on all. */
void stage_print_json(const comm *c, json_t *take);

#endif
