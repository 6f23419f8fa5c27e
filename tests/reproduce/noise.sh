#!/bin/bash
# Five teachers of MNIST of which one gives noise (a net with random weights): what learned weights make of it, and what the student loses
# against the four others. Weights are found on 10,000 training rows that no teacher has seen.
# shellcheck source=tests/reproduce/lib.sh
. "$(dirname "$0")/lib.sh"
mnist
part set.h5 train=train:0-50000 held-out=train:50000-60000 test=test:0-10000
alone create mlp --layers 784,300,10 --seed 1 --output untrained1.onnx
alone create mlp --layers 784,400,400,10 --dropout 0.3 --seed 2 --output untrained2.onnx
alone create cnn --input 1x28x28 --channels 8,16 --kernel 3 --hidden 64 --classes 10 --seed 3 --output untrained3.onnx
alone create mlp --layers 784,200,200,10 --batch-norm --seed 4 --output untrained4.onnx
alone create mlp --layers 784,300,10 --seed 5 --output teacher5.onnx
for t in 1 2 3 4; do all train --model untrained$t.onnx --dataset set.h5 --epochs 8 --batch 256 --seed $t --output teacher$t.onnx; done
teachers=() soft=() fit=()
for t in 1 2 3 4 5; do
  teachers+=(--teacher "teacher$t.onnx")
  soft+=("soft/teacher$t.h5")
  fit+=(--fit "fit/teacher$t.h5")
done
all teach --dataset set.h5 "${teachers[@]}" --output soft
all teach --dataset set.h5 --split held-out "${teachers[@]}" --output fit
all aggregate "${soft[@]:0:4}" --method probability-mean --temperature 4 --output four.h5
all aggregate "${soft[@]}" --method probability-mean --temperature 4 --output five.h5
all aggregate "${soft[@]}" --method learned --dataset set.h5 "${fit[@]}" --temperature 4 --output learned.h5
row 'weight of the teacher of noise, percent' - '<= 1' "$("$python" -c 'import h5py; print(100 * h5py.File("learned.h5").attrs["weights"][4])')"
four='' five='' learned=''
for s in $(seeds); do
  alone create mlp --layers 784,100,10 --seed "$s" --output "student$s.onnx"
  for from in four five learned; do
    all distill --student "student$s.onnx" --dataset set.h5 --soft-labels $from.h5 --temperature 4 --kd-weight 1 --epochs 15 --batch 128 --seed "$s" --output "$from$s.onnx"
  done
  four+=" $(errors "four$s.onnx" set.h5)" five+=" $(errors "five$s.onnx" set.h5)" learned+=" $(errors "learned$s.onnx" set.h5)"
done
# shellcheck disable=SC2086 # lists of numbers
row 'student 784-100-10 from four teachers' - - $four
# shellcheck disable=SC2086
row 'from them and the noise, equal weights' - - $five
# shellcheck disable=SC2086
row 'from them and the noise, learned weights' - "<= $(echo "$four" | awk '{ for (i = 1; i <= NF; i++) s += $i; print s / NF + 50 }')" $learned
