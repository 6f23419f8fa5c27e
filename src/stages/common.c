#include "stages/common.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/progress.h"
#include "base/stop.h"
#include "graph/op.h"
#include "ops/ops.h"
#include "stages/truth.h"

#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What decides bits on a host: this program, its numeric libraries, and what those choose kernels and block
 * sizes by. */
typedef struct kind_of_host {
  char libraries[256], host[128];
} kind_of_host;

static void describe_host(kind_of_host *k) {
  const char *libc = "?";
#ifdef __GLIBC__
  libc = gnu_get_libc_version();
#endif
  snprintf(k->libraries, sizeof k->libraries, "mpistill %s, %s, libc %s, caches of %ld and %ld KiB",
           MPISTILL_VERSION, ops_libraries(), libc, sysconf(_SC_LEVEL1_DCACHE_SIZE) / 1024,
           sysconf(_SC_LEVEL2_CACHE_SIZE) / 1024);
  if (gethostname(k->host, sizeof k->host - 1)) strcpy(k->host, "?");
}

static status refuse_or_warn(const comm *c, const mpistill_output_options *o, const kind_of_host *all,
                             int i) {
  static const char text[] = "rank 0 on host %s has %s, but rank %d on host %s has %s: the results %s depend "
                             "on which rank did what%s";
  if (!o->mixed_processors)
    return status_set(STATUS_BAD_INPUT, text, all->host, all->libraries, i, all[i].host, all[i].libraries,
                      "would", "; use hosts of one kind, or --mixed-processors");
  say_warning(comm_rank(c) == 0 && !o->no_result, text, all->host, all->libraries, i, all[i].host,
              all[i].libraries, "will", "");
  return STATUS_OK;
}

status stage_begin(comm *c, const mpistill_output_options *o) {
  status st = STATUS_OK;
  kind_of_host mine = {0}, *all = NULL;
  TRY(comm_agree(c, ops_init()));
  TRY(comm_agree(c, mem_new(&all, (size_t)comm_size(c), sizeof *all)));
  describe_host(&mine);
  TRY(comm_gather_all(c, &mine, all, sizeof mine));
  for (int i = 1; i < comm_size(c); i++) {
    if (!memcmp(all->libraries, all[i].libraries, sizeof mine.libraries)) continue;
    TRY(refuse_or_warn(c, o, all, i));
    break;
  }
done:
  mem_free(all);
  return st;
}

void stage_mark_mixed(json_t *inputs, const mpistill_output_options *o) {
  if (o->mixed_processors) json_object_set_new(inputs, "mixed_processors", json_true());
}

void stage_listen(const comm *c, const mpistill_output_options *o) {
  bool known = stop_listen(o->stop_before);
  say_warning(!known && comm_rank(c) == 0 && !o->no_result,
              "--stop-before %g: nothing tells when this job ends (SLURM_JOB_END_TIME, PBS_WALLTIME, "
              "MPISTILL_END_TIME); it has no effect",
              o->stop_before);
}

status stage_test_split(const dataset *d, const char *name, const split **out) {
  *out = NULL;
  for (int i = 0; name && i < dataset_n_splits(d); i++)
    if (!strcmp(dataset_split_at(d, i)->name, name)) *out = dataset_split_at(d, i);
  const bool may_lack = !name || !strcmp(name, "none") || !strcmp(name, "test");
  return *out || may_lack ? STATUS_OK : dataset_split(d, name, out);
}

int stage_threads(int64_t threads) {
  int64_t n = threads;
  const char *text = getenv("OMP_NUM_THREADS");
  if (n <= 0 && (!text || !text_to_int(text, &n) || n < 1 || n > 1024)) n = 1;
  return (int)n;
}

/* Rank 0 reads the file, all ranks parse the same bytes, and hold the numbers themselves. */
static status read_alone(subject *s, comm *c, const model_source *from) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  size_t n = from->n;
  if (!from->bytes) TRY(comm_read_file(c, from->path, &bytes, &n));
  TRY(comm_agree(c, model_parse(&s->m, from->path, bytes ? bytes : from->bytes, n)));
  const graph *g = model_graph(s->m);
  TRY(comm_agree(c, mem_new(&s->own, (size_t)g->n_block, sizeof *s->own)));
  graph_initial_block(g, s->own);
  s->block = s->own;
done:
  mem_free(bytes);
  return st;
}

