"""Seeds for the fuzz targets, below the folder given: small whole files of every format, and damaged neighbours that reach deeper than chance."""
import gzip
import io
import os
import pathlib
import struct
import subprocess
import sys

import h5py
import numpy as np

folder, mpistill, top = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
rng = np.random.default_rng(1)


def seed(target, name, data):
    (folder / target).mkdir(parents=True, exist_ok=True)
    (folder / target / name).write_bytes(data)


def run(*arguments):
    subprocess.run([mpistill, *map(str, arguments)], check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def two(first, second=b""):
    return struct.pack("<H", len(first)) + first + second


def idx(kind, array):
    return struct.pack(">HBB", 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


images, labels = rng.integers(0, 255, (5, 3, 4), np.uint8), np.array([0, 1, 2, 1, 0], np.uint8)
seed("idx", "plain", two(idx(8, images), idx(8, labels)))
seed("idx", "gzip", two(gzip.compress(idx(8, images)), gzip.compress(idx(8, labels))))
seed("idx", "float", two(idx(13, images.astype(">f4")), idx(8, labels)))
seed("cifar", "ten", two(b"".join(bytes([i]) + rng.bytes(3072) for i in range(2))))
for name, array in {"u1": images, "f4": images.astype("<f4"), "f8": images.astype("<f8"), "i8": images.astype("<i8"), "big": images.astype(">f4")}.items():
    first, second = io.BytesIO(), io.BytesIO()
    np.save(first, array)
    np.save(second, labels)
    seed("npy", name, two(first.getvalue(), second.getvalue()))
fortran = io.BytesIO()
np.save(fortran, np.asfortranarray(images.astype("<f4")))
seed("npy", "fortran", two(fortran.getvalue()))
table = b"a,b,class\n1,2.5,x\n-3,4e2,y\n5,6,x\n"
quoted = b'"a ""q""",colour,class\r\n1,"red, dark",0\r\n2,blue,1\r\n'
for choice in b"\0\1":
    seed("csv", f"plain{choice}", bytes([choice]) + two(table))
    seed("csv", f"quoted{choice}", bytes([choice]) + two(quoted))
    seed("csv", f"gzip{choice}", bytes([choice]) + two(gzip.compress(table)))

for i, path in enumerate(sorted(top.glob("datasets/*.yaml"))):
    seed("recipe", path.name, path.read_bytes())
seed("recipe", "small", b"dataset: d.h5\noutput: o\nteachers: [{name: a, model: a.onnx, weight: 2}]\nstudent: {create: mlp, layers: [4, 3]}\n"
     b"distill: {epochs: 2, losses: [{kind: kd, temperature: 4, weight: 0.9}, {kind: cross-entropy, weight: 0.1}]}\n")

with h5py.File(folder / "data.h5", "w", libver="earliest") as file:
    file.attrs["format"], file.attrs["version"], file.attrs["name"] = "mpistill-dataset", np.int32(1), "seed"
    for split in "train", "test":
        group = file.create_group(split, track_order=False)
        image = group.create_dataset("image", data=rng.integers(0, 16, (8, 1, 2, 2), np.uint8))
        image.attrs["scale"], image.attrs["offset"] = np.float32([1 / 16]), np.float32([0])
        group.create_dataset("label", data=rng.integers(0, 3, 8).astype(np.int32))
run("create", "mlp", "--layers", "4,3", "--output", "mlp.onnx")
run("create", "cnn", "--input", "1x4x4", "--channels", "2", "--hidden", "4", "--classes", "3", "--batch-norm", "--output", "cnn.onnx")
for dtype in "float16", "float32":
    run("teach", "--dataset", "data.h5", "--teacher", "mlp.onnx", "--dtype", dtype, "--output", dtype, "--quiet")
    seed("softlabels", dtype, (folder / dtype / "mlp.h5").read_bytes())
run("teach", "--dataset", "data.h5", "--teacher", "mlp.onnx", "--top-k", "2", "--output", "top", "--quiet")
seed("softlabels", "top", (folder / "top" / "mlp.h5").read_bytes())
seed("dataset", "small", (folder / "data.h5").read_bytes())
stopped = subprocess.Popen([mpistill, "train", "--model", "mlp.onnx", "--dataset", "data.h5", "--epochs", "1000000", "--checkpoint-seconds", "0.1",
                            "--quiet", "--output", "t.onnx"], cwd=folder, stderr=subprocess.DEVNULL)
while not (folder / "t.onnx.ckpt" / "1.h5").exists() and stopped.poll() is None:
    os.sched_yield()
stopped.kill()
stopped.wait()
seed("checkpoint", "small", (folder / "t.onnx.ckpt" / "0.h5").read_bytes())

for name in "mlp", "cnn":
    seed("onnx", name, (folder / f"{name}.onnx").read_bytes())
operators = pathlib.Path("/usr/share/libonnx-testdata")
for path in sorted(p for p in operators.glob("data/node/*/model.onnx") if p.stat().st_size < 4000):
    seed("onnx", path.parent.name, path.read_bytes())
