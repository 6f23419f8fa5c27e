#!/bin/bash
# A rank that hangs (SIGSTOP): the others say which and where, and leave with status 75; the same command ends as if it never was. A rank that
# only takes long, and a job that is suspended as a whole, are left alone.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5") as f:
    x, y = f["train/image"][...], f["train/label"][...]
checks.write_dataset("long.h5", {"train": {"image": np.tile(x, (16, 1, 1, 1)), "label": np.tile(y, 16)}}, scale={"image": (1 / 16, 0)})
END
must 0 create resnet --depth 20 --width 16 --input 1x8x8 --classes 10 --seed 1 --output slow.onnx
must 0 create mlp --layers 64,32,10 --seed 2 --output fast.onnx
cat >recipe.yaml <<'END'
dataset: long.h5
output: recipe
teachers: [{name: slow, model: slow.onnx}]
student: {create: mlp, layers: [64, 16, 10]}
distill: {epochs: 1, batch: 256}
END
train=(train --model slow.onnx --dataset digits.h5 --epochs 12 --batch 64 --checkpoint-seconds 0.3)
teach=(teach --dataset long.h5 --teacher slow.onnx --block 16)
must 2 "${train[@]}" --output whole.onnx
must 2 "${teach[@]}" --output whole
must 2 run recipe.yaml --set output="$work/whole-recipe"

ranks() { ranks_of "$job"; }
# stop_rank RANK FILE: SIGSTOP for a rank of the last start, a moment after FILE is there; pid is its process.
stop_rank() {
  while [ -e "/proc/$job/exe" ] && [ ! -e "$2" ]; do sleep 0.02; done
  sleep 0.2
  pid=$(ranks | sed -n "$(($1 + 1))p")
  kill -STOP "$pid"
  stopped=$(date +%s%N)
}
# left NAME RANK PHASE: the last start has left by itself because of that rank.
left() {
  local waited=0
  while [ -e "/proc/$job/exe" ] && [ $((waited += 1)) -lt 600 ]; do sleep 0.1; done
  if [ -e "/proc/$job/exe" ]; then
    fail "$1: does not end: $(for rank in $(ranks); do grep -s -h -E '^(Pid|State|voluntary)' "/proc/$rank/status"; done | tr '\n\t' '; ')"
    for rank in $(ranks); do kill -KILL "$rank"; done
  fi
  wait "$job"
  status=$?
  local took_ms=$((($(date +%s%N) - stopped) / 1000000))
  # MPICH's mpirun ends with that of the hanging rank, which is killed.
  check "$1: status 75, not $status" test "$status" = 75 -o "$status$open_mpi" = 9false
  check "$1: noticed in $took_ms ms" test $took_ms -ge 1000 -a $took_ms -lt 15000
  check "$1: says which rank and where" grep -q "^mpistill: rank $2 (process $pid on host $(hostname)) gives no sign of life, in: $3" err
  check "$1: says it once" test "$(grep -c 'no sign of life' err)" = 1
  check "$1: the stopped rank is gone as well" test ! -e "/proc/$pid/exe"
}

for nodes in one several; do
  [ $nodes = one ] || export MPISTILL_RANKS_PER_NODE=1
  start 3 "${train[@]}" --stall-timeout 2 --output "$nodes.onnx"
  stop_rank 1 "$nodes.onnx.ckpt/0.h5"
  left "train, $nodes" 1 '\(train, epoch\|checkpoint\)'
  must 2 "${train[@]}" --output "$nodes.onnx"
  same "train, $nodes: goes on to the same bytes" whole.onnx "$nodes.onnx"
  start 3 "${teach[@]}" --stall-timeout 2 --output "$nodes"
  stop_rank 0 "$nodes/slow.h5.part"
  left "teach, $nodes" 0 teach
  must 4 "${teach[@]}" --output "$nodes"
  same "teach, $nodes: goes on to the same bytes" whole/slow.h5 "$nodes/slow.h5"
  check "$nodes: nothing is left over" test "$(echo "$nodes"*)" = "$nodes $nodes.onnx $nodes.onnx.inputs" -a "$(ls "$nodes")" = slow.h5
done
unset MPISTILL_RANKS_PER_NODE

start 2 run recipe.yaml --stall-timeout 2
stop_rank 1 recipe/soft/slow.h5.part
left run 1 teach
check 'run: state.json says stopped, and why' grep -q -z '"state": "stopped".*rank 1 .* no sign of life' recipe/state.json
must 2 run recipe.yaml
for name in soft/slow.h5 ensemble.h5 student.onnx; do same "run: goes on to the same bytes: $name" whole-recipe/$name recipe/$name; done

# Inside MPI's own collective calls, where those who wait use their processors: a window that one rank never makes.
hang=$(realpath "$top/${BUILD:-build}/tests/preload/hang.so")
"${mpirun[@]}" -n 2 env LD_PRELOAD="$hang" "$mpistill" "${teach[@]}" --stall-timeout 2 --output window >out 2>err </dev/null &
job=$!
pid=''
while [ -e "/proc/$job/exe" ] && [ -z "$pid" ]; do
  sleep 0.1
  for rank in $(ranks 2>/dev/null); do grep -q -s '^State:.T' "/proc/$rank/status" && pid=$rank; done
done
stopped=$(date +%s%N)
left 'a window' 0 teach

# Left alone.
must 2 teach --dataset long.h5 --teacher slow.onnx --block 100000 --stall-timeout 0.5 --output busy
check 'one rank computes for long, the other waits: no alarm' test "$status" = 0
start 2 "${train[@]}" --stall-timeout 2 --output suspended.onnx
stop_rank 0 suspended.onnx.ckpt/0.h5
kill -STOP "$(ranks | sed -n 2p)"
sleep 5
for rank in $(ranks); do kill -CONT "$rank"; done
wait "$job"
check 'all ranks suspended for 5 s: no alarm' test $? = 0
same 'all ranks suspended: the same bytes' whole.onnx suspended.onnx
start 2 "${train[@]}" --stall-timeout 0 --output off.onnx
stop_rank 1 off.onnx.ckpt/0.h5
sleep 4
kill -CONT "$pid"
wait "$job"
check '--stall-timeout 0: never' test $? = 0
same '--stall-timeout 0: the same bytes' whole.onnx off.onnx
finish
