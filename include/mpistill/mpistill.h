/* mpistill: distributed multi-teacher distillation over MPI. The library's interface: one options struct and
 * one call a stage.
 *
 *     MPI_Init(&argc, &argv);
 *     mpistill *m;
 *     if (mpistill_open(&m, MPI_COMM_WORLD)) ...
 *     mpistill_teach_options o;
 *     mpistill_teach_defaults(&o);
 *     o.dataset = "mnist.h5"; ...
 *     if (mpistill_teach(m, &o)) fprintf(stderr, "%s\n", mpistill_message());
 *     mpistill_close(&m);
 *
 * Every call returns 0 (done), 1 (failed), 2 (bad input) or 75 (stopped early, the same call goes on), the
 * same on all ranks, and keeps a message for mpistill_message(). Calls are collective over the communicator
 * unless "Local" is said. Options are borrowed during the call; strings NULL where nothing is given. Paths
 * are relative to the working directory.
 *
 * SIGUSR1 and SIGUSR2 ask a call to stop: it blocks both in the calling thread and leaves them so. Block them
 * before other threads are started, or one of those is ended by them. No other signal should have a handler
 * while a call runs: oneDNN before 3.11.2 lets its frame be written over the heap (src/base/stop.h). */
#ifndef MPISTILL_MPISTILL_H
#define MPISTILL_MPISTILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Lists that options fill. */
typedef struct mpistill_strings {
  size_t n;
  char **items;
} mpistill_strings;
typedef struct mpistill_reals {
  size_t n;
  double *items;
} mpistill_reals;
typedef struct mpistill_ints {
  size_t n;
  int64_t *items;
} mpistill_ints;

/* What belongs to any command. */
typedef struct mpistill_output_options {
  bool quiet;            /* no progress, only warnings and errors */
  bool json;             /* results as one JSON object on stdout */
  bool no_result;        /* no results on stdout: for a stage inside a run */
  char *log;             /* file of JSON lines, NULL: none */
  bool force;            /* overwrite an existing output made from other inputs */
  double stop_before;    /* seconds before the batch job's end; 0: never */
  double stall_timeout;  /* seconds; the program's, not looked at by the library */
  bool mixed_processors; /* ranks may have unlike processors or libraries; outputs are marked by it */
} mpistill_output_options;

typedef struct mpistill_loss {
  char *kind; /* "kd", "cross-entropy", ...: `mpistill distill --help-losses` says what each computes and
                 reads */
  char *task; /* in the losses of the training options: it belongs to that task; NULL: to every one */
  double weight;
  double temperature;         /* of losses on softened logits; 0: that of the training options */
  double temperature_end;     /* the temperature moves there by the last step; 0: it stays */
  char *temperature_schedule; /* how: "linear" (NULL: the same), "cosine" */
  bool learn_temperature;     /* kd: it begins there and is learned, against the student */
  bool standardize;   /* kd, reverse-kl, jsd, dkd: rows of logits get mean 0 and standard deviation 1 first */
  double alpha, beta; /* dkd */
  double gamma;       /* dist */
  double label_smoothing; /* cross-entropy */
  double delta;           /* smooth-l1, soft-smooth-l1 */
} mpistill_loss;

typedef struct mpistill_losses {
  size_t n;
  mpistill_loss *items;
} mpistill_losses;

/* One output of a student, and what it learns there. */
typedef struct mpistill_task {
  char *name;
  char *output;     /* NULL: the one of the task's name, else the only one */
  char *labels;     /* array of labels or targets of the dataset; NULL: label.NAME or target.NAME */
  char *class_axis; /* of outputs of several positions: "first" (NULL): [n, C, ...], "last": [n, ..., C] */
  char *mask;       /* array of labels; its losses on soft labels are where that is above 0; NULL: all over */
  double weight;    /* factor of its losses */
  mpistill_losses losses; /* empty: those of the training options */
} mpistill_task;

typedef struct mpistill_tasks {
  size_t n;
  mpistill_task *items;
} mpistill_tasks;

