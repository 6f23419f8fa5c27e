"""What `mpistill plan` foresees against what the runs take, on as many ranks as there are cores for."""
import os
import statistics
import subprocess
import time

import h5py
import numpy as np

RECIPES = {
    "mlp": ((784,), ("mlp --layers 784,1200,1200,10", "mlp --layers 784,800,800,10"), "{create: mlp, layers: [784, 400, 400, 10]}", 4),
    "cnn": ((1, 28, 28), ("cnn --input 1x28x28 --classes 10", "resnet --depth 8 --input 1x28x28 --classes 10"),
            "{create: cnn, input: [1, 28, 28], channels: [16, 32], kernel: 3, hidden: 64, classes: 10}", 2),
    "vit": ((3, 32, 32), ("vit --input 3x32x32 --classes 10 --depth 4", "resnet --depth 8 --input 3x32x32 --classes 10"),
            "{create: vit, input: [3, 32, 32], classes: 10, width: 32, depth: 2}", 2),
}


def prepare(folder, program, row, teachers, student, epochs):
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
        f.write(f"dataset: set.h5\noutput: run\nteachers:\n{''.join(names)}student: {student}\ndistill: {{epochs: {epochs}, batch: 256}}\n")


def measure(folder, program, mpirun, repeats, run, load):
    """Rows of (recipe, ranks, foreseen seconds, measured seconds)."""
    rows = []
    counts = [n for n in (1, 2, 4) if n <= os.cpu_count()]
    for name, (row, teachers, student, epochs) in RECIPES.items():
        prepare(folder, program, row, teachers, student, epochs)
        for ranks in counts:
            foreseen, taken = [], []
            for _ in range(repeats):
                foreseen.append(load(run([program, "plan", f"{folder}/recipe.yaml", "--ranks", str(ranks), "--json"]))["seconds"])
                subprocess.run(["rm", "-rf", f"{folder}/run"], check=True)
                at = time.monotonic()
                run([mpirun, "-n", str(ranks), "--bind-to", "core", program, "run", f"{folder}/recipe.yaml", "--quiet"])
                taken.append(time.monotonic() - at)
            rows.append({"recipe": name, "ranks": ranks, "foreseen": foreseen, "taken": taken,
                         "ratio": statistics.median(foreseen) / statistics.median(taken)})
    return rows


def show(rows):
    print("\nplan: seconds of a whole run as foreseen and as taken, medians")
    print(f"{'recipe':10} {'ranks':>5} {'foreseen':>9} {'taken':>9} {'ratio':>6}")
    for r in rows:
        print(f"{r['recipe']:10} {r['ranks']:5} {statistics.median(r['foreseen']):9.2f} {statistics.median(r['taken']):9.2f} {r['ratio']:6.2f}")