/* What a rank that reads a file tells the others of its node. */
typedef struct handed {
  int64_t n_floats, n_shell; /* 0: none */
  model_origin origin;
} handed;

static status read_here(const model_source *from, model **m, unsigned char **shell, handed *out) {
  status st = STATUS_OK;
  size_t n = 0;
  TRY(from->bytes ? model_parse(m, from->path, from->bytes, from->n) : model_read(m, from->path));
  TRY(model_pack_shell(*m, shell, &n));
  *out = (handed){.n_floats = model_graph(*m)->n_block, .n_shell = (int64_t)n, .origin = model_origin_of(*m)};
done:
  return st;
}

/* One window a node: the numbers, then the model without them. s->m stays NULL where that cannot be. */
static status read_once(subject *s, comm *c, const model_source *from) {
  status st = STATUS_OK;
  model *mine = NULL;
  unsigned char *shell = NULL;
  handed of = {0}, first;
  const bool reads = comm_node_rank(c) == 0;
  TRY(comm_agree(c, reads ? read_here(from, &mine, &shell, &of) : STATUS_OK));
  first = of;
  TRY(comm_broadcast(c, 0, &first, sizeof first));
  if (reads && of.origin.hash != first.origin.hash)
    st = status_set(STATUS_BAD_INPUT, "%s: is not the same file on all hosts", from->path);
  TRY(comm_agree(c, st));
  if (!first.n_shell) goto done;
  const size_t bytes = (size_t)first.n_floats * sizeof(float);
  TRY(shared_new(&s->window, c, bytes + (size_t)first.n_shell));
  int64_t sharing[1] = {shared_is_shared(s->window)};
  TRY(comm_combine_counts(c, sharing, 1));
  if (sharing[0] < comm_size(c)) goto done;
  float *block = shared_data(s->window);
  if (reads) {
    graph_initial_block(model_graph(mine), block);
    memcpy((char *)block + bytes, shell, (size_t)first.n_shell);
  }
  model_free(&mine);
  TRY(shared_sync(s->window));
  TRY(comm_agree(c, model_parse_shell(&s->m, from->path, (char *)block + bytes, (size_t)first.n_shell, block,
                                      &first.origin)));
  s->block = block;
done:
  model_free(&mine);
  mem_free(shell);
  return st;
}

static status read_model(subject *s, comm *c, const model_source *from) {
  status st = shared_is_wanted() ? read_once(s, c, from) : STATUS_OK;
  if (st || s->m) return st;
  shared_free(&s->window);
  return read_alone(s, c, from);
}

/* " and 3 more", behind the first of n. */
static void count_more(char more[32], int n) {
  *more = '\0';
  if (n > 1) snprintf(more, 32, " and %d more", n - 1);
}

/* Weights that were several before the exporter looked at their numbers. */
static void tell_merged(const model *m) {
  int n;
  char more[32];
  const char *weight = model_parted_weight(m, &n);
  count_more(more, n);
  say_warning(weight,
              "%s: the exporter has merged tensors whose numbers are all the same ('%s'%s): each layer is "
              "trained with its own",
              model_path(m), weight ? weight : "", more);
  weight = model_tied_weight(m, &n);
  count_more(more, n);
  say_warning(weight,
              "%s: several layers share a weight ('%s'%s) and are trained with one; if they only begin with "
              "the same numbers, export them apart (torch.onnx.export(..., dynamo=False, "
              "training=torch.onnx.TrainingMode.TRAINING))",
              model_path(m), weight ? weight : "", more);
}

void stage_tell_mode(bool show, const model *m, bool student) {
  int n;
  const char *node = model_training_node(m, &n), *folded = model_folded_weight(m);
  char more[32] = "";
  if (n > 1) snprintf(more, sizeof more, " and %d more nodes", n - 1);
  say_warning(show && node, "%s: was exported in training mode (node '%s'%s): %s", model_path(m),
              node ? node : "", more,
              student ? "the student is written for inference, as its runtimes expect it"
                      : "it is run for inference");
  say_warning(
      show && student && folded,
      "%s: its batch norms seem to be folded into its convolutions (weight '%s'): it was exported for "
      "inference and is trained without them; export it in training mode to have them "
      "(torch.onnx.export(..., training=torch.onnx.TrainingMode.TRAINING))",
      model_path(m), folded ? folded : "");
  if (show && student) tell_merged(m);
}

static bool is_named(const head *h, const split *sp) {
  return !h->values && truth_is_named(sp, h->by_task ? h->labels : NULL);
}

