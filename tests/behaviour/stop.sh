#!/bin/bash
# Stopped early on purpose: by a signal, or before its batch job ends. Status 75 with a checkpoint, and the same command goes on to the same bytes.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
unset SLURM_JOB_END_TIME PBS_JOBID PBS_WALLTIME MPISTILL_END_TIME
"$python" - "$digits" <<'END' || exit 1
import sys, checks, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    x, y = f["train/image"][...], f["train/label"][...]
checks.write_dataset("long.h5", {"train": {"image": np.tile(x, (4, 1, 1, 1)), "label": np.tile(y, 4)}}, scale={"image": (1 / 16, 0)})
END
must 0 create resnet --depth 20 --width 16 --input 1x8x8 --classes 10 --seed 1 --output slow.onnx
must 0 create mlp --layers 64,32,10 --seed 2 --output fast.onnx
cat >recipe.yaml <<'END'
dataset: long.h5
output: recipe
teachers: [{name: slow, model: slow.onnx}]
student: {create: mlp, layers: [64, 16, 10]}
distill: {epochs: 2, batch: 64}
END
train=(train --model slow.onnx --dataset long.h5 --epochs 2 --batch 64)
teach=(teach --dataset long.h5 --teacher slow.onnx --block 16)
distill=(distill --student slow.onnx --dataset long.h5 --soft-labels whole/slow.h5 --epochs 2 --batch 64)
must 2 "${train[@]}" --output whole.onnx
must 2 "${teach[@]}" --output whole
must 2 "${distill[@]}" --output whole-distill.onnx
must 2 run recipe.yaml --set output="$work/whole-recipe"
now() { date +%s; }

