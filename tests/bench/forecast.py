"""What `mpistill plan` foresees against what the runs take: time on as many ranks as there are cores for, memory and disk on 1, 2 and 4."""
import os
import statistics
import subprocess
import tempfile
import time

import h5py
import numpy as np

from memory import held

CNN = "{create: cnn, input: [1, 28, 28], channels: [16, 32], kernel: 3, hidden: 64, classes: 10}"
RECIPES = {  # a row, the teachers, the student, epochs, further lines
    "mlp": ((784,), ("mlp --layers 784,1200,1200,10", "mlp --layers 784,800,800,10"), "{create: mlp, layers: [784, 400, 400, 10]}", 4, ""),
    "cnn": ((1, 28, 28), ("cnn --input 1x28x28 --classes 10", "resnet --depth 8 --input 1x28x28 --classes 10"), CNN, 2, ""),
    "vit": ((3, 32, 32), ("vit --input 3x32x32 --classes 10 --depth 4", "resnet --depth 8 --input 3x32x32 --classes 10"),
            "{create: vit, input: [3, 32, 32], classes: 10, width: 32, depth: 2}", 2, ""),
    "live": ((1, 28, 28), ("mlp --layers 784,1200,1200,10", "resnet --depth 8 --input 1x28x28 --classes 10"), CNN, 2, "teach: live\n"),
}


def prepare(folder, program, row, teachers, student, epochs, more):
    random = np.random.default_rng(1)
    with h5py.File(f"{folder}/set.h5", "w") as f:
        f.attrs.update({"format": "mpistill-dataset", "version": 1})
        for split, n in (("train", 12000), ("test", 2000)):
            x = random.integers(0, 256, (n, *row), np.uint8)
            f[f"{split}/image"], f[f"{split}/label"] = x, random.integers(0, 10, n).astype("i4")
            f[f"{split}/image"].attrs.update({"scale": np.float32(1 / 255), "offset": np.float32(0)})
    names = []
    for i, kind in enumerate(teachers):
        subprocess.run([program, "create", *kind.split(), "--output", f"{folder}/t{i}.onnx", "--force"], check=True)
        names.append(f"  - {{name: t{i}, model: t{i}.onnx}}\n")
    with open(f"{folder}/recipe.yaml", "w") as f:
        f.write(f"dataset: set.h5\noutput: run\nteachers:\n{''.join(names)}student: {student}\n{more}"
                f"distill: {{epochs: {epochs}, batch: 256}}\ncheckpoint: {{every_seconds: 1}}\n")


def watch(command):
    """Seconds, and the most bytes held. What the run says, of teachers that know nothing above all, is shown where it fails."""
    at, most = time.monotonic(), 0
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said) as process:
        while process.poll() is None:
            most = max(most, held(process.pid))
            time.sleep(0.005)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{said.read().decode()}bench: {' '.join(command)}: status {process.returncode}")
    return time.monotonic() - at, most


def sizes(folder, files):
    """Bytes as foreseen and as they are, of the files that lie there in the end."""
    both = [(f["bytes"], os.path.getsize(f"{folder}/run/{f['file']}")) for f in files if os.path.isfile(f"{folder}/run/{f['file']}")]
    return sum(a for a, _ in both), sum(b for _, b in both)


def measure(folder, program, mpirun, repeats, run, load):
    rows = []
    for name, (row, teachers, student, epochs, more) in RECIPES.items():
        prepare(folder, program, row, teachers, student, epochs, more)
        for ranks in (1, 2, 4):
            plans, times, memory = [], [], []
            fits = ranks <= os.cpu_count()
            for _ in range(repeats if fits else 1):
                plans.append(load(run([program, "plan", f"{folder}/recipe.yaml", "--ranks", str(ranks), "--json"])))
                subprocess.run(["rm", "-rf", f"{folder}/run"], check=True)
                seconds, most = watch([mpirun, "-n", str(ranks), *(("--bind-to", "core") if fits else ("--oversubscribe",)), program, "run",
                                       f"{folder}/recipe.yaml", "--quiet"])
                times.append(seconds)
                memory.append(most)
            disk = sizes(folder, plans[0]["files"])
            rows.append({"recipe": name, "ranks": ranks, "seconds": ([p["seconds"] for p in plans], times) if fits else None,
                         "memory": ([p["memory"]["node"] for p in plans], memory), "disk": ([disk[0]], [disk[1]])})
    return rows


def column(pair, scale, digits):
    if pair is None:
        return f"{'-':>9} {'-':>9} {'-':>6}"
    foreseen, taken = (statistics.median(x) for x in pair)
    return f"{foreseen / scale:9.{digits}f} {taken / scale:9.{digits}f} {foreseen / taken:6.2f}"


def show(rows):
    print("\nplan: a whole run as foreseen, as it was, and the ratio; medians")
    print(f"{'recipe':8} {'ranks':>5}   {'seconds':26}   {'MB of a node':26}   MB on disk")
    for r in rows:
        print(f"{r['recipe']:8} {r['ranks']:5}   {column(r['seconds'], 1, 2)}   {column(r['memory'], 1e6, 1)}   {column(r['disk'], 1e6, 2)}")
