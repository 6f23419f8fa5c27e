/* train, distill, evaluate. */
#include "cli/command.h"

#include "learn/augment.h"
#include "learn/feature.h"
#include "learn/loss.h"
#include "stages/options.h"
#include "stages/rules.h"
#include "stages/stages.h"

static status prepare_train(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  (void)arguments;
  return train_rules(config, seen, false);
}

static status prepare_distill(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  (void)arguments;
  return train_rules(config, seen, true);
}

static status run_train(comm *c, const void *config) {
  return stage_train(c, config);
}

static void write_features(FILE *out) {
  fputs("\nBetween inner tensors (--feature): s: the student's, t: the teacher's, [rows, D], [rows, tokens, "
        "D] or "
        "[rows, C, H, W];\nchannels are those of D or C, positions are tokens or places of H x W\n\n",
        out);
  for (const feature_kind *const *k = feature_kinds(); *k; k++) {
    fprintf(out, "--feature %s\n  %s\n  needs: a file of teach --tap", (*k)->name, (*k)->formula);
    for (const char *const *o = (*k)->options; o && *o; o++)
      fprintf(out, "%s%s", o == (*k)->options ? "; options: " : ", ", *o);
    fputc('\n', out);
  }
}

void write_augments(FILE *out) {
  fputs("x: a row as a model sees it; uniform(k), below(k, n) and words(k): its draws, of (seed, view, "
        "row)\n\n",
        out);
  for (const augment_kind *const *k = augment_kinds(); *k; k++) {
    fprintf(out, "--augment %s\n  %s\n  %s; options: probability", (*k)->name, (*k)->formula,
            (*k)->images ? "for images [rows, channels, height, width]" : "for rows of any floats");
    for (const char *const *o = (*k)->options; *o; o++) fprintf(out, ", %s", *o);
    fputc('\n', out);
  }
  fputs(
      "\n--augment KIND[:KEY=VALUE...] names one, as in shift:pixels=2. Training draws them anew each epoch; "
      "soft\nlabels must be of the same views (teach --augment ... --views N).\n",
      out);
}

static void write_losses(FILE *out) {
  fputs("z: the student's logits, t: the teachers'; p = softmax(t/T), q = softmax(z/T), T the temperature; "
        "y: the "
        "student's\nnumbers. A row is each position (pixel, frame) of outputs that have several.\n\n",
        out);
  for (const loss_kind *const *k = loss_kinds(); *k; k++) {
    fprintf(out, "%s\n  %s\n", (*k)->name, (*k)->formula);
    fprintf(out, "  needs: %s%s%s", (*k)->needs_soft ? "soft labels" : "",
            (*k)->needs_soft && (*k)->needs_labels ? ", " : "",
            !(*k)->needs_labels ? ""
            : (*k)->of_values   ? "targets"
                                : "labels");
    for (const char *const *o = (*k)->options; o && *o; o++)
      fprintf(out, "%s%s", o == (*k)->options ? "; options: " : ", ", *o);
    fputc('\n', out);
  }
  write_features(out);
  fputs("\n--loss [TASK/]KIND:WEIGHT[:KEY=VALUE...] names one, as in dkd:1:temperature=4:beta=2. The "
        "temperature "
        "moves "
        "to\ntemperature_end by the last step, with temperature_schedule linear or cosine.\n"
        "--feature KIND:WEIGHT:student=TENSOR:teacher=TENSOR[:KEY=VALUE...] names one between inner tensors, "
        "as in\n"
        "hint:10:student=block.{}.out:teacher=block.{}.out:layers=0-1,1-3. 'mpistill inspect MODEL' lists "
        "tensors.\n\nChanges of the rows: mpistill teach --help-augment\n",
        out);
}

const command command_train = {
    .name = "train",
    .help = "train a model on hard labels",
    .examples =
        "mpirun -n 4 mpistill train --model student.onnx --dataset mnist.h5 --epochs 20 --batch 128 --output "
        "baseline.onnx",
    .rows = train_option_rows,
    .config_bytes = sizeof(mpistill_train_options),
    .mpi = true,
    .out_at = offsetof(mpistill_train_options, out),
    .stops = true,
    .prepare = prepare_train,
    .run = run_train,
    .topic = "--help-losses",
    .topic_help = "what each loss computes",
    .write_topic = write_losses,
};

const command command_distill = {
    .name = "distill",
    .help = "train a student from soft labels (and hard labels where there are any)",
    .examples =
        "mpirun -n 4 mpistill distill --student student.onnx --dataset mnist.h5 --soft-labels ensemble.h5 "
        "--temperature 4 --kd-weight 0.9 --epochs 20 --batch 128 --output distilled.onnx",
    .rows = distill_option_rows,
    .config_bytes = sizeof(mpistill_train_options),
    .mpi = true,
    .out_at = offsetof(mpistill_train_options, out),
    .stops = true,
    .prepare = prepare_distill,
    .run = run_train,
    .topic = "--help-losses",
    .topic_help = "what each loss computes",
    .write_topic = write_losses,
};

static status prepare_evaluate(void *config, const mpistill_strings *arguments, const options_seen *seen) {
  (void)config, (void)arguments, (void)seen;
  return STATUS_OK;
}

static status run_evaluate(comm *c, const void *config) {
  return stage_evaluate(c, config, NULL);
}

const command command_evaluate = {
    .name = "evaluate",
    .help = "errors, accuracy, NLL, calibration, size, latency of a model",
    .examples = "mpirun -n 4 mpistill evaluate --model distilled.onnx --dataset mnist.h5 --split test --json",
    .rows = evaluate_option_rows,
    .config_bytes = sizeof(mpistill_evaluate_options),
    .mpi = true,
    .out_at = offsetof(mpistill_evaluate_options, out),
    .prepare = prepare_evaluate,
    .run = run_evaluate,
};
