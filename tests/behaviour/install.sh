#!/bin/bash
# make install, a program of somebody else's against the installed library, and what the help says.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
build=${BUILD:-build}
case $build in /*) ;; *) build=$top/$build ;; esac

# ---- make ----
make -C "$top" --no-print-directory BUILD="$build" install DESTDIR="$work/root" PREFIX=/usr >make.log 2>&1
check make_install test $? = 0
for file in bin/mpistill lib/libmpistill.a lib/pkgconfig/mpistill.pc include/mpistill/mpistill.h share/mpistill/launch/quickstart.sh; do
  check "installed_${file//\//_}" test -s "root/usr/$file"
done
check installed_launch test "$(cd "$top/launch" && ls ./*.sh)" = "$(cd root/usr/share/mpistill/launch && ls ./*.sh)"
check installed_headers test "$(cd "$top/include/mpistill" && ls ./*.h)" = "$(cd root/usr/include/mpistill && ls ./*.h)"
check nothing_else test "$(cd root/usr && echo *)" = 'bin include lib share'
check installed_runs test "$(root/usr/bin/mpistill --version)" = "$("$mpistill" --version)"
make -C "$top" --no-print-directory help >make.help 2>&1
check make_help test $? = 0
for target in all quickstart check sanitize bench conformance install format info clean; do
  check "make_help_$target" grep -q "^$target " make.help
done
make -C "$top" --no-print-directory BUILD="$build" info >make.info 2>&1
check make_info test $? = 0
for fact in version compiler mpi hdf5 openblas onnx flags; do
  check "make_info_$fact" grep -q -E "^$fact +[^ ]" make.info
done

# ---- the library ----
cat >outside.c <<'END'
/* An untrained model, trained on the digits, through the public header alone. */
#include <mpi.h>
#include <mpistill/mpistill.h>
#include <stdio.h>

static int run(mpistill *m, char *dataset) {
  mpistill_create_options create;
  mpistill_train_options train;
  mpistill_evaluate_options evaluate;
  mpistill_evaluation e;
  int rank, st = 0;
  int64_t widths[] = {64, 32, 10};
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  mpistill_create_defaults(&create);
  create.kind = "mlp";
  create.layers = (mpistill_ints){3, widths};
  create.output = "fresh.onnx";
  if (rank == 0) st = mpistill_create(&create);
  MPI_Bcast(&st, 1, MPI_INT, 0, MPI_COMM_WORLD);
  if (st) return st;
  mpistill_train_defaults(&train);
  train.model = "fresh.onnx";
  train.dataset = dataset;
  train.epochs = 3;
  train.output = "trained.onnx";
  train.out.quiet = train.out.no_result = true;
  if ((st = mpistill_train(m, &train))) return st;
  mpistill_evaluate_defaults(&evaluate);
  evaluate.model = "trained.onnx";
  evaluate.dataset = dataset;
  evaluate.out.quiet = true;
  if ((st = mpistill_evaluate(m, &evaluate, &e))) return st;
  if (rank == 0) printf("%s %lld rows, accuracy %.3f\n", mpistill_version(), (long long)e.samples, e.accuracy);
  evaluate.model = "nowhere.onnx"; /* the same status and message on every rank, and the program goes on */
  st = mpistill_evaluate(m, &evaluate, &e);
  printf("rank %d: %d %s\n", rank, st, mpistill_message());
  return 0;
}