/* A loss between inner tensors of a teacher, stored by mpistill_teach, and of the student. */
typedef struct mpistill_feature {
  char *
      kind; /* "hint", "attention", ...: `mpistill distill --help-losses` says what each computes and reads */
  double weight;
  char *student, *teacher;       /* names of tensors */
  char *student_to, *teacher_to; /* gram, relation: a second tensor each; NULL: the same */
  char *from;                    /* the teacher's name; NULL: the only file with such a tensor */
  char *layers;    /* "0-2,1-5": one loss each, a "{}" in the names is the student's layer and the teacher's;
                      NULL: none */
  char *projector; /* hint: "conv1x1", "linear", "mean", "none"; NULL: conv1x1 */
  int64_t heads;   /* relation; 0: the tensor's own, else 1 */
  double distance, angle; /* rkd: weights of the two */
} mpistill_feature;

typedef struct mpistill_features {
  size_t n;
  mpistill_feature *items;
} mpistill_features;

/* A random change of the rows that a model is trained on. */
typedef struct mpistill_augment {
  char *kind; /* "shift", "flip", "crop", "noise", "mixup", "cutmix": `mpistill teach --help-augment` says
                 what each does and reads */
  double probability; /* of a row to be changed; 0: flip 0.5, others 1 */
  int64_t pixels;     /* shift */
  int64_t padding;    /* crop */
  bool reflect;       /* crop: the padding is the image mirrored, not 0 */
  double deviation;   /* noise */
  double alpha;       /* mixup, cutmix */
} mpistill_augment;

typedef struct mpistill_augments {
  size_t n;
  mpistill_augment *items;
} mpistill_augments;

typedef struct mpistill_optimizer {
  char *kind; /* "sgd", "adamw" */
  double learning_rate;
  double momentum;              /* sgd */
  bool nesterov;                /* sgd */
  double weight_decay;          /* sgd: added to the gradient; adamw: decoupled */
  double beta1, beta2, epsilon; /* adamw */
} mpistill_optimizer;

typedef struct mpistill_schedule {
  char *kind; /* "constant", "step", "cosine", "one-cycle" */
  double warmup_epochs;
  double step_epochs;  /* step: epochs between drops */
  double step_factor;  /* step: factor of a drop */
  double final_factor; /* cosine, one-cycle: rate at the end relative to the highest */
} mpistill_schedule;

/* What a teacher's images are made of the dataset's, in this order. */
typedef struct mpistill_preprocess {
  mpistill_ints size;  /* height, width to resize to (bilinear), or one for both; empty: as they are */
  mpistill_ints crop;  /* height, width of the middle that is kept; empty: all */
  char *channel_order; /* "same" (NULL), "reversed": RGB to BGR */
  mpistill_reals scale, offset; /* x * scale + offset, one number or one a channel; empty: 1, 0 */
  char *layout;                 /* "nchw" (NULL), "nhwc" */
} mpistill_preprocess;

typedef struct mpistill_teacher {
  char *name;
  char *model;       /* ONNX, or */
  char *soft_labels; /* a file made elsewhere */
  char *input;       /* input array of the dataset */
  char *task;        /* of a recipe: which of its tasks it teaches */
  char *output; /* of the model, with its logits or numbers; NULL: the one of the task's name, else the only
                   one */
  char *labels; /* array of labels whose classes it knows; NULL: that of the task */
  char *class_axis;         /* as in mpistill_task; NULL: as the task */
  bool values;              /* the output holds numbers, not logits */
  mpistill_strings classes; /* names or numbers of the dataset's classes, by position in the teacher's output;
                               empty: all in order */
  mpistill_strings taps;    /* tensors of the model that are stored beside its logits */
  bool is_private; /* only its own ranks open the model and the data; nothing but soft labels leaves them */
  mpistill_ints
      ranks;        /* those ranks; empty: as many for each private teacher, in order, and for all others */
  char *data;       /* a dataset of its own that it is measured on, NULL: none */
  char *data_split; /* NULL: "train" */
  mpistill_preprocess preprocess;
} mpistill_teacher;

