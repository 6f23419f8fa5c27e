#!/bin/bash
# Letter recognition (UCI): a forest of 300 trees teaches a network of at most 5 % of its size, which comes within a point of it. The last
# 4,000 of the 20,000 rows are the test rows.
# shellcheck source=tests/reproduce/lib.sh
. "$(dirname "$0")/lib.sh"
csv=$DATA/letter/letter-recognition.csv
[ -s train.csv ] || { head -n 16001 "$csv" >train.csv && { head -n 1 "$csv" && tail -n 4000 "$csv"; } >test.csv; }
alone import csv train=train.csv test=test.csv --label-column lettr --standardize --output letter.h5
[ -s forest.onnx ] || "$python" "$top/tests/reproduce/make_forest.py" letter.h5 forest.onnx
all teach --dataset letter.h5 --teacher forest.onnx --dtype float32 --output soft
percent() { errors "$@" | awk '{ print 100 - $1 / 40 }'; }
forest=$(percent forest.onnx letter.h5)
row 'forest of 300 trees, accuracy in percent' - - "$forest"
hard='' soft=''
for s in $(seeds); do
  alone create mlp --layers 16,256,256,26 --seed "$s" --output "student$s.onnx"
  common="--dataset letter.h5 --optimizer adamw --learning-rate 0.003 --epochs 60 --batch 128 --seed $s"
  # shellcheck disable=SC2086 # a list of words
  all train --model "student$s.onnx" $common --output "hard$s.onnx"
  # shellcheck disable=SC2086
  all distill --student "student$s.onnx" --soft-labels soft/forest.h5 --temperature 1 --kd-weight 0.9 $common --output "soft$s.onnx"
  hard+=" $(percent "hard$s.onnx" letter.h5)"
  soft+=" $(percent "soft$s.onnx" letter.h5)"
done
row 'size of the network, percent of the forest' - '<= 5' "$(stat -c %s soft1.onnx forest.onnx | awk 'NR == 1 { a = $1 } NR == 2 { print 100 * a / $1 }')"
# shellcheck disable=SC2086 # lists of numbers
row 'network 16-256-256-26 on hard labels' - - $hard
# shellcheck disable=SC2086
row 'the same from the forest' - ">= $(awk "BEGIN { print $forest - 1 }")" $soft
