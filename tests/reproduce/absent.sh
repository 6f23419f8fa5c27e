#!/bin/bash
# Hinton, Vinyals, Dean 2015, section 3: a transfer set without any 3, and one of 7s and 8s alone. The student learns from a teacher that
# knows all digits; then its biases are set so that on 10,000 held-out training rows, which the students do not see, each class has its share
# (the paper chose one offset, or two, by the errors on the test set). The transfer sets are the other 50,000 rows.
# shellcheck source=tests/reproduce/lib.sh
. "$(dirname "$0")/lib.sh"
mnist
large_teacher 1
for set in 012456789 78; do
  part set$set.h5 train=train:0-50000:$set held-out=train:50000-60000 test=test:0-10000
  all teach --dataset set$set.h5 --teacher "$OUT/hinton/teacher1.onnx" --output soft$set
  before='' after=''
  for s in $(seeds); do
    alone create mlp --layers 784,800,800,10 --seed "$s" --output "student$s.onnx"
    common="--dataset set$set.h5 --soft-labels soft$set/teacher1.h5 --temperature 20 --kd-weight 1 --seed $s"
    # shellcheck disable=SC2086 # lists of words
    all distill --student "student$s.onnx" $common --optimizer adamw --learning-rate 0.001 --weight-decay 0 --batch 128 --epochs 30 --output "before$set-$s.onnx"
    # One more epoch that changes nothing but the biases at its end.
    # shellcheck disable=SC2086
    all distill --student "before$set-$s.onnx" $common --epochs 1 --batch 1000 --learning-rate 0 --prior-split held-out --output "after$set-$s.onnx"
    before+=" $(errors "before$set-$s.onnx" set$set.h5)"
    after+=" $(errors "after$set-$s.onnx" set$set.h5)"
  done
  # shellcheck disable=SC2086 # lists of numbers
  if [ $set = 78 ]; then
    row 'only 7s and 8s in the transfer set' 4730 '<= 4730' $before
    row 'the same, biases by the share of the classes' 1320 '<= 1320' $after
  else
    row 'no 3 in the transfer set' 206 '<= 206' $before
    row 'the same, biases by the share of the classes' 109 '<= 109' $after
  fi
done
