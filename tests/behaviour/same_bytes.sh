#!/bin/bash
# The recipe and the seed decide the bytes; the number of ranks, the number of threads and the way of the messages do not.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

# Layouts are ranks:threads:shared memory.
every='1:1:1 1:2:1 2:1:1 2:2:0 3:1:1 3:2:1 4:1:0 4:2:1 8:1:1 8:2:0'
some='2:2:1 3:1:0 4:1:1 8:1:1'
few='3:2:1 8:1:0'

# everywhere NAME "LAYOUTS" "FILES" ARGUMENTS...: in each layout mpistill writes the FILES that it writes without mpirun. @ in an
# argument stands for the folder with the files.
everywhere() {
  local name=$1 layouts=$2 files=$3 layout ranks threads shared
  shift 3
  mkdir -p "$work/$name/alone"
  run 0 "${@//@/$work/$name/alone}"
  [ "$status" = 0 ] || fail "$name: status $status without mpirun"
  for layout in $layouts; do
    IFS=: read -r ranks threads shared <<<"$layout"
    mkdir -p "$work/$name/$layout"
    OMP_NUM_THREADS=$threads MPISTILL_SHARED_MEMORY=$shared run "$ranks" "${@//@/$work/$name/$layout}"
    [ "$status" = 0 ] || fail "$name: status $status in $layout"
    for file in $files; do
      same "$name: $file on $ranks ranks, $threads threads, shared memory $shared" \
        "$work/$name/alone/$file" "$work/$name/$layout/$file"
    done
  done
}

cp "$digits" digits.h5
# One label in three is unknown.
"$python" - <<'END' || exit 1
import checks, h5py
with h5py.File("digits.h5", "r") as f:
    x, y = f["train/image"][...], f["train/label"][...]
y[::3] = -1
checks.write_dataset("partly.h5", {"train": {"image": x, "label": y}}, scale={"image": (1 / 16, 0)})
checks.write_dataset("tiny.h5", {"train": {"image": x[:3], "label": y[:3]}}, scale={"image": (1 / 16, 0)})
checks.write_dataset("small.h5", {"train": {"image": x[:157], "label": y[:157]}}, scale={"image": (1 / 16, 0)})
END
must 0 create mlp --layers 64,48,10 --dropout 0.3 --seed 1 --output mlp.onnx
must 0 create cnn --input 1x8x8 --channels 4,8 --kernel 3 --hidden 16 --classes 10 --seed 2 --output cnn.onnx
must 0 create resnet --depth 8 --width 4 --input 1x8x8 --classes 10 --seed 3 --output resnet.onnx
must 0 create mlp --layers 64,300,300,10 --seed 4 --output wide.onnx
must 0 create mlp --layers 64,800,800,10 --seed 5 --output wider.onnx

# ---- train ----
everywhere mlp "$every" model.onnx train --model mlp.onnx --dataset digits.h5 --epochs 3 --batch 100 --shards 8 --output @/model.onnx
everywhere one-shard "$few" model.onnx train --model mlp.onnx --dataset digits.h5 --epochs 2 --batch 100 --shards 1 --output @/model.onnx
everywhere last-477 "$some" model.onnx train --model cnn.onnx --dataset digits.h5 --epochs 2 --batch 480 --shards 5 --nesterov \
  --clip-norm 0.5 --output @/model.onnx
everywhere last-1 "$some" model.onnx train --model mlp.onnx --dataset digits.h5 --epochs 2 --batch 718 --shards 8 --weight-decay 1e-3 \
  --schedule one-cycle --output @/model.onnx
everywhere resnet "$some" model.onnx train --model resnet.onnx --dataset small.h5 --epochs 2 --batch 60 --shards 5 --optimizer adamw \
  --learning-rate 0.01 --weight-decay 0.01 --output @/model.onnx
everywhere three-rows "$few" model.onnx train --model cnn.onnx --dataset tiny.h5 --epochs 3 --batch 2 --shards 2 --output @/model.onnx

# Large matrices, whose gradients are made when they are summed where a rank has several shards; some with few rows, or none.
everywhere large "$every" model.onnx train --model wide.onnx --dataset small.h5 --epochs 2 --batch 157 --shards 8 --output @/model.onnx
everywhere large-last-7 "$some" model.onnx train --model wider.onnx --dataset small.h5 --epochs 2 --batch 150 --shards 8 --freeze 'fc1.bias' \
  --clip-norm 0.5 --output @/model.onnx