typedef struct mpistill_teachers {
  size_t n;
  mpistill_teacher *items;
} mpistill_teachers;

typedef struct mpistill_train_options {
  char *model; /* the student, ONNX */
  char *dataset;
  char *split;                  /* "train" */
  char *test_split;             /* measured on after training: "test", where it is there; "none": none */
  char *input;                  /* which input array, NULL: the only one */
  mpistill_tasks tasks;         /* empty: one, at the student's only output */
  mpistill_strings soft_labels; /* none: plain training; of several tasks "TASK=FILE" */
  char *method; /* several soft_labels of a task: how they are combined; numbers always by their mean */
  char *method_tensor; /* amtml: the student's tensor that weights are learned from */
  mpistill_reals weights;
  bool trust_rows;            /* accept soft labels without a dataset hash */
  mpistill_losses losses;     /* empty: made of kd_weight and temperature */
  mpistill_features features; /* losses on inner tensors, beside those */
  mpistill_strings
      feature_files; /* teachers' soft-label files to find their tensors in, beside soft_labels */
  double kd_weight;  /* cross-entropy gets 1 - kd_weight */
  double temperature;
  double confidence;         /* rows whose soft labels give no class as much have no soft loss; 0: all have */
  mpistill_augments augment; /* changes of the rows, in this order, drawn anew each epoch */
  mpistill_teachers
      live_teachers; /* ONNX models that are asked as the student learns, in place of soft_labels */
  mpistill_teachers
      feature_teachers; /* whose inner tensors features read beside live ones; none: live_teachers' */
  int64_t
      teaching_ranks; /* ranks that they are asked on, -1: by cost; 0: those that train ask for themselves */
  char *live_dtype;   /* their logits and inner tensors are rounded to: "float16", "float32" */
  bool fixed_labels;  /* soft labels are of the rows as they are, and serve changed rows all the same */
  mpistill_optimizer optimizer;
  mpistill_schedule schedule;
  int64_t shuffle_window;  /* rows that are shuffled together and read together where they do not fit into
                              memory; 0: all */
  double clip_norm;        /* 0: none */
  mpistill_strings freeze; /* patterns of names of parameters that stay as they are */
  char *adaptive_split;    /* labelled rows that student and teachers are compared on before each epoch, to
                              choose kd's weight, temperature and teachers; NULL: they stay */
  mpistill_strings adaptive_files; /* the teachers' soft labels of those rows, one for each of soft_labels */
  char *prior_split; /* labelled rows to correct the last layer's biases on when the training is over; NULL:
                        none */
  mpistill_reals priors; /* shares of the classes there; empty: those of their labels */
  int64_t epochs;
  int64_t batch;      /* rows of the global batch */
  int64_t shards;     /* 0: largest power of two <= batch / 32, between 1 and 64 */
  char *reduce_dtype; /* gradients and their sums are rounded to: "float32", "bfloat16" */
  int64_t threads;    /* 0: OMP_NUM_THREADS, else 1 */
  uint64_t seed;
  char *output;
  char *precision;          /* of the student that is written: "float32", "float16", "int8" */
  int64_t calibration_rows; /* int8: rows of the split that ranges of activations are found from */
  char *checkpoint; /* folder of checkpoints, removed when the student is written; NULL: OUTPUT.ckpt */
  double checkpoint_seconds; /* between two checkpoints */
  bool restart;              /* forget a checkpoint that is there */
  mpistill_output_options out;
} mpistill_train_options;

typedef struct mpistill_teach_options {
  char *dataset;
  char *split;
  mpistill_teachers teachers;
  char *dtype;               /* "float16", "float32" */
  int64_t top_k;             /* 0: all */
  int64_t block;             /* rows a block; 0: from the model's cost */
  mpistill_augments augment; /* changes of the rows that are labelled ... */
  int64_t views;             /* ... in as many drawings, for as many epochs; 0: one */
  uint64_t seed;             /* of them */
  mpistill_strings
      taps; /* "TENSOR" of every teacher, or "TEACHER=TENSOR" of one: stored as those of a teacher */
  mpistill_strings is_private;    /* "TEACHER" or "TEACHER=DATA": as is_private and data of a teacher */
  mpistill_preprocess preprocess; /* of teachers that have none of their own */
  int64_t threads;
  char *output; /* folder: OUTPUT/<teacher>.h5 */
  bool restart;
  mpistill_output_options out;
} mpistill_teach_options;

