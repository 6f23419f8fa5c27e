/* The command table: every command whole, every example accepted, every option documented, every rule across
 * options. */
#include "cli/command.h"

#include "base/mem.h"
#include "testing.h"

typedef struct parsed {
  const command *k;
  void *config;
  mpistill_strings arguments;
  options_seen seen;
} parsed;

/* What main does before it runs a command. */
static status parse(parsed *p, const char *line) {
  char copy[1024], *argv[64], *at;
  int argc = 0;
  snprintf(copy, sizeof copy, "%s", line);
  for (char *word = strtok_r(copy, " ", &at); word; word = strtok_r(NULL, " ", &at)) argv[argc++] = word;
  *p = (parsed){.k = command_find(argv[0])};
  assert_non_null(p->k);
  assert_int_equal(mem_new(&p->config, 1, p->k->config_bytes), STATUS_OK);
  assert_int_equal(options_defaults(p->k->rows, p->config), STATUS_OK);
  status st = options_parse(p->k->rows, p->config, argc - 1, argv + 1, p->k->arguments ? &p->arguments : NULL,
                            &p->seen);
  return st ? st : p->k->prepare(p->config, &p->arguments, &p->seen);
}

static void forget(parsed *p) {
  options_free(p->k->rows, p->config);
  mem_free(p->config);
  strings_free(&p->arguments);
  options_seen_free(&p->seen);
}

static void accept_line(const char *line) {
  parsed p;
  if (parse(&p, line)) fail_msg("%s: %s", line, status_message());
  forget(&p);
}

static void refuse_line(const char *line, const char *expected) {
  parsed p;
  if (parse(&p, line) != STATUS_BAD_INPUT) fail_msg("accepted: %s", line);
  assert_contains(status_message(), expected);
  forget(&p);
}

static void rows_are_whole(const option *rows, bool in_items) {
  for (const option *r = rows; r->flag || r->key || r->fields; r++) {
    const char *name = r->flag ? r->flag : r->key;
    if (r->type == OPTION_GROUP || r->type == OPTION_ITEMS) {
      assert_non_null(r->fields);
      rows_are_whole(r->fields, r->type == OPTION_ITEMS);
    }
    if (r->type == OPTION_ITEMS && (!r->item_bytes || (r->flag && !r->parse_item)))
      fail_msg("%s: an item cannot be made", name);
    if (r->type == OPTION_CHOICE && (!r->choice || !r->choice(0)))
      fail_msg("%s: nothing to choose from", name);
    if (r->flag && !r->help) fail_msg("--%s: has no help", name);
    if (in_items && r->flag) fail_msg("%s: a field has no flag", name);
  }
}

static void every_command_is_whole(void **state) {
  (void)state;
  int n = 0;
  for (const command *const *k = command_table(); *k; k++, n++) {
    assert_ptr_equal(command_find((*k)->name), *k);
    assert_true((*k)->help && (*k)->examples && (*k)->rows && (*k)->prepare && (*k)->run &&
                (*k)->config_bytes);
    assert_int_equal(!(*k)->topic, !(*k)->write_topic);
    assert_int_equal(!(*k)->topic, !(*k)->topic_help);
    rows_are_whole((*k)->rows, false);
  }
  assert_int_equal(n, 10);
  assert_null(command_find("report"));
}

/* The examples of --help, without "mpirun -n N". */
static void every_example_is_accepted(void **state) {
  (void)state;
  for (const command *const *k = command_table(); *k; k++) {
    for (const char *at = (*k)->examples; (at = strstr(at, "mpistill "));) {
      char line[1024];
      at += strlen("mpistill ");
      snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
      accept_line(line);
    }
  }
}

static void commands_of_the_readme_are_accepted(void **state) {
  (void)state;
  static const char *const lines[] = {
      "import idx train=train-images-idx3-ubyte,train-labels-idx1-ubyte test=t10k-images,t10k-labels "
      "--output mnist.h5",
      "import npy train=x.npy --output set.h5 --name set --source here --licence CC0 --force",
      "import csv train=a.csv --label-column class --categorical --standardize --output t.h5 --quiet",
      "create cnn --input 1x28x28 --channels 32,64 --hidden 128 --classes 10 --output s.onnx",
      "create mlp --layers 64,32,10 --dropout 0.2 --batch-norm --activation tanh --seed 3 --output s.onnx",
      "train --model a.onnx --dataset d.h5 --optimizer adamw --learning-rate 1e-3 --weight-decay 0.01 "
      "--schedule one-cycle "
      "--warmup-epochs 1 --epochs 20 --batch 128 --shards 8 --threads 2 --seed 1 --clip-norm 1 --log "
      "run.jsonl --force --restart "
      "--quiet --json --output b.onnx",
      "train --model a.onnx --dataset d.h5 --loss cross-entropy:1:label_smoothing=0.1 --output b.onnx",
      "teach --dataset d.h5 --teacher wide.onnx --teacher models/conv.onnx --dtype float32 --top-k 5 --block "
      "512 --output soft",
      "aggregate a.h5 b.h5 --method logit-mean --weights 0.5,0.5 --temperature 4 --dataset d.h5 --output "
      "e.h5",
      "distill --student s.onnx --dataset d.h5 --soft-labels a.h5 --soft-labels b.h5 --method "
      "probability-mean --weights 1,2 "
      "--trust-rows --loss kd:0.9:temperature=4 --loss cross-entropy:0.1 --output o.onnx",
      "evaluate --model a.onnx --dataset d.h5",
      "run r.yaml --dry-run",
      "run r.yaml --resume --set distill.epochs=5 --set seed=2 --json",
  };
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) accept_line(lines[i]);
}

