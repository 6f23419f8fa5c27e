/* ranks: 1 2 4 */
/* The library's calls on a caller's communicator: checked options, the same answer on all ranks. */
#include "mpistill/mpistill.h"

#include "store/dataset.h"
#include "testing.h"

#include <mpi.h>
#include <unistd.h>

enum { ROWS = 40, WIDTH = 4, CLASSES = 3 };

static mpistill *m;
static int rank;
static char folder[64], data[96], student[96], trained[96];

static void write_dataset(void) {
  static float rows[ROWS * WIDTH];
  static int32_t labels[ROWS];
  const array_spec x = {.name = "x", .type = ELEMENT_FLOAT32, .rank = 2, .dims = {ROWS, WIDTH}};
  const array_spec y = {.name = "label", .type = ELEMENT_INT32, .rank = 1, .dims = {ROWS}};
  dataset_writer *w;
  for (int i = 0; i < ROWS; i++) {
    labels[i] = i % CLASSES;
    rows[i * WIDTH + labels[i]] = 1; /* the label can be read off */
  }
  assert_int_equal(dataset_writer_new(&w, data, true, "small", "", ""), STATUS_OK);
  assert_int_equal(dataset_writer_array(w, "train", &x), STATUS_OK);
  assert_int_equal(dataset_writer_array(w, "train", &y), STATUS_OK);
  assert_int_equal(dataset_writer_append(w, "train", "x", rows, ROWS), STATUS_OK);
  assert_int_equal(dataset_writer_append(w, "train", "label", labels, ROWS), STATUS_OK);
  assert_int_equal(dataset_writer_finish(w), STATUS_OK);
  dataset_writer_free(&w);
}

static void write_student(void) {
  int64_t widths[] = {WIDTH, 8, CLASSES};
  mpistill_create_options o;
  mpistill_create_defaults(&o);
  o.kind = "mlp";
  o.layers = (mpistill_ints){3, widths};
  o.output = student;
  assert_int_equal(mpistill_create(&o), 0);
}

static void wrong_options_are_refused_on_all_ranks(void **state) {
  mpistill_train_options o;
  (void)state;
  mpistill_train_defaults(&o);
  o.batch = 0;
  o.optimizer.kind = "adam";
  assert_int_equal(mpistill_train(m, &o), 2);
  assert_contains(mpistill_message(), "batch: 0 is out of range");
  assert_contains(mpistill_message(), "(did you mean 'adamw'?)");
  assert_contains(mpistill_message(), "model: is needed");
  mpistill_train_defaults(&o);
  o.model = student, o.dataset = data, o.output = trained;
  mpistill_loss loss = {.kind = "kd", .weight = 1};
  o.losses = (mpistill_losses){1, &loss};
  assert_int_equal(mpistill_train(m, &o), 2);
  assert_contains(mpistill_message(), "loss 'kd' needs soft labels");
  assert_true(loss.temperature == 0); /* the caller's own */
  mpistill_teach_options t;
  mpistill_teach_defaults(&t);
  assert_int_equal(mpistill_teach(m, &t), 2);
  mpistill_aggregate_options a;
  mpistill_aggregate_defaults(&a);
  assert_int_equal(mpistill_aggregate(m, &a), 2);
  assert_int_equal(mpistill_run(m, &(mpistill_run_options){0}), 2);
}

static void one_ranks_mistake_is_everyones(void **state) {
  mpistill_evaluate_options o;
  mpistill_evaluation result;
  int size;
  (void)state;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  mpistill_evaluate_defaults(&o);
  o.model = student, o.dataset = data, o.split = "train";
  if (rank == size - 1) o.threads = 5000;
  assert_int_equal(mpistill_evaluate(m, &o, &result), 2);
  assert_contains(mpistill_message(), "threads: 5000 is out of range");
}

static void training_makes_the_student_better(void **state) {
  mpistill_train_options o;
  mpistill_evaluate_options e;
  mpistill_evaluation before, after;
  (void)state;
  mpistill_evaluate_defaults(&e);
  e.model = student, e.dataset = data, e.split = "train", e.out.quiet = true;
  if (mpistill_evaluate(m, &e, &before)) fail_msg("%s", mpistill_message());
  mpistill_train_defaults(&o);
  o.model = student, o.dataset = data, o.output = trained;
  o.epochs = 60, o.batch = 8, o.out.quiet = true;
  if (mpistill_train(m, &o)) fail_msg("%s", mpistill_message());
  e.model = trained;
  if (mpistill_evaluate(m, &e, &after)) fail_msg("%s", mpistill_message());
  assert_int_equal(after.samples, ROWS);
  assert_int_equal(after.parameters, WIDTH * 8 + 8 + 8 * CLASSES + CLASSES);
  assert_int_equal(after.errors, 0);
  assert_true(after.accuracy == 1 && after.nll < before.nll);
}

static int set_up(void **state) {
  MPI_Comm world = MPI_COMM_WORLD;
  (void)state;
  MPI_Comm_rank(world, &rank);
  snprintf(folder, sizeof folder, "%s", "/tmp/mpistill-test-XXXXXX");
  if (rank == 0 && !mkdtemp(folder)) return 1;
  MPI_Bcast(folder, sizeof folder, MPI_CHAR, 0, world);
  snprintf(data, sizeof data, "%s/data.h5", folder);
  snprintf(student, sizeof student, "%s/student.onnx", folder);
  snprintf(trained, sizeof trained, "%s/trained.onnx", folder);
  if (rank == 0) {
    write_dataset();
    write_student();
  }
  MPI_Barrier(world);
  return mpistill_open(&m, &world);
}

static int tear_down(void **state) {
  char command[96];
  (void)state;
  mpistill_close(&m);
  MPI_Barrier(MPI_COMM_WORLD);
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return rank == 0 ? system(command) : 0;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(wrong_options_are_refused_on_all_ranks),
      cmocka_unit_test(one_ranks_mistake_is_everyones),
      cmocka_unit_test(training_makes_the_student_better),
  };
  MPI_Init(&argc, &argv);
  int failed = cmocka_run_group_tests(tests, set_up, tear_down);
  MPI_Finalize();
  return failed;
}
