#!/bin/bash
# Memory of a model of 100 MB of weights: ranks of a node hold them once, whatever their number, and reading the file takes one of them no
# more than twice its size, and the others nothing; in teach, evaluate, and with live teachers.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

"$python" - <<'END'
import h5py, numpy as np
with h5py.File("set.h5", "w") as f:
    f.attrs.update({"format": "mpistill-dataset", "version": 1})
    f["train/x"], f["train/label"] = np.random.default_rng(1).random((2000, 64), np.float32), np.zeros(2000, np.int32)
END
must 0 create mlp --layers 64,5000,5000,10 --seed 1 --output teacher.onnx
must 0 create mlp --layers 64,32,10 --seed 1 --output student.onnx

# Two columns for every look at the ranks of mpirun (process $1): memory they hold together, what they share counted once; the most that one
# rank holds alone. KiB.
look() {
  local sum most rank part alone
  while kill -0 "$1" 2>/dev/null; do
    sum=0
    most=0
    for rank in $(ranks_of "$1"); do
      [ "$(cat "/proc/$rank/comm" 2>/dev/null)" = mpistill ] || continue
      read -r part alone <<<"$(awk '/^Pss:/ { p = $2 } /^Private_Dirty:/ { d = $2 } END { print p + 0, d + 0 }' \
        "/proc/$rank/smaps_rollup" 2>/dev/null)"
      sum=$((sum + ${part:-0}))
      [ "${alone:-0}" -le "$most" ] || most=$alone
    done
    echo "$sum $most"
    sleep 0.02
  done
}

for n in 1 2 4; do
  rm -rf soft
  start $n teach --dataset set.h5 --teacher a=teacher.onnx --output soft --quiet
  look "$job" >held.$n
  wait "$job" || fail "teach on $n ranks"
done

start 4 evaluate --model teacher.onnx --dataset set.h5 --split train --quiet
look "$job" >held.evaluate
wait "$job" || fail 'evaluate on 4 ranks'
start 4 distill --student student.onnx --dataset set.h5 --live-teacher teacher.onnx --teaching-ranks 0 --epochs 1 --batch 512 --output a.onnx --quiet
look "$job" >held.live
wait "$job" || fail 'a live teacher on 4 ranks'

python_check 'memory of 4 ranks that evaluate, or have a live teacher' <<'END'
import os
size = os.path.getsize("teacher.onnx") / 2**20
for what in "evaluate", "live":
    peak = max(int(line.split()[0]) for line in open(f"held.{what}")) / 1024
    print(f"{what}: 4 ranks hold {peak:.0f} MiB at most (weights {size:.0f})")
    assert size < peak <= 3 * size + 130, f"{what}: 4 ranks hold {peak:.0f} MiB"
END

python_check 'memory of 1, 2 and 4 ranks' <<'END'
import os, statistics
size = os.path.getsize("teacher.onnx") / 2**20
at_work, peak, alone = {}, {}, {}
for n in 1, 2, 4:
    rows = [[int(v) / 1024 for v in line.split()] for line in open(f"held.{n}")]
    loaded = [node for node, _ in rows if node > size]
    at_work[n] = statistics.median(loaded[len(loaded) // 2:])
    peak[n] = max(node for node, _ in rows)
    alone[n] = max(rank for _, rank in rows)
for what, figures in ("at work", at_work), ("at most", peak), ("a rank alone, at most", alone):
    print(f"{what}:", ", ".join(f"{n} ranks {mib:.0f} MiB" for n, mib in figures.items()), f"(weights {size:.0f})")
for n in 1, 2, 4:
    assert at_work[n] <= size + 30 + 25 * n, f"{n} ranks hold {at_work[n]:.0f} MiB"
    assert peak[n] <= 4 * size + 30 + 25 * n, f"{n} ranks hold {peak[n]:.0f} MiB while they load"
    assert alone[n] <= 2 * size + 80, f"a rank of {n} holds {alone[n]:.0f} MiB of its own"
END
finish