typedef struct mpistill_aggregate_options {
  mpistill_strings inputs;
  char *dataset;          /* labelled rows for the metrics; NULL: no metrics against labels */
  char *labels;           /* array of labels or targets there; NULL: "label", of numbers "target" */
  char *method;           /* NULL: "probability-mean", of numbers "logit-mean", their mean */
  mpistill_reals weights; /* empty: equal; made to sum to 1 */
  double temperature;
  bool calibrate; /* each teacher's logits are divided by the temperature that fits labelled rows best */
  mpistill_strings
      fit;         /* calibrate, learned: soft labels of other rows to find it from, one file a teacher */
  double held_out; /* ... without them: the share of the labelled rows that it is found from */
  bool per_class;  /* learned: weights for each class */
  double noise;    /* pate-lnmax: scale of the Laplace noise */
  double sigma1, sigma2, threshold; /* pate-gnmax */
  double delta;                     /* pate-*: of (epsilon, delta) */
  char *tensor;                     /* amtml, of a recipe: see method_tensor of training */
  uint64_t seed;                    /* of held-out rows and of rules that draw */
  char *dtype;
  bool trust_rows;
  char *output;
  mpistill_output_options out;
} mpistill_aggregate_options;

typedef struct mpistill_evaluate_options {
  char *model;
  char *dataset;
  char *split;
  char *input;
  mpistill_tasks tasks;           /* empty: the only output */
  mpistill_preprocess preprocess; /* of the model's input, and of the other's */
  char *against;                  /* another model to compare it with, NULL: none */
  int64_t threads;
  mpistill_output_options out;
} mpistill_evaluate_options;

typedef struct mpistill_evaluation {
  int64_t samples; /* of the first task: labelled rows or positions, or numbers with a target */
  int64_t errors;
  double accuracy, nll, ece; /* NaN without labelled rows, and of numbers */
  double mean_iou;           /* of outputs of several positions; else NaN */
  double mse, mae, r2;       /* of numbers; else NaN */
  int64_t parameters;
  int64_t bytes;    /* of the model file */
  double latency_s; /* median of one row, one thread, after warm-up */
} mpistill_evaluation;

typedef struct mpistill_create_options {
  char *kind; /* "mlp", "cnn", "resnet", "mobilenet", "transformer", "vit", "lstm", "gru", "two-tower" */
  mpistill_ints layers; /* mlp: widths from input to classes */
  int64_t depth;        /* resnet: 6n + 2; transformer, vit: blocks, 0: 4; lstm, gru: layers, 0: 1 */
  int64_t width; /* resnet, mobilenet: channels of the first stage, 0: 16; of tokens, patches, embeddings, 0:
                    64 */
  mpistill_ints channels; /* cnn: of each convolution; empty: 32, 64 */
  int64_t kernel;         /* cnn: 3 or 5; 0: 5 */
  int64_t hidden; /* cnn, two-tower: units of the fully connected layer, 0: there is none; lstm, gru: of the
                     state */
  mpistill_ints input;  /* images: channels, height, width; lstm, gru without tokens: length, features */
  int64_t tokens;       /* transformer, lstm, gru: number of different tokens */
  int64_t length;       /* ... and how many a row has */
  int64_t heads;        /* transformer, vit: of attention; 0: 4 */
  int64_t patch;        /* vit: side of a patch; 0: 4 */
  int64_t users, items; /* two-tower: how many there are */
  int64_t classes;
  mpistill_strings tasks; /* "digit:10": an output of that name and width for each, in place of classes */
  double dropout;
  bool batch_norm;  /* mlp, cnn */
  char *activation; /* mlp, cnn: "relu", "tanh", "sigmoid", "leaky-relu" */
  uint64_t seed;
  char *output;
  mpistill_output_options out;
} mpistill_create_options;

