#!/bin/bash
# Hinton, Vinyals, Dean 2015, section 3: MNIST. Teachers of 1200 units with dropout on images moved by up to 2 pixels; students of 800 units
# on the images as they are, on hard labels and from the teachers at T = 20. There the gradient of the kd loss is about (z - v) / 10 for logits z
# and v, which reach 44: at the usual rate of 0.1 the student dies in the first epoch. Two lengths of the teachers' training were tried, 60 and
# 150 epochs, and these two rates; nothing else was chosen by its figures.
# shellcheck source=tests/reproduce/lib.sh
. "$(dirname "$0")/lib.sh"
mnist
teachers=
for t in 1 2 3 4 5; do
  large_teacher "$t"
  teachers+=" $(errors "teacher$t.onnx" "$OUT/mnist.h5")"
  all teach --dataset "$OUT/mnist.h5" --teacher "teacher$t.onnx" --output soft
done
# shellcheck disable=SC2086 # a list of numbers
row 'teacher 784-1200-1200-10, dropout, jitter of 2 pixels' 67 '<= 75' $teachers
all aggregate soft/teacher[1-5].h5 --method probability-mean --temperature 20 --output five.h5
hard='' one='' five=''
for s in $(seeds); do
  alone create mlp --layers 784,800,800,10 --seed "$s" --output "student$s.onnx"
  common="--dataset $OUT/mnist.h5 --batch 128 --seed $s"
  # shellcheck disable=SC2086
  all train --model "student$s.onnx" $common --epochs 20 --output "hard$s.onnx"
  for from in one five; do
    soft=five.h5
    [ $from = five ] || soft=soft/teacher1.h5
    # shellcheck disable=SC2086
    all distill --student "student$s.onnx" $common --soft-labels $soft --temperature 20 --kd-weight 0.97 --epochs 50 --learning-rate 0.01 \
      --output "$from$s.onnx"
  done
  hard+=" $(errors "hard$s.onnx" "$OUT/mnist.h5")"
  one+=" $(errors "one$s.onnx" "$OUT/mnist.h5")"
  five+=" $(errors "five$s.onnx" "$OUT/mnist.h5")"
done
# shellcheck disable=SC2086
row 'student 784-800-800-10 on hard labels' 146 '<= 146' $hard
# shellcheck disable=SC2086
row 'the same at T = 20 from one teacher' 74 '<= 74' $one
# shellcheck disable=SC2086
row 'the same at T = 20 from five teachers' - fewer $five
