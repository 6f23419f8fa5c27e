"""How time and memory grow with rows, classes, teachers and parameters, on one rank. A growth of 1 is linear: the exponent between the
two largest sizes."""
import json
import math
import os
import shutil
import sys
import tempfile

import h5py
import numpy as np

from common import create, program, run, verdict

ROWS = [1 << 16, 1 << 18, 1 << 20]
CLASSES = [10, 100, 1000, 10_000, 100_000]
TEACHERS = [1, 4, 16, 64]
WIDTHS = [256, 512, 1024, 2048]
MOST = 1.1  # of an exponent


def measured(arguments, **variables):
    """Seconds of processor time and most MB of memory of one process."""
    with tempfile.TemporaryFile("w+") as said:
        pid = os.fork()
        if not pid:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.execve(program, [program, *arguments, "--quiet", "--force"], {**os.environ, **variables})
        _, status, used = os.wait4(pid, 0)
        if status:
            said.seek(0)
            sys.exit(f"bench: mpistill {' '.join(arguments)}: status {os.waitstatus_to_exitcode(status)}\n{said.read()[-2000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def dataset(path, rows, values):
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "mpistill-dataset", "version": 1})
        x = file.create_dataset("train/x", (rows, values), np.uint8)
        x.attrs.update({"scale": np.float32(1 / 255), "offset": np.float32(0)})
        y = file.create_dataset("train/label", (rows,), np.int32)
        for at in range(0, rows, 1 << 16):
            n = min(1 << 16, rows - at)
            x[at:at + n], y[at:at + n] = random.integers(0, 256, (n, values), np.uint8), random.integers(0, 10, n)


def soft_labels(path, data, rows, classes):
    facts = json.loads(run([program, "inspect", data, "--json"]))
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "mpistill-softlabels", "version": 1, "teacher": os.path.basename(path), "split": "train",
                           "encoding": "dense", "dataset_hash": facts["splits"]["train"]["hash"]})
        file["logits"] = np.random.default_rng(2).normal(0, 3, (rows, classes)).astype("f2")


def rows(folder):
    """An epoch of an MLP of 64-64-10; with the rows in memory, and read in windows."""
    points = []
    create(f"{folder}/m.onnx", "mlp", "--layers", "64,64,10")
    for n in ROWS:
        dataset(f"{folder}/set.h5", n, 64)
        run([program, "inspect", f"{folder}/set.h5", "--json"])  # the hash is kept
        train = ["train", "--model", f"{folder}/m.onnx", "--dataset", f"{folder}/set.h5", "--epochs", "1", "--batch", "256", "--output",
                 f"{folder}/o.onnx"]
        s, memory = measured(train)
        windows_s, windows_memory = measured([*train, "--shuffle-window", "8192"], MPISTILL_DATA_MEMORY="0")
        points.append({"size": n, "train_s": s, "train_MB": memory, "windows_s": windows_s, "windows_MB": windows_memory})
    return points


def classes(folder):
    """Top-10 labels of 512 rows by a teacher of 64-64-C, and an epoch of a student of that size on them."""
    points = []
    dataset(f"{folder}/set.h5", 512, 64)
    for n in CLASSES:
        create(f"{folder}/m.onnx", "mlp", "--layers", f"64,64,{n}")
        shutil.rmtree(f"{folder}/soft", ignore_errors=True)
        data = ["--dataset", f"{folder}/set.h5"]
        teach, teach_memory = measured(["teach", *data, "--teacher", f"t={folder}/m.onnx", "--top-k", "10", "--output", f"{folder}/soft"])
        distil, memory = measured(["distill", "--student", f"{folder}/m.onnx", *data, "--soft-labels", f"{folder}/soft/t.h5", "--epochs", "1",
                                   "--batch", "256", "--kd-weight", "1", "--output", f"{folder}/o.onnx"])
        points.append({"size": n, "teach_s": teach, "teach_MB": teach_memory, "distill_s": distil, "distill_MB": memory})
    return points


def teachers(folder):
    """Labels of 65,536 rows of 10 classes combined into a file, and an epoch of an MLP of 64-64-10 that combines them itself."""
    points = []
    n = 1 << 16
    dataset(f"{folder}/set.h5", n, 64)
    create(f"{folder}/m.onnx", "mlp", "--layers", "64,64,10")
    for i in range(max(TEACHERS)):
        soft_labels(f"{folder}/t{i}.h5", f"{folder}/set.h5", n, 10)
    for k in TEACHERS:
        files = [f"{folder}/t{i}.h5" for i in range(k)]
        combine, combine_memory = measured(["aggregate", *files, "--dataset", f"{folder}/set.h5", "--output", f"{folder}/e.h5"])
        distil, memory = measured(["distill", "--student", f"{folder}/m.onnx", "--dataset", f"{folder}/set.h5",
                                   *(w for f in files for w in ("--soft-labels", f)), "--epochs", "1", "--batch", "256", "--output",
                                   f"{folder}/o.onnx"])
        points.append({"size": k, "aggregate_s": combine, "aggregate_MB": combine_memory, "distill_s": distil, "distill_MB": memory})
    return points


def parameters(folder):
    """An epoch of 4,096 rows of an MLP with two hidden layers of one width."""
    points = []
    dataset(f"{folder}/set.h5", 4096, 64)
    for width in WIDTHS:
        create(f"{folder}/m.onnx", "mlp", "--layers", f"64,{width},{width},10")
        s, memory = measured(["train", "--model", f"{folder}/m.onnx", "--dataset", f"{folder}/set.h5", "--epochs", "1", "--batch", "256",
                              "--learning-rate", "0.001", "--output", f"{folder}/o.onnx"])
        points.append({"size": 65 * width + (width + 1) * width + (width + 1) * 10, "train_s": s, "train_MB": memory})
    return points


CURVES = {"rows": rows, "classes": classes, "teachers": teachers, "parameters": parameters}


def measure(folder, _pythons):
    result = {}
    for name, curve in CURVES.items():
        points = curve(folder)
        a, b = points[-2:]
        growth = {key: math.log(b[key] / a[key]) / math.log(b["size"] / a["size"]) for key in a if key.endswith("_s")}
        result[name] = {"what": " ".join(curve.__doc__.split()), "points": points, "exponents": growth}
    return result


def show(result):
    print("\ngrowth: processor seconds and most memory of one rank")
    for name, curve in result.items():
        print(f"{name}: {curve['what']}")
        for p in curve["points"]:
            print(f"  {p['size']:>10,} " + " ".join(f"{key} {value:9.2f}" for key, value in p.items() if key != "size"))
        print("  exponent of the last step: " + ", ".join(f"{key} {e:.2f}{verdict(e <= MOST)}" for key, e in curve["exponents"].items()), flush=True)