typedef struct mpistill_import_options {
  char *format;                  /* "idx", "cifar", "csv", "npy" */
  mpistill_strings sources;      /* "train=images,labels", "test=..." */
  char *label_column;            /* csv */
  bool categorical;              /* csv: text columns become numbers */
  bool standardize;              /* csv: scale and offset from the first split */
  char *name, *source, *licence; /* root attributes */
  char *output;
  mpistill_output_options out;
} mpistill_import_options;

typedef struct mpistill_run_options {
  char *recipe;         /* YAML file */
  mpistill_strings set; /* "distill.epochs=5" */
  bool dry_run;
  bool restart;
  mpistill_output_options out;
} mpistill_run_options;

/* A student on the way to the student (teacher assistant, Mirzadeh et al. 2020): it learns from the teachers,
 * or from the assistant before it, and teaches the next. */
typedef struct mpistill_assistant {
  char *name;
  char *model;                    /* ONNX, or */
  mpistill_create_options create; /* create.kind is set */
  int64_t epochs;                 /* 0: those of the student */
} mpistill_assistant;

typedef struct mpistill_assistants {
  size_t n;
  mpistill_assistant *items;
} mpistill_assistants;

/* A recipe, as read. */
typedef struct mpistill_recipe {
  char *dataset;
  char *output;
  uint64_t seed;
  bool baseline; /* also train the same student on hard labels alone */
  mpistill_teachers teachers;
  mpistill_teach_options teach;
  mpistill_aggregate_options aggregate;
  bool live;       /* teachers are asked as the student learns; distill.teaching_ranks says where */
  char *fit_split; /* rows that the teachers label for aggregate.fit; NULL: none */
  struct {
    char *model;                    /* ONNX, or */
    mpistill_create_options create; /* create.kind is set */
  } student;
  mpistill_assistants assistants; /* in the order in which they learn */
  int64_t generations; /* the student is trained so often, from the second time on by itself as it was before
                          (born again, Furlanello et al. 2018); with other random numbers each time */
  mpistill_train_options distill;
  int64_t threads;
} mpistill_recipe;

typedef struct mpistill mpistill;

/* Collective over `parent` (an MPI_Comm, passed by address so that this header needs no <mpi.h>); it is
 * duplicated. */
int mpistill_open(mpistill **out, const void *parent_comm);
void mpistill_close(mpistill **m);

int mpistill_train(mpistill *m, const mpistill_train_options *o);
int mpistill_teach(mpistill *m, const mpistill_teach_options *o);
int mpistill_aggregate(mpistill *m, const mpistill_aggregate_options *o);
int mpistill_evaluate(mpistill *m, const mpistill_evaluate_options *o, mpistill_evaluation *result);
int mpistill_run(mpistill *m, const mpistill_run_options *o);
/* Local. */
int mpistill_create(const mpistill_create_options *o);
int mpistill_import(const mpistill_import_options *o);

/* Local. Fill with the defaults the command line has. */
void mpistill_train_defaults(mpistill_train_options *o);
void mpistill_loss_defaults(
    mpistill_loss *l); /* alpha, beta, gamma, delta; kind and weight are for the caller */
void mpistill_task_defaults(mpistill_task *t); /* weight; the name is for the caller */
void mpistill_feature_defaults(
    mpistill_feature *f); /* distance, angle; kind, weight and tensors are for the caller */
void mpistill_teach_defaults(mpistill_teach_options *o);
void mpistill_aggregate_defaults(mpistill_aggregate_options *o);
void mpistill_evaluate_defaults(mpistill_evaluate_options *o);
void mpistill_create_defaults(mpistill_create_options *o);
void mpistill_import_defaults(mpistill_import_options *o);

/* Local. The last message of this thread, and the version "0.1.0". */
const char *mpistill_message(void);
const char *mpistill_version(void);

#endif
