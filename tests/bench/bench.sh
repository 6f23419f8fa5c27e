#!/bin/bash
# make bench: speed of training and of teachers against PyTorch on this machine. Settings, as variables:
#   BENCH=NAME             this case alone (mlp, mlp-kd, small, lenet, lenet-3x3, transformer, resnet20, inference,
#                          inference-resnet18, …, allreduce, plan, many-teachers, storage, scaling, curves)
#   BENCH_FOLDER=FOLDER    storage: on that disk
#   BENCH_REPEATS=N        turns of each program, one after the other (5)
#   BENCH_RANKS=N          ranks, each bound to a core (2)
#   BENCH_SECONDS=N        of one turn of a teacher (3)
#   BENCH_PYTHON=PYTHON    one more peer: a Python with another PyTorch (torchvision too, for teachers) and numpy; and ONNX Runtime, where
#                          it has that
#   MNIST=FOLDER           its IDX files instead of random images of that size
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/mpi.sh
python=/usr/bin/python3
if ! "$python" -c 'import torch, h5py, onnx' 2>/dev/null; then
  echo "bench: $python has no torch, h5py and onnx: make packages-test installs them" >&2
  exit 1
fi
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/tests/lib
exec "$python" tests/bench/bench.py "${BUILD:-build}"