#define DISTILL "distill --student s --dataset d --output o "
#define SOFT DISTILL "--soft-labels a "

static void wrong_combinations_are_refused(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {DISTILL, "--soft-labels FILE is needed"},
      {SOFT "--loss kd:1 --kd-weight 0.5", "--kd-weight: the losses listed have weights of their own"},
      {SOFT "--kd-weight 1.5", "--kd-weight: 1.5 is out of range"},
      {SOFT "--temperature 0", "--temperature: 0 is out of range"},
      {SOFT "--loss cross-entropy:1", "none of them reads the soft labels"},
      {SOFT "--loss kd:0", "all weights are 0"},
      {SOFT "--loss kd", "KIND:WEIGHT was expected"},
      {SOFT "--loss dk:1", "'dk' is not known (did you mean 'kd'?)"},
      {SOFT "--loss kd:1:temprature=3", "unknown key 'temprature'"},
      {SOFT "--loss kd:1:label_smoothing=0.1", "loss 'kd' has no label_smoothing"},
      {SOFT "--loss kd:1 --loss cross-entropy:1:temperature=3", "loss 'cross-entropy' has no temperature"},
      {SOFT "--loss kd:1:temperature=0", "temperature: 0 is out of range (more than 0"},
      {SOFT "--loss kd:1:temperature_end=0", "temperature_end: 0 is out of range (more than 0"},
      {SOFT "--method logit-mean", "--method: one soft-label file leaves nothing to combine"},
      {SOFT "--soft-labels b --method aekd --weights 1,2", "--weights: not an option of method 'aekd'"},
      {DISTILL "--live-teacher a=x --live-teacher a=y", "teacher 'a': two teachers have this name"},
      {SOFT "--weights 1,2", "weights: 2 given for 1 soft-label files"},
      {SOFT "--optimizer adamw --momentum 0.9", "--momentum: not an option of optimizer 'adamw' (of 'sgd')"},
      {SOFT "--beta1 0.9", "--beta1: not an option of optimizer 'sgd'"},
      {SOFT "--step-factor 0.5", "--step-factor: not an option of schedule 'cosine' (of 'step')"},
      {SOFT "--schedule constant --final-factor 0.5", "--final-factor: not an option of schedule 'constant'"},
      {SOFT "--nesterov --momentum 0", "nesterov: needs a momentum"},
      {SOFT "--epochs 2 --warmup-epochs 3", "warm-up: 3 epochs, but the training has 2"},
      {"train --model m --dataset d --output o --temperature 4", "unknown option '--temperature'"},
      {"train --model m --dataset d --output o --loss kd:1", "loss 'kd' needs soft labels"},
      {"train --student m --dataset d --output o", "--model FILE is needed"},
      {"teach --dataset d --output o", "--teacher NAME=FILE[:KEY=VALUE...] is needed"},
      {"teach --dataset d --output o --teacher a=x --teacher a=y",
       "teacher 'a': two teachers have this name"},
      {"teach --dataset d --output o --teacher x/a.onnx --teacher y/a.onnx", "two teachers have this name"},
      {"teach --dataset d --output o --teacher =x", "NAME=FILE was expected"},
      {"teach --dataset d --output o --teacher a= ", "NAME=FILE was expected"},
      {"teach --dataset d --output o --teacher .a=x", "the name becomes a file's name"},
      {"teach --dataset d --output o --teacher a --dtype float64", "valid: float16, float32"},
      {"aggregate --output e", "soft-label files to combine are needed"},
      {"aggregate a b --output e --weights 1", "weights: 1 given for 2"},
      {"aggregate a b --output e --weights 0,0", "weights: all are 0"},
      {"aggregate a b --output e --weights -1,2", "out of range"},
      {"aggregate a b --output e --method mean", "valid: "},
      {"create --output s", "a kind of model"},
      {"create mpl --layers 1,2 --output s", "(did you mean 'mlp'?)"},
      {"create mlp cnn --output s", "one too many"},
      {"create mlp --layers 3,2 --depth 20 --output s", "--depth: not an option of 'mlp'"},
      {"create resnet --layers 3,2 --output s", "--layers: not an option of 'resnet'"},
      {"import --output s", "a format is needed"},
      {"import idx --output s", "SPLIT=FILE"},
      {"inspect", "the folder of a run, is needed"},
      {"inspect a b", "'b' is one too many"},
      {"run", "a recipe (YAML) is needed"},
      {"run r --resume --restart", "exclude each other"},
      {"evaluate --model m --dataset d --log x", "unknown option '--log'"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse_line(cases[i][0], cases[i][1]);
}

static void teachers_are_named(void **state) {
  (void)state;
  static const char *const cases[][3] = {{"wide=models/w.onnx", "wide", "models/w.onnx"},
                                         {"models/w.onnx", "w", "models/w.onnx"},
                                         {"runs/a=b/w.onnx", "w", "runs/a=b/w.onnx"},
                                         {"w", "w", "w"},
                                         {"w=a=b", "w", "a=b"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char line[256];
    parsed p;
    snprintf(line, sizeof line, "teach --dataset d --output o --teacher %s", cases[i][0]);
    assert_int_equal(parse(&p, line), STATUS_OK);
    const mpistill_teacher *t = ((mpistill_teach_options *)p.config)->teachers.items;
    assert_string_equal(t->name, cases[i][1]);
    assert_string_equal(t->model, cases[i][2]);
    forget(&p);
  }
}

static void losses_take_the_common_temperature(void **state) {
  (void)state;
  parsed p;
  assert_int_equal(
      parse(&p, SOFT "--temperature 3 --loss kd:0.5 --loss kd:0.5:temperature=8 --loss cross-entropy:1"),
      STATUS_OK);
  const mpistill_train_options *o = p.config;
  assert_int_equal(o->losses.n, 3);
  assert_true(o->losses.items[0].temperature == 3 && o->losses.items[1].temperature == 8 &&
              o->losses.items[2].temperature == 0);
  forget(&p);
}

static void the_public_defaults_are_those_of_the_command_line(void **state) {
  (void)state;
  mpistill_train_options train;
  mpistill_evaluate_options evaluate;
  mpistill_train_defaults(&train);
  mpistill_evaluate_defaults(&evaluate);
  assert_string_equal(train.optimizer.kind, "sgd");
  assert_true(train.optimizer.learning_rate == 0.1 && train.optimizer.momentum == 0.9 &&
              train.optimizer.weight_decay == 0);
  assert_string_equal(train.schedule.kind, "cosine");
  assert_true(train.schedule.warmup_epochs == 0 && train.epochs == 10 && train.batch == 128 &&
              train.shards == 0);
  assert_true(train.temperature == 4 && train.kd_weight == 0.9 && train.seed == 0 && train.clip_norm == 0);
  assert_string_equal(train.split, "train");
  assert_string_equal(evaluate.split, "test");
  assert_string_equal(mpistill_version(), MPISTILL_VERSION);
}

static void help_names_everything(void **state) {
  (void)state;
  char *text;
  size_t n;
  FILE *f = open_memstream(&text, &n);
  commands_help(f);
  command_help(command_find("distill"), f);
  command_find("distill")->write_topic(f);
  command_find("aggregate")->write_topic(f);
  command_find("create")->write_topic(f);
  command_find("run")->write_topic(f);
  fclose(f);
  static const char *const needles[] = {"  aggregate  combine",
                                        "mpistill distill --student student.onnx",
                                        "--kd-weight X",
                                        "[0.9]",
                                        "--help-losses",
                                        "KL(p || q)",
                                        "probability-mean\n",
                                        "resnet\n",
                                        "distill.optimizer.learning_rate",
                                        "teachers[].soft_labels",
                                        "student.create"};
  for (size_t i = 0; i < sizeof needles / sizeof *needles; i++) assert_contains(text, needles[i]);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_command_is_whole),
      cmocka_unit_test(every_example_is_accepted),
      cmocka_unit_test(commands_of_the_readme_are_accepted),
      cmocka_unit_test(wrong_combinations_are_refused),
      cmocka_unit_test(teachers_are_named),
      cmocka_unit_test(losses_take_the_common_temperature),
      cmocka_unit_test(the_public_defaults_are_those_of_the_command_line),
      cmocka_unit_test(help_names_everything),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