status stage_check_classes(const classifier *k, const dataset *d, const split *sp) {
  int64_t named = dataset_n_classes(d);
  for (int i = 0; named && i < k->n_heads; i++)
    if (is_named(&k->heads[i], sp) && k->heads[i].classes != named)
      return status_set(STATUS_BAD_INPUT, "%s: gives %lld classes, but %s names %lld in /classes", k->path,
                        (long long)k->heads[i].classes, dataset_path(d), (long long)named);
  return STATUS_OK;
}

status stage_order_classes(classifier *k, const dataset *d, const split *sp) {
  status st = STATUS_OK;
  for (int i = 0; !st && i < k->n_heads; i++)
    st = head_order(&k->heads[i], is_named(&k->heads[i], sp) ? d : NULL, k->path);
  return st;
}

status subject_open_any(subject *s, comm *c, const model_source *from, dataset *d, const char *split_name,
                        const char *input_name) {
  status st = STATUS_OK;
  const array *arrays[CLASSIFIER_MAX_INPUTS];
  *s = (subject){0};
  TRY(dataset_split(d, split_name, &s->sp));
  TRY(read_model(s, c, from));
  TRY(classifier_arrays(s->m, d, s->sp, input_name, arrays));
  s->input = arrays[0];
  TRY(comm_agree(
      c, classifier_bind(&s->k, s->m, arrays, from->pre, dataset_path(d), from->heads, from->n_heads)));
done:
  return st;
}

status subject_open(subject *s, comm *c, const model_source *from, dataset *d, const char *split_name,
                    const char *input_name) {
  status st = subject_open_any(s, c, from, d, split_name, input_name);
  return st ? st : stage_check_classes(&s->k, d, s->sp);
}

status subject_order(subject *s, comm *c, const dataset *d) {
  return comm_agree(c, stage_order_classes(&s->k, d, s->sp));
}

/* The first node that rounds to integers, behind which nothing can be trained; NULL: none. */
static const node *find_rounding(const graph *g) {
  static const char *const rounding[] = {"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger",
                                         "QLinearMatMul",  "ConvInteger",           "QLinearConv"};
  for (int i = 0; i < g->n_nodes; i++)
    for (size_t k = 0; k < sizeof rounding / sizeof *rounding; k++)
      if (!strcmp(g->nodes[i].op->name, rounding[k])) return &g->nodes[i];
  return NULL;
}

status subject_check_student(subject *s, comm *c, const dataset *d) {
  status st = subject_order(s, c, d);
  if (st) return st;
  const node *rounds = find_rounding(s->k.g);
  if (rounds)
    return status_set(STATUS_BAD_INPUT,
                      "%s: is quantised (node '%s', %s): integers are not trained; train the model of floats "
                      "and quantise it afterwards (--precision int8)",
                      s->k.path, rounds->name, rounds->op->name);
  for (int i = 0; i < s->k.n_heads; i++) {
    if (s->k.heads[i].probabilities)
      return status_set(
          STATUS_BAD_INPUT,
          "%s: gives probabilities, but not by a Softmax at its end; a student is trained by its "
          "logits: export it without what turns them into probabilities",
          s->k.path);
    if (s->k.heads[i].order)
      return status_set(STATUS_BAD_INPUT,
                        "%s: names its classes in another order than %s; a student's must be the same",
                        s->k.path, dataset_path(d));
  }
  return STATUS_OK;
}

void subject_close(subject *s) {
  classifier_clear(&s->k);
  model_free(&s->m);
  shared_free(&s->window);
  mem_free(s->own);
  *s = (subject){0};
}

status stage_hash_file(comm *c, const char *path, char out[HASH_TEXT_BYTES]) {
  uint64_t hash = 0;
  status st = comm_rank(c) == 0 ? hash_file(path, &hash) : STATUS_OK;
  if (!(st = comm_agree(c, st))) st = comm_broadcast(c, 0, &hash, sizeof hash);
  if (!st) hash_text(hash, out);
  return st;
}

status stage_hash_model(comm *c, const char *path, char out[HASH_TEXT_BYTES]) {
  model *m = NULL;
  uint64_t hash = 0;
  status st = comm_rank(c) == 0 ? model_read(&m, path) : STATUS_OK;
  if (m) hash = model_hash(m);
  model_free(&m);
  if (!(st = comm_agree(c, st))) st = comm_broadcast(c, 0, &hash, sizeof hash);
  if (!st) hash_text(hash, out);
  return st;
}

