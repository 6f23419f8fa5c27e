#!/bin/bash
# The main job, small: three different teachers become one student on the embedded digits, on 2 ranks. Run by `make quickstart`.
# RANKS=N sets the number of ranks (the results stay the same), OUTPUT the folder.
set -eu
cd "$(dirname "$0")/.."
mpistill=${MPISTILL:-build/mpistill}
out=${OUTPUT:-build/quickstart}
data=datasets/digits.h5
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
export OMP_NUM_THREADS=1
mpirun=("${MPIRUN:-mpirun}")
case $("${mpirun[0]}" --version 2>&1) in *'Open MPI'*) mpirun+=(--oversubscribe) ;; esac
run() { "${mpirun[@]}" -n "${RANKS:-2}" "$mpistill" "$@"; }
mkdir -p "$out"

echo '== three teachers, each trained on the labels'
"$mpistill" create mlp --layers 64,256,256,10 --dropout 0.3 --seed 1 --output "$out/wide-untrained.onnx" --force
"$mpistill" create cnn --input 1x8x8 --channels 32,64 --hidden 128 --classes 10 --seed 2 --output "$out/conv-untrained.onnx" --force
"$mpistill" create resnet --depth 8 --input 1x8x8 --classes 10 --seed 3 --output "$out/resnet-untrained.onnx" --force
for teacher in wide conv resnet; do
  run train --model "$out/$teacher-untrained.onnx" --dataset $data --epochs 30 --batch 64 --weight-decay 5e-4 --quiet --force \
    --output "$out/$teacher.onnx"
done

cat >"$out/recipe.yaml" <<RECIPE
dataset: $PWD/$data
output: run
seed: 1
teachers:
  - {name: wide, model: wide.onnx}
  - {name: conv, model: conv.onnx}
  - {name: resnet, model: resnet.onnx}
student: {create: mlp, layers: [64, 16, 10]}
baseline: true
distill:
  losses:
    - {kind: kd, weight: 0.9, temperature: 4}
    - {kind: cross-entropy, weight: 0.1}
  epochs: 60
  batch: 64
RECIPE

echo '== their soft labels, the ensemble, and a student of 1,210 parameters'
run run "$out/recipe.yaml" --quiet

echo
echo '== the same student from ten seeds: on hard labels, and distilled'
errors() { sed -n 's/^test: .*(\([0-9]*\) errors.*/\1/p'; }
for seed in 1 2 3 4 5 6 7 8 9 10; do
  "$mpistill" create mlp --layers 64,16,10 --seed $seed --output "$out/untrained.onnx" --force
  common="--dataset $data --epochs 60 --batch 64 --seed $seed --quiet --force"
  # shellcheck disable=SC2086 # a list of words
  hard=$(run train --model "$out/untrained.onnx" $common --output "$out/hard.onnx" | errors)
  # shellcheck disable=SC2086
  soft=$(run distill --student "$out/untrained.onnx" --soft-labels "$out/run/ensemble.h5" --temperature 4 --kd-weight 0.9 \
    $common --output "$out/distilled.onnx" | errors)
  echo "seed $seed: $hard errors of 360 on hard labels, $soft distilled"
  echo "$hard $soft" >&3
done 3>"$out/seeds"
awk '{ n++; hard += $1; soft += $2; gain = $1 - $2; sum += gain; squares += gain * gain }
  END { mean = sum / n; error = sqrt((squares - n * mean * mean) / (n - 1) / n)
    printf "mean: %.1f errors on hard labels, %.1f distilled; the gain is %.1f with a 95 %% interval of %.1f to %.1f\n",
      hard / n, soft / n, mean, mean - 2.262 * error, mean + 2.262 * error }' "$out/seeds"