# Gradients of several buckets, which nodes add up while the backward pass goes on.
everywhere buckets '2:1:0 3:2:0 8:1:0' model.onnx train --model wider.onnx --dataset small.h5 --epochs 2 --batch 157 --shards 24 --output @/model.onnx

everywhere bfloat16 '2:1:0 3:2:1 8:1:0' model.onnx train --model wider.onnx --dataset small.h5 --epochs 2 --batch 157 --shards 24 --reduce-dtype bfloat16 \
  --output @/model.onnx
differ 'gradients rounded to bfloat16' "$work/buckets/alone/model.onnx" "$work/bfloat16/alone/model.onnx"

# ---- teach: two teachers, one many times dearer ----
everywhere teach "$some" 'mlp.h5 wide.h5' teach --dataset digits.h5 --teacher mlp.onnx --teacher wide.onnx --output @
everywhere teach-float32 "$few" 'cnn.h5 resnet.h5' teach --dataset digits.h5 --teacher cnn.onnx --teacher resnet.onnx --dtype float32 \
  --block 100 --output @
everywhere teach-top-k "$few" 'resnet.h5 wide.h5' teach --dataset digits.h5 --teacher resnet.onnx --teacher wide.onnx --top-k 3 --output @

# ---- aggregate ----
soft=$work/teach/alone
everywhere probability-mean "$some" ensemble.h5 aggregate "$soft/mlp.h5" "$soft/wide.h5" --temperature 4 --weights 1,2 --output @/ensemble.h5
everywhere logit-mean "$few" ensemble.h5 aggregate "$work/teach-top-k/alone/wide.h5" "$soft/mlp.h5" --method logit-mean --dtype float32 \
  --dataset digits.h5 --output @/ensemble.h5

# ---- distill: the soft labels of partly.h5's rows, two files combined on the way, one of them top-k ----
must 2 teach --dataset partly.h5 --teacher wide.onnx --top-k 4 --dtype float32 --output partly
must 2 teach --dataset partly.h5 --teacher cnn.onnx --output partly
everywhere distill "$some" model.onnx distill --student mlp.onnx --dataset digits.h5 --soft-labels "$work/probability-mean/alone/ensemble.h5" \
  --epochs 2 --batch 100 --shards 8 --output @/model.onnx
everywhere distill-partly "$some" model.onnx distill --student resnet.onnx --dataset partly.h5 --soft-labels partly/wide.h5 \
  --soft-labels partly/cnn.h5 --weights 2,1 --loss kd:0.7:temperature=3 --loss cross-entropy:0.3 --optimizer adamw --learning-rate 0.01 \
  --clip-norm 1 --epochs 1 --batch 480 --shards 5 --output @/model.onnx

# ---- run ----
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
seed: 5
teachers:
  - {name: wide, model: wide.onnx}
  - {name: cnn, model: cnn.onnx}
student: {create: mlp, layers: [64, 16, 10], dropout: 0.1}
baseline: true
distill: {epochs: 2, batch: 100, shards: 5}
END
everywhere run "$some" 'student.onnx baseline.onnx ensemble.h5 soft/wide.h5 soft/cnn.h5 soft/test/wide.h5' \
  run recipe.yaml --set output=@ --set threads=2

# ---- the same again, and what may differ ----
train() { must 2 train --model mlp.onnx --dataset digits.h5 --epochs 2 --batch 100 "$@"; }
train --seed 7 --shards 2 --output seed7.onnx
train --seed 7 --shards 2 --output again.onnx
train --seed 8 --shards 2 --output seed8.onnx
train --seed 7 --output default.onnx
train --seed 7 --shards 2 --threads 2 --output threads.onnx
same 'the same command again' seed7.onnx again.onnx
same 'the default of shards is 2 for a batch of 100' seed7.onnx default.onnx
same '--threads 2' seed7.onnx threads.onnx
differ 'another seed' seed7.onnx seed8.onnx
differ 'a trained model is not the untrained one' seed7.onnx mlp.onnx
finish
