#!/bin/bash
# make sanitize: unit tests, operator tests and a whole small run under AddressSanitizer and UBSan, then the small run under valgrind
# on 1 and 2 ranks with Open MPI's own suppressions.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/lib/mpi.sh
export OMP_NUM_THREADS=1
top=$PWD
failures=0
work=$(mktemp -d "${TMPDIR:-/tmp}/mpistill-sanitize.XXXXXX")
trap 'rm -rf "$work"' EXIT

verdict() { # NAME STATUS
  if [ "$2" = 0 ]; then
    echo "ok $1"
  else
    echo "not ok $1"
    failures=$((failures + 1))
  fi
}

# small_run NAME RANKS PROGRAM...: every stage on the digits.
small_run() {
  local name=$1 n=$2 status=0
  shift 2
  mkdir -p "$work/$name"
  (
    cd "$work/$name" || exit 1
    set -e
    "$@" create mlp --layers 64,16,10 --seed 1 --output student.onnx
    "$@" create cnn --input 1x8x8 --channels 4,8 --hidden 16 --batch-norm --classes 10 --seed 2 --output conv.onnx
    mpi "$n" "$@" train --model conv.onnx --dataset "$top/datasets/digits.h5" --epochs 1 --batch 256 --output teacher.onnx
    cat >recipe.yaml <<RECIPE
dataset: $top/datasets/digits.h5
output: run
teachers: [{name: conv, model: teacher.onnx}, {name: small, model: student.onnx}]
student: {create: mlp, layers: [64, 16, 10]}
distill: {epochs: 2, batch: 256, clip_norm: 1}
checkpoint: {every_seconds: 0}
RECIPE
    mpi "$n" "$@" run recipe.yaml --json
    mpi "$n" "$@" evaluate --model run/student.onnx --dataset "$top/datasets/digits.h5" --split test
    "$@" inspect run/ensemble.h5 --verify
  ) >"$work/$name.log" 2>&1 || status=1
  if [ $status != 0 ] || grep -q -E 'ERROR: AddressSanitizer|runtime error:|Invalid (read|write)|uninitialised' "$work/$name.log"; then
    status=1
    tail -n 40 "$work/$name.log"
  fi
  verdict "$name" $status
}

# Open MPI and its plugins keep memory until exit: leaks are valgrind's matter, with suppressions.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
sanitized="${BUILD:-build}/sanitize"
# With sanitizers the compiler warns of what cannot happen (GCC's manual says so).
BUILD=$sanitized SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-error' OPTIMIZE='-O1 -g' MPISTILL_PATIENCE=5 \
  tests/check.sh unit || failures=$((failures + 1))
small_run sanitize-1-rank 1 "$top/$sanitized/mpistill"
small_run sanitize-2-ranks 2 "$top/$sanitized/mpistill"

make -j"$(nproc)" --no-print-directory all >/dev/null || exit 1
supp=$(ls /usr/share/openmpi/openmpi-valgrind.supp 2>/dev/null)
for n in 1 2; do
  small_run "valgrind-$n" "$n" valgrind --quiet --child-silent-after-fork=yes --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
    ${supp:+--suppressions="$supp"} --suppressions="$top/tests/lib/valgrind.supp" "$top/${BUILD:-build}/mpistill"
done
[ "$failures" = 0 ] && echo 'sanitize: clean'
[ "$failures" = 0 ]
