"""Runs the cases, ours and each peer in turn, and prints samples a second: median (least, most).  bench.py BUILD"""
import glob
import gzip
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import onnx
from onnx import numpy_helper

import forecast
from cases import CASES, CLASSES, KD_WEIGHT, LEARNING_RATE, MOMENTUM, TEMPERATURE, create_arguments

from teachers import TEACHERS

INFERENCE = [f"inference-{name}" for name in TEACHERS]
SECONDS = os.environ.get("BENCH_SECONDS", "3")  # of every turn of an inference case
HERE = os.path.dirname(os.path.abspath(__file__))
build = os.path.abspath(sys.argv[1])
program = f"{build}/mpistill"
repeats = int(os.environ.get("BENCH_REPEATS", "5"))
ranks = int(os.environ.get("BENCH_RANKS", "2"))
bound = [os.environ.get("MPIRUN", "mpirun"), "-n", str(ranks), "--bind-to", "core"]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"bench: {' '.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


# ---- inputs: the same arrays for everyone ----

def idx(folder, name):
    path = (glob.glob(f"{folder}/{name}*") or [f"{folder}/{name}"])[0]
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        data = file.read()
    sizes = np.frombuffer(data, ">i4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)


def images_and_labels(case):
    """MNIST, or noise whose labels can be learned: a linear model made them."""
    n, row = case["rows"], case["row"]
    folder = os.environ.get("MNIST")
    if folder and int(np.prod(row)) == 784:
        x, y = idx(folder, "train-images-idx3-ubyte"), idx(folder, "train-labels-idx1-ubyte")
        return x[:n].reshape(n, *row), y[:n].astype(np.int32)
    random = np.random.default_rng(1)
    x = random.integers(0, 256, (n, *row), np.uint8)
    scores = (x.reshape(n, -1) / 255 - 0.5) @ random.normal(0, 1, (int(np.prod(row)), CLASSES))
    return x, scores.argmax(1).astype(np.int32)


def write_soft_labels(folder, case, logits):
    facts = json.loads(run([program, "inspect", f"{folder}/set.h5", "--json"]))
    with h5py.File(f"{folder}/soft.h5", "w") as file:
        file.attrs.update({"format": "mpistill-softlabels", "version": 1, "teacher": "random", "split": "train",
                           "encoding": "dense", "dataset_hash": facts["splits"]["train"]["hash"]})
        file.create_dataset("logits", data=logits)


def write_initial(folder):
    """The student's parameters in the order of the file, for the peer to start from."""
    model = onnx.load(f"{folder}/student.onnx")
    trained = [i for i in model.graph.initializer if not i.name.endswith((".mean", ".variance"))]
    np.savez(f"{folder}/student.npz", **{i.name: numpy_helper.to_array(i) for i in trained})


def prepare(folder, case):
    x, y = images_and_labels(case)
    np.save(f"{folder}/x.npy", x)
    np.save(f"{folder}/y.npy", y)
    run([program, "import", "npy", f"train={folder}/x.npy,{folder}/y.npy", "--output", f"{folder}/set.h5", "--quiet"])
    with h5py.File(f"{folder}/set.h5", "r+") as file:
        file["train/image"].attrs.update({"scale": np.float32(1 / 255), "offset": np.float32(0)})
    run([program, "create", *create_arguments(case), "--seed", "1", "--output", f"{folder}/student.onnx"])
    write_initial(folder)
    if case.get("kd"):
        logits = np.random.default_rng(2).normal(0, 3, (case["rows"], CLASSES)).astype(np.float32)
        np.save(f"{folder}/logits.npy", logits)
        write_soft_labels(folder, case, logits)


# ---- one run each ----

def samples_per_s(case, seconds):
    return case["rows"] * (len(seconds) - 1) / sum(seconds[1:])


def run_ours(folder, case):
    log = f"{folder}/log.jsonl"
    for name in ("log.jsonl", "out.onnx", "out.onnx.inputs"):
        if os.path.exists(f"{folder}/{name}"):
            os.remove(f"{folder}/{name}")
    command = [*bound, program, "distill", "--student"] if case.get("kd") else [*bound, program, "train", "--model"]
    command += [f"{folder}/student.onnx", "--dataset", f"{folder}/set.h5", "--epochs", str(case["epochs"])]
    command += ["--batch", str(case["batch"]), "--shards", str(case["shards"]), "--learning-rate", str(LEARNING_RATE)]
    command += ["--momentum", str(MOMENTUM), "--schedule", "constant", "--quiet", "--log", log, "--output", f"{folder}/out.onnx"]
    if case.get("kd"):
        command += ["--soft-labels", f"{folder}/soft.h5", "--temperature", str(TEMPERATURE), "--kd-weight", str(KD_WEIGHT)]
    run(command)
    with open(log) as file:
        epochs = [event for event in map(json.loads, file) if event["event"] == "epoch"]
    assert len(epochs) == case["epochs"]
    phases = {k: sum(e["seconds"][k] for e in epochs[1:]) / sum(e["seconds"]["all"] for e in epochs[1:])
              for k in epochs[0]["seconds"] if k != "all"}
    return {"rate": samples_per_s(case, [e["seconds"]["all"] for e in epochs]), "loss": epochs[-1]["loss"]["total"],
            "phases": phases}


def run_peer(python, folder, name):
    if os.path.exists(f"{folder}/meeting"):
        os.remove(f"{folder}/meeting")
    said = json.loads(run([*bound, python, f"{HERE}/peer.py", name, folder]).strip().splitlines()[-1])
    return {"rate": samples_per_s(CASES[name], said["seconds"]), "loss": said["loss"], "version": said["version"]}


# ---- tables ----

def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def text(s, digits=0):
    return f"{s['median']:,.{digits}f} ({s['min']:,.{digits}f}–{s['max']:,.{digits}f})"


def measure(name, case, pythons):
    folder = tempfile.mkdtemp(prefix="mpistill-bench.")
    try:
        prepare(folder, case)
        ours, theirs = [], {python: [] for python in pythons}
        for _ in range(repeats):
            ours.append(run_ours(folder, case))
            for python in pythons:
                theirs[python].append(run_peer(python, folder, name))
    finally:
        shutil.rmtree(folder)
    result = {"ours": spread([r["rate"] for r in ours]), "loss": ours[0]["loss"], "aim": case["aim"],
              "phases": {k: statistics.median(r["phases"][k] for r in ours) for k in ours[0]["phases"]}, "peers": {}}
    for runs in theirs.values():
        result["peers"][runs[0]["version"]] = {**spread([r["rate"] for r in runs]), "loss": runs[0]["loss"],
                                               "ratio": spread([a["rate"] / b["rate"] for a, b in zip(ours, runs)])}
    return result


def show(name, result):
    for version, peer in result["peers"].items():
        aim = f"{result['aim']:g}×" + ("" if peer["ratio"]["median"] >= result["aim"] else " missed")
        print(f"{name:10} {text(result['ours']):32} {'PyTorch ' + version:20} {text(peer):32} {text(peer['ratio'], 2):22} {aim}")
        if abs(peer["loss"] - result["loss"]) > 0.05 * abs(peer["loss"]):
            print(f"  the losses differ: ours {result['loss']:.4f}, {peer['loss']:.4f}: not the same work")
    phases = ", ".join(f"{k} {v:.0%}" for k, v in result["phases"].items())
    print(f"  time of rank 0: {phases}; loss {result['loss']:.4f}", flush=True)


def measure_allreduce():
    """Milliseconds of one optimizer step's communication, by bench_reduce."""
    columns = {}
    for _ in range(repeats):
        for line in run([*bound, f"{build}/tests/bench/bench_reduce"]).splitlines():
            size = re.match(r" *([\d.]+ MiB +\d+ shards)", line)
            if size:
                for what, median in re.findall(r"(\S+) ([\d.]+) \(", line):
                    columns.setdefault(" ".join(size[1].split()), {}).setdefault(what, []).append(float(median))
    return {size: {what: spread(values) for what, values in row.items()} |
            {"ratio": spread([a / b for a, b in zip(row["sum+MPI_Allreduce+update"], row["tree"])])}
            for size, row in columns.items()}


def show_allreduce(rows):
    print(f"\n{'milliseconds':20} {'tree, with update':26} {'sum + MPI_Allreduce + update':30} {'MPI_Allreduce alone':26} ratio")
    for size, row in rows.items():
        print(f"{size:20} {text(row['tree'], 3):26} {text(row['sum+MPI_Allreduce+update'], 3):30} "
              f"{text(row['MPI_Allreduce'], 3):26} {text(row['ratio'], 2)}", flush=True)


# ---- inference of teachers, one thread each ----

def infer_ours(folder, rows):
    said = run([f"{build}/tests/bench/bench_model", f"{folder}/model.onnx", str(rows), SECONDS, f"{folder}/x.bin", f"{folder}/ours.bin"])
    return "mpistill", float(said.split()[1]), np.fromfile(f"{folder}/ours.bin", np.float32)


def infer_peer(python, what, folder, name):
    said = json.loads(run([python, f"{HERE}/teachers.py", what, name, folder, SECONDS]).splitlines()[-1])
    return said["version"], said["median_s"], np.load(f"{folder}/{what}.npy").ravel()


def measure_inference(name, pythons):
    folder = tempfile.mkdtemp(prefix="mpistill-bench.")
    try:
        run([pythons[0], f"{HERE}/teachers.py", "export", name, folder])
        rows = len(np.load(f"{folder}/x.npy"))
        calls = [lambda: infer_ours(folder, rows)] + [lambda python=python: infer_peer(python, "torch", folder, name) for python in pythons]
        if subprocess.run([pythons[-1], "-c", "import onnxruntime"], capture_output=True).returncode == 0:
            calls.append(lambda: infer_peer(pythons[-1], "onnxruntime", folder, name))
        rates = {}
        for _ in range(repeats):
            for call in calls:
                who, seconds, y = call()
                rates.setdefault(who, []).append(rows / seconds)
                if who == "mpistill":
                    ours = y
                elif not np.allclose(ours, y, rtol=1e-3, atol=1e-4):
                    sys.exit(f"bench: {name}: {who} has other outputs, by {np.abs(ours - y).max():.1e}")
    finally:
        shutil.rmtree(folder)
    return {who: {**spread(r), "ratio": spread([a / b for a, b in zip(rates["mpistill"], r)])} for who, r in rates.items()}


def show_inference(name, result):
    ours = result["mpistill"]
    for who, peer in result.items():
        if who != "mpistill":
            digits = 0 if ours["median"] > 1000 else 1
            print(f"{name:14} {text(ours, digits):32} {who:20} {text(peer, digits):32} {text(peer['ratio'], 2)}", flush=True)


def main():
    only = os.environ.get("BENCH")
    known = [*CASES, "inference", *INFERENCE, "allreduce", "plan"]
    if only and only not in known:
        sys.exit(f"bench: '{only}' is not known; there are: {', '.join(known)}")
    pythons = ["/usr/bin/python3"] + ([os.environ["BENCH_PYTHON"]] if os.environ.get("BENCH_PYTHON") else [])
    results = {"ranks": ranks, "repeats": repeats, "cases": {}}
    if only in (None, "", *CASES):
        print(f"samples/s over the epochs after the first, {ranks} ranks with one thread on a core each, median (least–most) of {repeats}")
        print(f"{'case':10} {'mpistill':32} {'peer':20} {'':32} {'ratio of turns':22} aim")
    for name, case in CASES.items():
        if only in (None, "", name):
            results["cases"][name] = measure(name, case, pythons)
            show(name, results["cases"][name])
    if only in (None, "", "inference", *INFERENCE):
        print(f"\nteachers: rows/s of forward passes in one thread, median (least–most) of {repeats} turns")
        print(f"{'teacher':14} {'mpistill':32} {'peer':20} {'':32} ratio of turns")
    for name in TEACHERS:
        if only in (None, "", "inference", f"inference-{name}"):
            results.setdefault("inference", {})[name] = measure_inference(name, pythons)
            show_inference(name, results["inference"][name])
    if only in (None, "", "allreduce"):
        results["allreduce"] = measure_allreduce()
        show_allreduce(results["allreduce"])
    if only in (None, "", "plan"):
        with tempfile.TemporaryDirectory() as folder:
            results["plan"] = forecast.measure(folder, program, bound[0], repeats, run, json.loads)
        forecast.show(results["plan"])
    with open(f"{build}/bench.json", "w") as file:
        json.dump(results, file, indent=1)
    print(f"all numbers: {os.path.relpath(build)}/bench.json")


main()