# ---- signals ----
# A handler's frame would be written over what oneDNN's kernels keep under the stack pointer: no signal but those of a crash (and UCX's, SIGHUP)
# may meet one. MPICH has one for SIGUSR1, which waits.
meets() { # PROCESS: of each thread the signals that would be handled there, and those of ours that wait
  local caught held
  caught=$(sed -n 's/^SigCgt:\t*/0x/p' "/proc/$1/status")
  for held in $(sed -n 's/^SigBlk:\t*/0x/p' /proc/"$1"/task/*/status); do
    printf '%x %x\n' $((caught & ~held & ~0x1800004f9)) $((held & 0xa00))
  done | sort -u
}
start 1 "${train[@]}" --output handlers.onnx
while [ -e "/proc/$job/exe" ] && [ ! -e handlers.onnx.lock ]; do sleep 0.02; done
sleep 0.5
rank=$(ranks_of "$job" | head -n 1)
check 'signals have no handlers, and wait on every thread' test "$(meets "$rank")" = '0 a00'
kill -USR1 "$job"
wait "$job"
must 0 create resnet --depth 20 --width 64 --input 1x8x8 --classes 10 --seed 1 --output wide.onnx
"$mpistill" evaluate --model wide.onnx --dataset long.h5 --split train >out 2>err </dev/null &
job=$!
sleep 1
signal=USR1
$open_mpi || signal=USR2 # MPICH has a handler of its own for the other
kill -$signal $job
wait $job
check 'a command without a checkpoint is ended by the signal' test "$(kill -l $?)" = $signal
for signal in USR1 USR2; do
  if [ $signal = USR2 ] && ! $open_mpi; then
    echo "skip SIGUSR2: MPICH's mpirun does not pass it on"
    continue
  fi
  start 2 "${train[@]}" --output "$signal.onnx"
  while [ -e "/proc/$job/exe" ] && [ ! -e "$signal.onnx.lock" ]; do sleep 0.02; done
  sleep 0.5
  kill "-$signal" "$job"
  wait "$job"
  status=$?
  check "SIG$signal: status 75, not $status" is_stopped $status
  check "SIG$signal: no error, but a word on how to go on" test "$(grep -c '^mpistill: error' err)$(grep -c 'goes on from there' err)" = 01
  check "SIG$signal: a checkpoint" test -e "$signal.onnx.ckpt/0.h5" -a ! -e "$signal.onnx" -a ! -e "$signal.onnx.lock"
  must 3 "${train[@]}" --output "$signal.onnx"
  same "SIG$signal: goes on to the same bytes" whole.onnx "$signal.onnx"
done

# ---- before the end ----
# ends NAME FILE WHOLE N ARGUMENTS...: with the end of its job in the environment it stops with 75, and goes on without it.
ends() {
  local name=$1 file=$2 whole=$3 n=$4
  shift 4
  run "$n" "$@"
  check "$name: status 75, not $status" test "$status" = 75
  check "$name: not done" test ! -e "$file"
  unset SLURM_JOB_END_TIME MPISTILL_END_TIME
  must 2 "$@"
  same "$name: goes on to the same bytes" "$whole" "$file"
}
export SLURM_JOB_END_TIME=$(($(now) + 100))
ends 'train, Slurm' slurm.onnx whole.onnx 2 "${train[@]}" --stop-before 100 --output slurm.onnx
export MPISTILL_END_TIME=$(($(now) + 10)) SLURM_JOB_END_TIME=$(($(now) + 100000))
ends distill distill.onnx whole-distill.onnx 1 "${distill[@]}" --stop-before 10 --output distill.onnx
export MPISTILL_END_TIME=$(($(now) + 10))
ends teach soft/slow.h5 whole/slow.h5 2 "${teach[@]}" --stop-before 10 --output soft
export SLURM_JOB_END_TIME=$(($(now) + 10))
ends run recipe/student.onnx whole-recipe/student.onnx 2 run recipe.yaml --stop-before 10
export SLURM_JOB_END_TIME=$(($(now) + 1000))
must 2 "${train[@]}" --stop-before 100 --output enough.onnx
same 'time enough' whole.onnx enough.onnx
unset SLURM_JOB_END_TIME
run 2 "${train[@]}" --stop-before 100 --output unknown.onnx
check 'no batch system: said once, no effect' test "$status$(grep -c 'warning: .*--stop-before' err)" = 01
run 2 run recipe.yaml --stop-before 100
check 'no batch system: said once in a run' test "$(grep -c 'warning: .*--stop-before' err)" = 1
# The job of PBS is as old as its first process.
export mpistill train_arguments="${train[*]} --stop-before 100 --output pbs.onnx"
# shellcheck disable=SC2016
PBS_JOBID=7.server PBS_WALLTIME=0:01:43 timeout 60 bash -c 'sleep 4; bash -c "$mpistill $train_arguments"; exit $?' >out 2>err </dev/null
check 'PBS: the job began before the program' test $? = 75
PBS_JOBID=7.server PBS_WALLTIME=200 "$mpistill" "${train[@]}" --stop-before 100 --output pbs.onnx >out 2>err </dev/null
check 'PBS: time enough' test $? = 0
same 'PBS: goes on to the same bytes' whole.onnx pbs.onnx

# ---- clocks that jump ----
jumping=$(realpath "$top/${BUILD:-build}/tests/preload/clock.so")
export MPISTILL_END_TIME=$(($(now) + 3 * 24 * 3600))
LD_PRELOAD=$jumping timeout 60 "$mpistill" "${train[@]}" --stop-before 100 --checkpoint-seconds 1 --output jumps.onnx >out 2>err </dev/null
check 'the wall clock jumps to and fro: nothing happens' test $? = 0
same 'the wall clock jumps: the same bytes' whole.onnx jumps.onnx
check 'the wall clock jumps: times are not negative' test "$(grep -c -- '-[0-9:]*[0-9] *k/s\|in -' err)" = 0

# ---- damaged checkpoints ----
few=(train --model fast.onnx --dataset long.h5 --epochs 1 --batch 1024 --quiet)
must 2 "${few[@]}" --output few.onnx
export MPISTILL_END_TIME=1
for _ in 1 2; do run 1 "${few[@]}" --stop-before 10 --output cut.onnx; done # 0.h5, 1.h5
unset MPISTILL_END_TIME
check 'two checkpoints' test "$status" = 75 -a -e cut.onnx.ckpt/0.h5 -a -e cut.onnx.ckpt/1.h5
cp -r cut.onnx.ckpt kept
damaged() { # FILE...: the checkpoints as they were, but for a number in 1.h5 (header: where it stands), or all of 0.h5; beyond: both without their checksums
  rm -rf cut.onnx*
  cp -r kept cut.onnx.ckpt
  for file in "$@"; do
    case $file in
      0.h5) printf 'no checkpoint' >cut.onnx.ckpt/0.h5 ;;
      beyond)
        "$python" -c 'import h5py
for i in "01":
    a = h5py.File(f"cut.onnx.ckpt/{i}.h5", "r+").attrs
    a["batch"] = 1000
    del a["checksum"]'
        ;;
      header) "$python" -c 'import h5py; h5py.File("cut.onnx.ckpt/1.h5", "r+").attrs["batch"] = 0' ;;
      1.h5) "$python" -c 'import h5py; f = h5py.File("cut.onnx.ckpt/1.h5", "r+"); f["vectors/parameters"][5] += 1' ;;
    esac
  done
}
for ranks in 1 4; do
  damaged 1.h5
  run "$ranks" "${few[@]}" --output cut.onnx
  check "the newer is damaged, on $ranks ranks: said, with the one that is gone on from" test "$status $(grep -c \
    '^mpistill: warning: cut.onnx.ckpt/1.h5: .* does not match its checksum; cut.onnx.ckpt/0.h5 is gone on from$' err)" = '0 1'
  same "the newer is damaged, on $ranks ranks: the same bytes" few.onnx cut.onnx
  damaged header
  run "$ranks" "${few[@]}" --output cut.onnx
  check "the newer's place is damaged, on $ranks ranks: said" test "$status $(grep -c \
    '^mpistill: warning: cut.onnx.ckpt/1.h5: its attributes do not match their checksum; cut.onnx.ckpt/0.h5 is gone on from$' err)" = '0 1'
  same "the newer's place is damaged, on $ranks ranks: the same bytes" few.onnx cut.onnx
  damaged 0.h5
  run "$ranks" "${few[@]}" --output cut.onnx
  check "the older is damaged, on $ranks ranks: said, with the one that is gone on from" test "$status $(grep -c \
    '^mpistill: warning: cut.onnx.ckpt/0.h5: .*; cut.onnx.ckpt/1.h5 is gone on from$' err)" = '0 1'
  same "the older is damaged, on $ranks ranks: the same bytes" few.onnx cut.onnx
  damaged 0.h5 1.h5
  run "$ranks" "${few[@]}" --output cut.onnx
  expect_error "both are damaged, on $ranks ranks" 2 'cut.onnx.ckpt: there is no whole checkpoint to go on from; --restart begins anew' \
    'cut.onnx.ckpt/0.h5: ' 'cut.onnx.ckpt/1.h5: '
  check "both are damaged, on $ranks ranks: they stay" test -e cut.onnx.ckpt/0.h5 -a -e cut.onnx.ckpt/1.h5 -a ! -e cut.onnx
  must "$ranks" "${few[@]}" --output cut.onnx --restart
  same "both are damaged, on $ranks ranks: anew" few.onnx cut.onnx
  damaged beyond
  run "$ranks" "${few[@]}" --output cut.onnx
  expect_error "both stand beyond the training, on $ranks ranks" 2 'cut.onnx.ckpt/' '.h5: stands in epoch 1, batch 1001, of a training of 1 epochs of 6 batches' \
    '--restart'
  rm -rf others
  mkdir others
  cp whole/slow.h5 others/1.h5
  for more in --force --restart; do
    run "$ranks" "${few[@]}" --output none.onnx --checkpoint others $more
    expect_error "a folder of other files, $more, on $ranks ranks" 2 'others/1.h5: is no checkpoint, and one would take its place' '--checkpoint'
    same "a folder of other files, $more, on $ranks ranks: they stay" whole/slow.h5 others/1.h5
  done
done
finish
