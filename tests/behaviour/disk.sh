#!/bin/bash
# What a disk can do: it is full, it fails once, the folder goes, a file is another one in the middle of the run. One clear message, status 1 (2 where
# the file was somebody's doing), and the same command goes on to the same bytes once the cause is gone.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/lib/faults.sh
. "$top/tests/lib/faults.sh"
cp "$digits" digits.h5
must 0 create mlp --layers 64,16,10 --seed 1 --output a.onnx
must 0 create mlp --layers 64,24,10 --seed 2 --output b.onnx
must 0 teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --output soft
"$python" - <<'END'
with open("table.csv", "w") as f:
    f.write("p,q,class\n" + "".join(f"{i},{i % 7},{i % 3}\n" for i in range(1000)))
END
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
teachers: [{name: a, model: a.onnx}, {name: b, model: b.onnx}]
student: {create: mlp, layers: [64, 16, 10]}
distill: {epochs: 1, batch: 360}
checkpoint: {every_seconds: 0}
END

# ---- full from some write on; one call that fails ----
for fault in 'write ENOSPC+' 'write,fsync,rename,ftruncate,mkdir EIO'; do
  read -r calls action <<<"$fault"
  sweep "$calls" "$action" import table.csv out.h5 import csv train=table.csv --label-column class --output out.h5
  sweep "$calls" "$action" train 'digits.h5 a.onnx' out.onnx train --model a.onnx --dataset digits.h5 --epochs 2 --batch 360 --checkpoint-seconds 0 \
    --output out.onnx
  sweep "$calls" "$action" teach 'digits.h5 a.onnx b.onnx' 'soft/a.h5 soft/b.h5' teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --block 500 \
    --output soft
  sweep "$calls" "$action" aggregate 'digits.h5 soft' out.h5 aggregate soft/a.h5 soft/b.h5 --dataset digits.h5 --output out.h5
  sweep "$calls" "$action" run 'digits.h5 a.onnx b.onnx recipe.yaml' 'run/soft/a.h5 run/soft/test/a.h5 run/ensemble.h5 run/student.onnx' run recipe.yaml
done

# ---- what others do in the middle of a run ----
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5") as f:
    x, y = f["train/image"][...], f["train/label"][...]
for name, n in (("long.h5", 4), ("longer.h5", 24)):
    checks.write_dataset(name, {"train": {"image": np.tile(x, (n, 1, 1, 1)), "label": np.tile(y, n)}}, scale={"image": (1 / 16, 0)})
END
must 0 create resnet --depth 20 --width 16 --input 1x8x8 --classes 10 --seed 3 --output slow.onnx
teach=(teach --dataset longer.h5 --teacher slow.onnx --teacher b.onnx --block 16)
train=(train --model slow.onnx --dataset long.h5 --epochs 2 --batch 64 --checkpoint-seconds 0.2)
must 2 "${teach[@]}" --output whole
must 2 "${train[@]}" --output whole.onnx
# when FILE COMMAND...: of the last start: the command, a moment after FILE is there; then its end.
when() {
  while [ -e "/proc/$job/exe" ] && [ ! -e "$1" ]; do sleep 0.01; done
  sleep 0.2
  "${@:2}"
  wait "$job"
  status=$?
}

mkdir gone
start 2 "${train[@]}" --checkpoint kept --output gone/student.onnx
when kept/0.h5 mv gone elsewhere
expect_error 'the folder is gone at the end of training' 1 gone/student.onnx 'No such file or directory'
mv elsewhere gone
must 3 "${train[@]}" --checkpoint kept --output gone/student.onnx
same 'the folder is back: training goes on to the same bytes' whole.onnx gone/student.onnx
start 2 "${teach[@]}" --output lost
when lost/slow.h5.part mv lost elsewhere
missing='No such file or directory'
$open_mpi || missing='cannot be opened' # ROMIO has words of its own
expect_error 'the folder is gone while teaching' 1 lost/ "$missing"
rm -rf lost
mv elsewhere lost
must 3 "${teach[@]}" --output lost
for name in slow b; do same "the folder is back: teaching goes on to the same bytes: $name" whole/$name.h5 lost/$name.h5; done

# One rank: b.onnx comes after the dearer one.
cp b.onnx good.onnx
start 1 "${teach[@]}" --output changed
when changed/slow.h5.part cp a.onnx b.onnx
expect_error 'a teacher is replaced in the middle of the run' 2 b.onnx 'was replaced during the run'
cp good.onnx b.onnx
must 2 "${teach[@]}" --output changed
for name in slow b; do same "the teacher is back: the same bytes: $name" whole/$name.h5 changed/$name.h5; done
finish