int main(int argc, char **argv) {
  mpistill *m;
  MPI_Comm world = MPI_COMM_WORLD;
  int st = 1;
  MPI_Init(&argc, &argv);
  if (argc == 2 && !(st = mpistill_open(&m, &world))) {
    st = run(m, argv[1]);
    if (st) fprintf(stderr, "%s\n", mpistill_message());
    mpistill_close(&m);
  }
  MPI_Finalize();
  return st;
}
END
export PKG_CONFIG_PATH=$work/root/usr/lib/pkgconfig
pc=(pkg-config --define-variable=prefix="$work/root/usr" mpistill)
check pkg_config_version test "$(pkg-config --modversion mpistill)" = "$("$mpistill" --version | sed 's/^mpistill //')"
# Installed for packing (DESTDIR), it is used from there by moving the prefix.
check pkg_config_cflags grep -q -F -- "-I$work/root/usr/include " <("${pc[@]}" --cflags)
check pkg_config_libs grep -q -F -- "-L$work/root/usr/lib " <("${pc[@]}" --libs)
read -r -a cflags < <("${pc[@]}" --cflags)
read -r -a libs < <("${pc[@]}" --libs)
check outside_compiles mpicc -std=c11 -Wall -Wextra -Werror "${cflags[@]}" outside.c -o outside "${libs[@]}"
status=0
mpi 2 timeout 120 ./outside "$digits" >out 2>err || status=$?
check outside_runs test "$status" = 0
check outside_learns grep -q -E '^[0-9.]+ [0-9]+ rows, accuracy 0\.[5-9]' out
check outside_model test -s trained.onnx
for rank in 0 1; do check "outside_message_$rank" grep -q "^rank $rank: 2 nowhere.onnx: cannot be opened" out; done
"$mpistill" create mlp --layers 64,32,10 --output same.onnx
same outside_same_as_command same.onnx fresh.onnx

# ---- help ----
run 0 --help
check help_status test "$status" = 0 -a ! -s err
commands='import inspect create train evaluate teach aggregate distill run'
for command in $commands; do check "help_lists_$command" grep -q -E "^ +$command +[a-z]" out; done
run 0 --version
check version grep -q -E '^mpistill [0-9]+\.[0-9]+\.[0-9]+$' out
options() { # COMMAND WORDS...: its help ends with 0, names every option, and shows the defaults
  local command=$1 word missing=''
  shift
  run 0 "$command" --help
  check "help_${command}_status" test "$status" = 0 -a ! -s err
  for word in "$@"; do grep -q -F -- "$word" out || missing="$missing $word"; done
  if [ -z "$missing" ]; then pass "help_${command}_words"; else fail "help_${command}_words (no$missing)"; fi
  check "help_${command}_example" grep -q "mpistill $command " out
}
options import --label-column --categorical --standardize --name --source --licence --output --quiet --force --help-formats
options inspect --json --verify
options create --layers --depth --width --channels --kernel --hidden --input --classes --dropout --batch-norm --activation --seed --output --force \
  --help-kinds '[relu]'
training=(--dataset --split --test-split --input --loss --optimizer --learning-rate --momentum --nesterov --weight-decay --beta1 --beta2 --epsilon
  --schedule --warmup-epochs --step-epochs --step-factor --final-factor --clip-norm --epochs --batch --shards --threads --seed --output --restart
  --quiet --json --log --force --help-losses '[sgd]' '[0.1]' '[0.9]' '[cosine]' '[10]' '[128]' '[train]' '[test]')
options train --model "${training[@]}"
options distill --student --soft-labels --method --weights --trust-rows --temperature --kd-weight "${training[@]}" '[4]' '[probability-mean]'
options evaluate --model --dataset --split --input --threads --quiet --json '[test]'
options teach --dataset --split --teacher --dtype --top-k --block --threads --output --restart --quiet --json --log --force '[float16]' '[train]'
options aggregate --dataset --method --weights --temperature --dtype --trust-rows --output --quiet --json --log --force '[probability-mean]' '[1]'
options run --set --dry-run --restart --resume --quiet --json --force --help-recipe
for command in $commands; do
  run 0 "$command" -h
  cp out short
  run 0 "$command" --help
  same "help_${command}_short" short out
done
# Help needs no MPI, and is said once on many ranks.
run 0 train --help
cp out once
run 4 train --help
same help_once_on_4_ranks once out
# Every key of the recipe's help is a key the recipe takes, and every flag's help line has words.
for topic in 'create --help-kinds' 'aggregate --help-methods' 'train --help-losses' 'run --help-recipe' 'import --help-formats'; do
  read -r command flag <<<"$topic"
  run 0 "$command" "$flag"
  check "topic_${command}" test "$status" = 0 -a -s out -a ! -s err
done
finish
