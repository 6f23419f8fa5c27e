# shellcheck shell=bash
# For the scripts of this folder: sourced, not run. Every command of mpistill does nothing where its output is there already.
set -eu
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"
. tests/lib/mpi.sh
mpistill=$(realpath "${MPISTILL:-build/mpistill}")
export PATH="${mpistill%/*}:$PATH" PYTHONPATH=$top/tests/lib PYTHONDONTWRITEBYTECODE=1
export python=/usr/bin/python3
name=$(basename "$0" .sh)
work=$OUT/$name
mkdir -p "$work"
cd "$work"
: >"$work.rows"

# alone ARGUMENTS...: mpistill on one process; all: on RANKS ranks. Quiet but for errors.
# A model that is there already (the last argument of create) is left as it is.
alone() {
  [ "$1" != create ] || [ ! -s "${*: -1}" ] || return 0
  "$mpistill" "$@" >>log 2>&1 || { tail -n 3 log && return 1; }
}
all() { "${mpirun[@]}" -n "$RANKS" "$mpistill" "$@" --quiet >>log 2>&1 || { tail -n 3 log && return 1; }; }

# errors MODEL DATASET [SPLIT]: how many of the split (test) a model has wrong.
errors() {
  "${mpirun[@]}" -n "$RANKS" "$mpistill" evaluate --model "$1" --dataset "$2" --split "${3:-test}" --json --quiet | sed -n 's/.*"errors": *\([0-9]*\).*/\1/p'
}

# row WHAT PAPER GOAL VALUE...: a line of the table; GOAL: as in "<= 75", a word, or "-".
row() {
  local what=$1 paper=$2 goal=$3
  shift 3
  printf '%s\t%s\t%s\t%s\t%s\n' "$name" "$what" "$paper" "$goal" "$*" >>"$work.rows"
  echo "$what: $* (paper: $paper)"
}

mnist() {
  [ -s "$OUT/mnist.h5" ] || MPISTILL=$mpistill "$top/datasets/mnist.sh" "$DATA/mnist" "$OUT/mnist.h5" 2>>log
}

# part FILE SPLIT...: other splits of MNIST (parts.py).
part() {
  [ -s "$1" ] || { "$python" "$top/tests/reproduce/parts.py" "$OUT/mnist.h5" "$1.part" "${@:2}" && mv "$1.part" "$1"; }
}

# large_teacher N: the Nth of Hinton's teachers, made once for all scripts: $OUT/hinton/teacherN.onnx.
large_teacher() {
  local n=$1
  mkdir -p "$OUT/hinton"
  cd "$OUT/hinton"
  alone create mlp --layers 784,1200,1200,10 --dropout 0.5 --seed "$n" --output "untrained$n.onnx"
  all train --model "untrained$n.onnx" --dataset "$OUT/mnist.h5" --augment shift:pixels=2 --epochs 150 --batch 256 --weight-decay 0.0001 \
    --seed "$n" --output "teacher$n.onnx"
  cd "$work"
}

# room: waits until fewer than RANKS jobs run in the background.
room() { while [ "$(jobs -rp | wc -l)" -ge "$RANKS" ]; do wait -n; done; }

seeds() { seq 1 "$SEEDS"; }
