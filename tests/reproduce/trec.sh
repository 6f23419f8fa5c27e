#!/bin/bash
# TREC's six classes of questions: a transformer of four blocks teaches one of a single block with less than a quarter of its parameters, which
# comes within 1.5 points of it.
# shellcheck source=tests/reproduce/lib.sh
. "$(dirname "$0")/lib.sh"
[ -s trec.h5 ] || "$python" "$top/datasets/make_text.py" --format trec --train "$DATA/trec/TREC.train" --test "$DATA/trec/TREC.test" --length 24 --output trec.h5
adam='--optimizer adamw --learning-rate 0.002 --weight-decay 0.05 --warmup-epochs 1 --batch 64'
percent() { errors "$@" | awk '{ print 100 - $1 / 5 }'; }
# shellcheck disable=SC2086 # a list of words
for t in $(seeds); do
  alone create transformer --tokens 8000 --length 24 --width 64 --depth 4 --heads 4 --classes 6 --dropout 0.3 --seed "$t" --output "untrained$t.onnx"
  all train --model "untrained$t.onnx" --dataset trec.h5 $adam --epochs 12 --seed "$t" --output "teacher$t.onnx"
  alone create transformer --tokens 8000 --length 24 --width 16 --depth 1 --heads 4 --classes 6 --dropout 0.1 --seed "$t" --output "student$t.onnx"
  all teach --dataset trec.h5 --teacher "teacher$t.onnx" --tap block4.masked --tap norm --output soft
  all train --model "student$t.onnx" --dataset trec.h5 $adam --epochs 30 --seed "$t" --output "hard$t.onnx"
  all distill --student "student$t.onnx" --dataset trec.h5 --soft-labels "soft/teacher$t.h5" $adam --epochs 30 --seed "$t" --temperature 4 --kd-weight 0.9 \
    --feature attention-maps:0.1:student=block1.masked:teacher=block4.masked --output "soft$t.onnx"
done
parameters() { "$mpistill" inspect "$1" --json | sed -n 's/.*"parameters": *\([0-9]*\).*/\1/p'; }
teacher='' hard='' soft=''
for t in $(seeds); do
  teacher+=" $(percent "teacher$t.onnx" trec.h5)" hard+=" $(percent "hard$t.onnx" trec.h5)" soft+=" $(percent "soft$t.onnx" trec.h5)"
done
row 'parameters of the student, percent of the teacher' - '<= 25' "$(awk "BEGIN { print 100 * $(parameters student1.onnx) / $(parameters teacher1.onnx) }")"
# shellcheck disable=SC2086 # lists of numbers
row 'transformer of 4 blocks, accuracy in percent' - - $teacher
# shellcheck disable=SC2086
row 'one block of a quarter of the width, hard labels' - - $hard
# shellcheck disable=SC2086
row 'the same from the teacher: logits and attention' - ">= $(echo "$teacher" | awk '{ for (i = 1; i <= NF; i++) s += $i; print s / NF - 1.5 }')" $soft