status stage_lock(comm *c, lock **out, const char *output, const mpistill_output_options *o) {
  status st = STATUS_OK;
  struct stat info;
  *out = NULL;
  if (comm_rank(c) == 0) {
    if (stat(output, &info) || !S_ISDIR(info.st_mode)) st = file_check_writable(output);
    if (!st) st = lock_take(out, output, !o->quiet);
  }
  return comm_agree(c, st);
}

static status refuse_one(const char *output, const char *log, const option *rows, const void *options,
                         const mpistill_strings *inputs) {
  if (log && !strcmp(log, output))
    return status_set(STATUS_BAD_INPUT, "%s: is the log of this command too; use another --log", output);
  bool is = options_same_file(rows, options, output) != NULL;
  for (size_t i = 0; inputs && i < inputs->n; i++) is = is || file_same(inputs->items[i], output);
  return is ? status_set(STATUS_BAD_INPUT, "%s: is an input of this command too; use another output", output)
            : STATUS_OK;
}

/* OUTPUT, and what lies beside it while it is made and afterwards. */
static status refuse_input(const char *output, const char *log, const option *rows, const void *options,
                           const mpistill_strings *inputs) {
  static const char *const beside[] = {".part", ".inputs", ".inputs.part", ".lock"};
  status st = refuse_one(output, log, rows, options, inputs);
  for (size_t i = 0; !st && i < sizeof beside / sizeof *beside; i++) {
    char *path = NULL;
    st = mem_format(&path, "%s%s", output, beside[i]);
    if (!st) st = refuse_one(path, log, rows, options, inputs);
    mem_free(path);
  }
  return st;
}

status stage_refuse_input(comm *c, const char *output, const char *log, const option *rows,
                          const void *options, const mpistill_strings *inputs) {
  return comm_agree(c, comm_rank(c) == 0 ? refuse_input(output, log, rows, options, inputs) : STATUS_OK);
}

static status mark_path(char **out, const char *output) {
  return mem_format(out, "%s.inputs", output);
}

/* A run was killed inside mark_commit. When OUTPUT is the file that the prepared mark belongs to, only the
 * last rename is missing; else OUTPUT is what it was before. */
static status end_commit(const char *output) {
  status st = STATUS_OK;
  char *path = NULL, *part = NULL, text[HASH_TEXT_BYTES];
  json_t *prepared = NULL;
  uint64_t hash;
  TRY(mark_path(&path, output));
  TRY(mem_format(&part, "%s.part", path));
  if (!file_exists(part)) goto done;
  prepared = json_load_file(part, 0, NULL);
  const char *wanted = json_string_value(json_object_get(prepared, "hash"));
  if (wanted && file_exists(output)) {
    TRY(hash_file(output, &hash));
    hash_text(hash, text);
    if (!strcmp(text, wanted)) {
      TRY(file_commit(path));
      goto done;
    }
  }
  unlink(part);
done:
  json_decref(prepared);
  mem_free(path);
  mem_free(part);
  return st;
}

status mark_difference(const char *what, const json_t *old, const json_t *inputs, const char *remedy) {
  const json_t *sides[] = {inputs, old};
  for (int i = 0; i < 2; i++) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)sides[i], key, value) {
      const json_t *then = json_object_get(old, key), *now = json_object_get(inputs, key);
      if (json_equal(then, now)) continue;
      char *a = then ? json_dumps(then, JSON_COMPACT | JSON_ENCODE_ANY) : NULL,
           *b = now ? json_dumps(now, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
      status st = status_set(STATUS_BAD_INPUT, "%s was made with %s = %s, now it is %s; %s", what, key,
                             a ? a : "(nothing)", b ? b : "(nothing)", remedy);
      free(a);
      free(b);
      return st;
    }
  }
  return status_set(STATUS_BAD_INPUT, "%s was made from other inputs; %s", what, remedy);
}

static status has_hash(const char *path, const char *wanted, bool *is) {
  uint64_t hash;
  char text[HASH_TEXT_BYTES];
  *is = file_exists(path);
  if (!*is || !wanted) return STATUS_OK;
  status st = hash_file(path, &hash);
  if (st) return st;
  hash_text(hash, text);
  *is = !strcmp(text, wanted);
  return STATUS_OK;
}

