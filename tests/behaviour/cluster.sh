#!/bin/bash
# What goes wrong with jobs on a cluster, and what is said about it: hosts that are not alike, a full /dev/shm, a launcher that the MPI
# library does not know, more ranks than there is work for. (Several hosts: make check-hosts.)
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

cp "$digits" digits.h5
must 0 create mlp --layers 64,32,10 --seed 1 --output untrained.onnx
train=(train --model untrained.onnx --dataset digits.h5 --epochs 2 --batch 256 --shards 4 --quiet --output)
must 0 "${train[@]}" alone.onnx

# ---- hosts that are not alike: a rank whose OpenBLAS takes other kernels than rank 0's ----
unlike() { # ARGUMENTS...
  status=0
  timeout 120 "${mpirun[@]}" -n 1 env OPENBLAS_CORETYPE=Prescott "$mpistill" "$@" : \
    -n 1 env OPENBLAS_CORETYPE=Nehalem "$mpistill" "$@" >out 2>err </dev/null || status=$?
}
unlike "${train[@]}" unlike.onnx
expect_error 'processors that are not alike are told at the start' 2 Prescott Nehalem 'hosts of one kind' --mixed-processors "$(hostname)"
check 'nothing was written' test ! -e unlike.onnx
unlike "${train[@]}" unlike.onnx --mixed-processors
check '--mixed-processors: a warning' test "$status $(grep -c 'warning: .*Prescott.*Nehalem.*depend on which rank' err)" = '0 1'
unlike teach --dataset digits.h5 --teacher unlike.onnx --output soft --mixed-processors
must 0 aggregate soft/unlike.h5 --output ensemble.h5
python_check '--mixed-processors: the outputs are marked' <<'END'
import h5py, json
assert json.load(open("unlike.onnx.inputs"))["inputs"]["mixed_processors"] is True
assert "mixed_processors" not in json.load(open("alone.onnx.inputs"))["inputs"]
for name in "soft/unlike.h5", "ensemble.h5":
    assert h5py.File(name).attrs["mixed_processors"] == 1, name
END
run 2 "${train[@]}" unlike.onnx
expect_error 'ranks that are alike have not made that output' 2 unlike.onnx --force

# ---- a full /dev/shm ----
if ! $open_mpi; then
  echo 'skip a full /dev/shm: MPICH itself does not start then'
elif unshare --mount mount -t tmpfs tmpfs /dev/shm 2>/dev/null; then
  status=0
  cat >full <<'END'
mount -t tmpfs -o size=5m tmpfs /dev/shm && head -c 4m /dev/zero >/dev/shm/filled
exec "$@"
END
  unshare --mount bash full timeout 120 "${mpirun[@]}" -n 2 "$mpistill" "${train[@]}" full.onnx >out 2>err </dev/null ||
    status=$?
  check 'a full /dev/shm is one warning' test "$status $(grep -c 'warning: ranks of one host share no memory.*/dev/shm full' err)" = '0 1'
  same 'a full /dev/shm does not change the student' full.onnx alone.onnx
else
  echo 'skip a full /dev/shm: only root can fill one of its own'
fi
MPISTILL_SHARED_MEMORY=0 run 2 "${train[@]}" asked.onnx
check 'no warning where messages were asked for' test "$status $(grep -c warning err)" = '0 0'
same 'messages do not change the student' asked.onnx alone.onnx

# ---- processes that do not find each other: srun without PMIx ----
$open_mpi && remedy='srun --mpi=pmix' || remedy='srun --mpi=pmi2'
SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4 run 0 "${train[@]}" lonely.onnx
expect_error 'tasks of srun that MPI does not see' 2 'SLURM_STEP_NUM_TASKS' '4 processes' "$remedy"

# ---- more ranks than work ----
run 3 "${train[@]}" three.onnx
check 'shards that ranks do not divide' test "$status" = 0
same 'are dealt unevenly, to the same student' three.onnx alone.onnx
run 6 "${train[@]/--quiet/--force}" six.onnx
check 'more ranks than shards: a hint with the remedy' test "$status $(grep -c '2 of 6 ranks have no shard.*--shards 6' err)" = '0 1'
same 'and the same student' six.onnx alone.onnx
few=(train --model untrained.onnx --dataset digits.h5 --epochs 1 --batch 3 --shards 4 --output)
run 4 "${few[@]}" few4.onnx
check 'more ranks than rows: a hint with the remedy' test "$status $(grep -c '3 rows for 4 ranks: use 3 of them at most, or a larger --batch' err)" = '0 1'
must 0 "${few[@]}" few1.onnx
same 'and the same student as of one rank' few4.onnx few1.onnx
finish
