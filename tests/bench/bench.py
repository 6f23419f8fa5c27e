"""Runs the cases, ours and each peer in turn, and prints samples a second: median (least, most).  bench.py BUILD"""
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import numpy as np

import curves
import forecast
import limits
import manyteachers
import scaling
import storage
from cases import CASES
from common import HERE, bound, build, mpirun, program, ranks, repeats, run, spread, text
from teachers import TEACHERS
from training import prepare, run_ours, run_peer

INFERENCE = [f"inference-{name}" for name in TEACHERS]
PARTS = {"many-teachers": manyteachers, "storage": storage, "scaling": scaling, "curves": curves, "limits": limits}
SECONDS = os.environ.get("BENCH_SECONDS", "3")  # of every turn of an inference case


# ---- tables ----

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


def versions():
    """Of the libraries this program runs on."""
    said = run([program, "--version"]).split()[-1]
    return {"mpistill": said, "mpi": run([mpirun, "--version"]).splitlines()[0], "python": sys.version.split()[0],
            "linked": sorted({os.path.basename(line.split()[2]) if "=>" in line else line.split()[0]
                              for line in run(["ldd", program]).splitlines() if re.search("dnnl|openblas|hdf5|libmpi", line)})}


def main():
    only = os.environ.get("BENCH")
    known = [*CASES, "inference", *INFERENCE, "allreduce", "plan", *PARTS]
    if only and only not in known:
        sys.exit(f"bench: '{only}' is not known; there are: {', '.join(known)}")
    pythons = ["/usr/bin/python3"] + ([os.environ["BENCH_PYTHON"]] if os.environ.get("BENCH_PYTHON") else [])
    results = {"ranks": ranks, "threads": 1, "repeats": repeats, "versions": versions(), "cases": {}}
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
            results["plan"] = forecast.measure(folder, program, mpirun, repeats, run, json.loads)
        forecast.show(results["plan"])
    for name, part in PARTS.items():
        if only in (None, "", name):
            with tempfile.TemporaryDirectory(prefix="mpistill-bench.") as folder:
                results[name] = part.measure(folder, pythons)
            part.show(results[name])
    with open(f"{build}/bench.json", "w") as file:
        json.dump(results, file, indent=1)
    print(f"all numbers: {os.path.relpath(build)}/bench.json")


main()