/* Which of OUTPUT and the file beside it is not the one that the mark belongs to; NULL: both are. */
static status find_changed(const char *output, const char *beside, const json_t *mark, const char **changed) {
  status st = STATUS_OK;
  bool is = json_integer_value(json_object_get(mark, "bytes")) == file_size(output);
  *changed = output;
  if (is) TRY(has_hash(output, json_string_value(json_object_get(mark, "hash")), &is));
  if (!is) goto done;
  *changed = beside;
  if (beside) TRY(has_hash(beside, json_string_value(json_object_get(mark, "beside")), &is));
  if (is) *changed = NULL;
done:
  return st;
}

static status check_alone(const char *output, const char *beside, const json_t *inputs, bool force,
                          int *done) {
  status st = STATUS_OK;
  char *path = NULL, *what = NULL;
  json_t *old = NULL;
  TRY(file_check_writable(output));
  TRY(end_commit(output));
  if (!file_exists(output)) goto done;
  TRY(mark_path(&path, output));
  if (file_exists(path)) old = json_load_file(path, 0, NULL);
  const bool same = json_equal(json_object_get(old, "inputs"), inputs);
  const char *changed = output;
  if (same) TRY(find_changed(output, beside, old, &changed));
  *done = !changed;
  if (force || !changed) goto done;
  if (!old) THROW(STATUS_BAD_INPUT, "%s: exists; use another output or --force", output);
  if (same)
    THROW(STATUS_BAD_INPUT, "%s: was changed%s after it was made; use another output or --force", changed,
          changed == beside ? " or removed" : "");
  TRY(mem_format(&what, "%s: exists and", output));
  TRY(mark_difference(what, json_object_get(old, "inputs"), inputs, "use another output or --force"));
done:
  json_decref(old);
  mem_free(path);
  mem_free(what);
  return st;
}

void stage_tell_done(const comm *c, const char *output, const mpistill_output_options *o, const char *note) {
  say(comm_rank(c) == 0 && !o->quiet, "%s: already done from the same inputs%s", output, note);
  if (o->json && !o->no_result)
    stage_print_json(c, json_pack("{s:s, s:b}", "output", output, "already_done", true));
}

bool stage_keeps_done(const mpistill_output_options *o) {
  return !o->force || o->no_result;
}

status mark_check(comm *c, const char *output, const char *beside, const json_t *inputs, bool force,
                  mark *out) {
  int done = 0;
  status st =
      comm_agree(c, comm_rank(c) == 0 ? check_alone(output, beside, inputs, force, &done) : STATUS_OK);
  if (!st) st = comm_broadcast(c, 0, &done, sizeof done);
  *out = done ? MARK_DONE : MARK_FRESH;
  return st;
}

static status mark_text(const char *part, const char *beside, const json_t *inputs, char **text) {
  uint64_t hash, its = 0;
  char hash_of[HASH_TEXT_BYTES], hash_beside[HASH_TEXT_BYTES];
  status st = hash_file(part, &hash);
  if (!st && beside) st = hash_file(beside, &its);
  if (st) return st;
  hash_text(hash, hash_of);
  hash_text(its, hash_beside);
  json_t *all =
      json_pack("{s:O, s:I, s:s}", "inputs", inputs, "bytes", (json_int_t)file_size(part), "hash", hash_of);
  if (beside) json_object_set_new(all, "beside", json_string(hash_beside));
  *text = all ? json_dumps(all, JSON_INDENT(2)) : NULL;
  json_decref(all);
  return *text ? st : status_set(STATUS_FAILED, "out of memory: the mark of %s could not be made", part);
}

status mark_commit(const char *output, const char *beside, const json_t *inputs) {
  status st = STATUS_OK;
  char *path = NULL, *part = NULL, *text = NULL;
  TRY(mark_path(&path, output));
  TRY(mem_format(&part, "%s.part", output));
  TRY(mark_text(part, beside, inputs, &text));
  mem_free(part);
  part = NULL;
  TRY(mem_format(&part, "%s.part", path));
  TRY(file_write(part, text, strlen(text)));
  TRY(file_commit(output));
  TRY(file_commit(path));
done:
  free(text);
  mem_free(path);
  mem_free(part);
  return st;
}

void stage_print_json(const comm *c, json_t *take) {
  if (comm_rank(c) == 0 && take) {
    json_dumpf(take, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    putchar('\n');
    fflush(stdout);
  }
  json_decref(take);
}
