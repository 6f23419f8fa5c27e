#!/bin/bash
# make bench-guard: instructions of three small fixed pieces of work, counted by callgrind, against tests/bench/guard.json.
# RENEW=1 make bench-guard writes that file anew: after a change that is meant to cost more, or with another compiler.
#
# Counted are a training step of an MLP with soft labels, one of a convolutional net, and blocks of teach; of each the instructions
# of this program and those of the libraries' kernels (OpenBLAS, oneDNN). Kernels are held to AVX2, which callgrind knows.
set -eu
cd "$(dirname "$0")/../.."
. tests/lib/mpi.sh
program=$(realpath "${MPISTILL:-${BUILD:-build}/mpistill}")
digits=$PWD/datasets/digits.h5
figures=$PWD/tests/bench/guard.json
guard=$PWD/tests/bench/guard.py
folder=$(mktemp -d "${TMPDIR:-/tmp}/mpistill-guard.XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMP_NUM_THREADS=1 OPENBLAS_CORETYPE=Haswell ONEDNN_MAX_CPU_ISA=AVX2

"$program" create mlp --layers 64,256,256,10 --seed 1 --output mlp.onnx >made
"$program" create cnn --input 1x8x8 --classes 10 --channels 8,16 --seed 1 --output cnn.onnx >made
"$program" teach --dataset "$digits" --teacher t=mlp.onnx --output soft --quiet >made # the dataset's hash is kept meanwhile

# count NAME FUNCTIONS COMMAND...: what these functions and all that they call execute.
count() {
  local name=$1 function toggles=()
  for function in $2; do toggles+=(--toggle-collect="$function"); done
  valgrind --tool=callgrind --callgrind-out-file="$name.out" "${toggles[@]}" "$program" "${@:3}" --quiet >said 2>errors ||
    { tail -n 5 errors >&2 && exit 1; }
}
count mlp trainer_run distill --student mlp.onnx --dataset "$digits" --soft-labels soft/t.h5 --epochs 1 --batch 128 --shards 4 \
  --output mlp-out.onnx
count cnn trainer_run train --model cnn.onnx --dataset "$digits" --epochs 1 --batch 256 --shards 4 --output cnn-out.onnx
count teach 'predictor_run softlabels_write_all' teach --dataset "$digits" --teacher t=mlp.onnx --output again
compiler=$(readelf -p .comment "$program" | sed -n 's/^ *\[ *[0-9a-f]*\] *//p' | head -n 1)
/usr/bin/python3 "$guard" "$figures" "$compiler" "${1:-}" mlp.out cnn.out teach.out
