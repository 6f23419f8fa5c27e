#!/bin/bash
# Papernot et al. 2017 and 2018 (PATE): 250 teachers of 240 MNIST training rows each label public rows by noisy votes. The public rows are the
# first 9,000 of the test set and the student is tested on the last 1,000, as there. Epsilon here holds whatever the votes are; theirs is
# read from the votes and is itself private data. Their students are semi-supervised GANs; ours is a small convolutional net that learns from the
# answers, and then another one that learns from what the first is sure of among all public rows. No labels are looked at but for the figures.
# shellcheck source=tests/reproduce/lib.sh
. "$(dirname "$0")/lib.sh"
mnist
teachers=${TEACHERS:-250}
parts=()
for ((t = 0; t < teachers; t++)); do parts+=("part$t=train:$((60000 * t / teachers))-$((60000 * (t + 1) / teachers))"); done
part set.h5 "${parts[@]}" asked=test:0-1000 public=test:0-9000 test=test:9000-10000
alone create cnn --input 1x28x28 --channels 16,32 --kernel 3 --hidden 64 --classes 10 --dropout 0.3 --seed 1 --output untrained.onnx
list=() soft=()
for ((t = 0; t < teachers; t++)); do
  room
  alone train --model untrained.onnx --dataset set.h5 --split "part$t" --test-split none --epochs 100 --batch 32 --learning-rate 0.05 \
    --augment shift:pixels=2 --seed "$t" --quiet --output "teacher$t.onnx" &
  list+=(--teacher "teacher$t.onnx")
  soft+=("soft/teacher$t.h5")
done
wait
all teach --dataset set.h5 --split asked "${list[@]}" --output soft
# votes NAME: of an ensemble: rows answered, percent of them that are right, epsilon
votes() {
  "$python" -c '
import h5py, numpy as np, sys
e, y = h5py.File(sys.argv[1]), h5py.File("set.h5")["asked/label"][:]
z = e["logits"][:].astype(float)
answered = e["answered"][:] > 0 if "answered" in e else np.ones(len(z), bool)
print(answered.sum(), 100 * (z[answered].argmax(axis=1) == y[answered]).mean(), e.attrs["epsilon"])' "$1"
}
all aggregate "${soft[@]}" --method pate-lnmax --noise 20 --delta 1e-5 --seed 1 --output lnmax.h5
all aggregate "${soft[@]}" --method pate-gnmax --sigma1 150 --sigma2 40 --threshold 200 --delta 1e-5 --seed 1 --output gnmax.h5
for method in lnmax gnmax; do
  read -r answered right epsilon < <(votes $method.h5)
  row "$method: rows answered of 1000" "$([ $method = lnmax ] && echo 1000 || echo 286)" - "$answered"
  row "$method: percent of them right" "$([ $method = lnmax ] && echo 93.2 || echo -)" - "$right"
  row "$method: epsilon at delta 1e-5, whatever the votes" "$([ $method = lnmax ] && echo 8.03 || echo 1.97)" - "$epsilon"
  first='' second=''
  for s in $(seeds); do
    alone create cnn --input 1x28x28 --channels 16,32 --kernel 3 --hidden 64 --classes 10 --dropout 0.3 --seed "$s" --output "student$s.onnx"
    common="--student student$s.onnx --dataset set.h5 --temperature 1 --kd-weight 1 --augment shift:pixels=2 --fixed-labels"
    common+=" --batch 64 --learning-rate 0.05 --seed $s"
    # shellcheck disable=SC2086 # a list of words
    all distill $common --split asked --soft-labels $method.h5 --epochs 60 --output "$method$s.onnx"
    all teach --dataset set.h5 --split public --teacher "$method$s.onnx" --output public
    # shellcheck disable=SC2086
    all distill $common --split public --soft-labels "public/$method$s.h5" --confidence 0.9 --epochs 15 --output "again-$method$s.onnx"
    first+=" $(errors "$method$s.onnx" set.h5 | awk '{ print 100 - $1 / 10 }')"
    second+=" $(errors "again-$method$s.onnx" set.h5 | awk '{ print 100 - $1 / 10 }')"
  done
  # shellcheck disable=SC2086 # lists of numbers
  row "$method: accuracy of the first student, percent" - - $first
  # shellcheck disable=SC2086
  row "$method: accuracy of the second student, percent" "$([ $method = lnmax ] && echo 98.1 || echo 98.5)" - $second
done
