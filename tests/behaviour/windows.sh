#!/bin/bash
# Datasets larger than memory: rows read and shuffled by the window, ahead of their use; the way of reading never changes a byte.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

must 0 create mlp --layers 64,32,10 --seed 1 --output model.onnx
must 2 teach --dataset "$digits" --teacher t=model.onnx --output soft --quiet
must 2 teach --dataset "$digits" --teacher t=model.onnx --tap act1 --augment shift:pixels=1 --views 2 --output views --quiet
options=(--dataset "$digits" --batch 64 --shards 4 --quiet)
three=(--epochs 3)
distill=(distill --student model.onnx "${options[@]}" --soft-labels soft/t.h5 --shuffle-window 300)
none=MPISTILL_DATA_MEMORY=0 # no array fits

must 2 train --model model.onnx "${options[@]}" "${three[@]}" --output full.onnx
must 2 "${distill[@]}" "${three[@]}" --output memory.onnx
differ 'the window is another order' memory.onnx full.onnx
for n in 1 2 3; do
  mpi "$n" env $none "$mpistill" "${distill[@]}" "${three[@]}" --output "read$n.onnx" >out 2>err
  same "windows that are read, on $n ranks: the same bytes" memory.onnx "read$n.onnx"
done
mpi 2 env $none MPISTILL_SHARED_MEMORY=0 "$mpistill" "${distill[@]}" "${three[@]}" --threads 2 --output alone.onnx >out 2>err
same 'without shared memory, with two threads' memory.onnx alone.onnx

mpi 2 env $none "$mpistill" train --model model.onnx "${options[@]}" "${three[@]}" --output rows.onnx >out 2>err
same 'row by row: the same bytes as from memory' full.onnx rows.onnx
check 'row by row: a warning that names the remedy' grep -q 'warning: .*--shuffle-window' err

mixed=(distill --student model.onnx "${options[@]}" --soft-labels views/t.h5 --augment shift:pixels=1 --shuffle-window 300
  --feature hint:1:student=act1:teacher=act1:projector=none)
must 2 "${mixed[@]}" "${three[@]}" --output mixed.onnx
mpi 2 env $none "$mpistill" "${mixed[@]}" "${three[@]}" --output mixed-read.onnx >out 2>err
same 'labels of views and inner tensors' mixed.onnx mixed-read.onnx

export MPISTILL_DATA_MEMORY=0
start 2 "${distill[@]}" --epochs 100 --checkpoint-seconds 0 --output stopped.onnx
for ((i = 0; i < 100; i++)); do
  [ -d stopped.onnx.ckpt ] && break
  sleep 0.1
done
kill -USR1 "$job" 2>/dev/null
wait "$job"
check 'asked to stop: status 75' is_stopped $?
must 1 "${distill[@]}" --epochs 100 --output stopped.onnx
unset MPISTILL_DATA_MEMORY
must 2 "${distill[@]}" --epochs 100 --output straight.onnx
same 'stopped within a window, gone on from there' stopped.onnx straight.onnx

run 1 train --model model.onnx "${options[@]}" --shuffle-window 32 --output small.onnx
expect_error 'a window below a batch' 2 'shuffle window' 'fewer than a batch'

# 64 MB of rows: memory that does not grow with them.
python_check 'a larger dataset' <<'END'
import h5py, numpy as np
for name, n in (("small", 1 << 14), ("large", 1 << 17)):
    with h5py.File(name + ".h5", "w") as f:
        f.attrs.update({"format": "mpistill-dataset", "version": 1})
        f["train/x"] = np.random.default_rng(1).integers(0, 256, (n, 512), np.uint8)
        f["train/label"] = np.zeros(n, "i4")
END
must 0 create mlp --layers 512,8,10 --seed 1 --output wide.onnx
cat >most.py <<'END'
import os, sys
pid = os.fork()
if not pid:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(pid, 0)
print(used.ru_maxrss // 1024)
sys.exit(os.waitstatus_to_exitcode(status))
END
for size in small large; do
  env $none "$python" most.py "$mpistill" train --model wide.onnx --dataset $size.h5 --epochs 1 --batch 256 --learning-rate 0.00001 \
    --shuffle-window 4096 --log $size.log --quiet --output $size.onnx 2>err | tail -n 1 >$size.mb
done
check "memory is flat in rows: $(cat small.mb) and $(cat large.mb) MB" test "$(cat large.mb)" -lt $(($(cat small.mb) + 12))
python_check 'the log tells how long it waited for rows' <<'END'
import json
e = [json.loads(l) for l in open("large.log") if '"epoch"' in l and '"seconds"' in l][-1]
assert 0 < e["seconds"]["read"] < e["seconds"]["all"], e
done = [json.loads(l) for l in open("large.log") if '"done"' in l][-1]
assert abs(done["reading_share"] - e["seconds"]["read"] / e["seconds"]["all"]) < 1e-6, done
END
finish
