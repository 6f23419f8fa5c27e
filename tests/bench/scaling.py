"""What ranks and threads bring, what the fixed shards and tree cost, and how long ranks wait in teach."""
import os
import re
import shutil
import tempfile

import h5py
import numpy as np

from cases import CASES
from common import bound, build, create, on, profile_of, program, ranks, repeats, run, spread, text, verdict
from training import prepare, run_ours

EFFICIENCY = {"mlp-kd": 0.9, "lenet": 0.95, "resnet20": 0.95}
THREADS = {"mlp-kd": 0.85, "lenet": 0.85}
PROMISE = {"as many shards as ranks": (None, 1.03), "8 shards of 32 rows": (8, 1.10)}
IDLE = 0.05


def in_turn(case, ways):
    """Results of each way, by name, one after the other `repeats` times."""
    folder = tempfile.mkdtemp(prefix="mpistill-bench.")
    try:
        prepare(folder, case)
        results = {name: [] for name in ways}
        for _ in range(repeats):
            for name, (changes, start, threads) in ways.items():
                results[name].append(run_ours(folder, {**case, **changes}, start, threads))
    finally:
        shutil.rmtree(folder)
    return results


def efficiency(name):
    """Samples a second of 2 ranks against twice those of 1 rank: the same work, the same bytes."""
    r = in_turn(CASES[name], {"1": ({}, on(1), 1), "2": ({}, on(2), 1)})
    return spread([b["rate"] / a["rate"] / 2 for a, b in zip(r["1"], r["2"])])


def threads(name):
    """Samples a second of 1 rank of 2 threads against 2 ranks of 1."""
    r = in_turn(CASES[name], {"threads": ({}, on(1, 2), 2), "ranks": ({}, on(2), 1)})
    return spread([a["rate"] / b["rate"] for a, b in zip(r["threads"], r["ranks"])])


def allreduce_s(n_floats, n_ranks):
    """Seconds of MPI_Allreduce of that vector, the way without fixed shards: bench_reduce."""
    said = run([*on(n_ranks), f"{build}/tests/bench/bench_reduce", "21", str(n_floats), str(n_ranks)])
    return float(re.search(r"   MPI_Allreduce ([\d.]+)", said)[1]) / 1e3


def promise(shards, n_ranks):
    """Seconds of a step with `shards`, against one of a single local batch a rank with MPI_Allreduce in place of the tree."""
    case = CASES["mlp-kd"]
    layers = case["layers"]
    n_floats = sum((a + 1) * b for a, b in zip(layers, layers[1:]))
    ways = {"fixed": ({"shards": shards}, on(n_ranks), 1), "local": ({"shards": n_ranks}, on(n_ranks), 1)}
    r = in_turn(case, ways)
    other = allreduce_s(n_floats, n_ranks) if n_ranks > 1 else 0
    return spread([a["step_s"] / (b["step_s"] - b["allreduce_s"] + other) for a, b in zip(r["fixed"], r["local"])])


def idle(folder):
    """The share of its time that all ranks together wait in teach, with two teachers of which one costs ten times the other."""
    random = np.random.default_rng(1)
    rows = 262144
    with h5py.File(f"{folder}/set.h5", "w") as file:
        file.attrs.update({"format": "mpistill-dataset", "version": 1})
        file["train/x"], file["train/label"] = random.random((rows, 256), np.float32), random.integers(0, 10, rows).astype("i4")
    create(f"{folder}/small.onnx", "mlp", "--layers", "256,720,10")
    create(f"{folder}/large.onnx", "mlp", "--layers", "256,1280,1232,10")  # 10 times the multiply-adds
    shares = []
    for _ in range(repeats):
        shutil.rmtree(f"{folder}/soft", ignore_errors=True)
        shutil.rmtree(f"{folder}/times", ignore_errors=True)
        os.mkdir(f"{folder}/times")
        run([*bound, program, "teach", "--dataset", f"{folder}/set.h5", "--teacher", f"small={folder}/small.onnx", "--teacher",
             f"large={folder}/large.onnx", "--output", f"{folder}/soft", "--quiet"], env={**os.environ, "MPISTILL_PROFILE": f"{folder}/times"})
        phases, whole = profile_of(f"{folder}/times")
        shares.append(phases["wait"] / whole)
    return spread(shares)


def measure(folder, _pythons):
    rows = {"efficiency of 2 ranks": {n: {**efficiency(n), "least": least} for n, least in EFFICIENCY.items()},
            "1 rank of 2 threads : 2 ranks": {n: {**threads(n), "least": least} for n, least in THREADS.items()},
            "cost of fixed shards and tree": {}, "waiting in teach, teachers 1 : 10": {"": {**idle(folder), "most": IDLE}}}
    for name, (shards, most) in PROMISE.items():
        for n in (1, ranks):
            rows["cost of fixed shards and tree"][f"{name}, {n} ranks"] = {**promise(shards or n, n), "most": most}
    return rows


def show(result):
    print(f"\nranks and threads, median (least–most) of {repeats}")
    for what, rows in result.items():
        for name, r in rows.items():
            good = r["median"] >= r["least"] if "least" in r else r["median"] <= r["most"]
            aim = f"≥ {r['least']}" if "least" in r else f"≤ {r['most']}"
            print(f"{what:34} {name:34} {text(r, 3):24} {aim}{verdict(good)}", flush=True)
