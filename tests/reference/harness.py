"""What the tests of this folder share: running mpistill, its files, its random numbers, and the lines `ok NAME: ...` they print.

A test is a function marked with @test("NAME"); it returns a text of what was measured, or raises. main() runs all whose name holds
one of the words of the command line. $MPISTILL names the program, otherwise $BUILD/mpistill (build/mpistill) of this tree is taken."""
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback

import h5py
import numpy as np
import onnx
import torch
from onnx import numpy_helper

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(os.environ.get("MPISTILL") or os.path.join(TOP, os.environ.get("BUILD", "build"), "mpistill"))
DIGITS = os.path.join(TOP, "datasets", "digits.h5")
SECONDS = 120

# One plain SGD step at this rate leaves old - new = RATE * gradient. At a rate of 1 the new parameter's rounding, up to 2^-24 of the
# parameter, would hide gradients that are much smaller than their parameters; at 2^16 it is 2^-24 of the gradient's own size, or 2^-40
# of the parameter's.
RATE = 2.0**16

tests = []


class Failure(Exception):
    pass


def test(name):
    def add(function):
        tests.append((name, function))
        return function

    return add


def within(what, value, bound):
    """Fails unless value <= bound (NaN fails too); otherwise what to print."""
    if not value <= bound:
        raise Failure(f"{what}: {value:.3g}, allowed {bound:.3g}")
    return f"{what} {value:.1e} of {bound:.0e}"


def main():
    if not os.access(PROGRAM, os.X_OK):
        print(f"not ok {PROGRAM} is missing: make first, or set MPISTILL")
        return 1
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    failures, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mpistill-test.") as folder:
        os.chdir(folder)
        for name, function in tests:
            if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
                continue
            try:
                print(f"ok {name}: {function()}", flush=True)
            except Exception as error:  # one test's failure must not hide the others' results
                failures += 1
                print(f"not ok {name} ({error})", flush=True)
                if not isinstance(error, Failure):
                    traceback.print_exc(limit=-3)
        os.chdir(TOP)
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if failures else 0


# ---- the program ----


def mpistill(*arguments):
    """Runs a command; its stdout."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=SECONDS)
    if done.returncode != 0:
        raise Failure(f"mpistill {' '.join(map(str, arguments))}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def flags(options):
    """{"learning_rate": 0.1, "nesterov": True, "soft_labels": [a, b]} as command-line words."""
    words = []
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        for item in value if isinstance(value, list) else [value]:
            words += [flag] if item is True else [flag, str(item)]
    return words


n_outputs = 0


def fresh(suffix):
    """A file name not used yet: a file of the same size and age must not be taken for another."""
    global n_outputs
    n_outputs += 1
    return f"{n_outputs}{suffix}"


def create(*arguments):
    path = fresh(".onnx")
    mpistill("create", *arguments, "--output", path)
    return path


class Trained:
    """What a train or distill command left: the model's file and the "epoch" events of its log."""

    def __init__(self, command, options):
        self.path, log = fresh(".onnx"), fresh(".jsonl")
        mpistill(command, *flags(options), "--quiet", "--output", self.path, "--log", log)
        with open(log, encoding="utf-8") as lines:
            events = [json.loads(line) for line in lines]
        self.epochs = [event for event in events if event["event"] == "epoch"]

    def losses(self, part="total"):
        return [epoch["loss"][part] for epoch in self.epochs]

    def parameters(self):
        return read_parameters(self.path)


def train(model, dataset, **options):
    return Trained("train", {"model": model, "dataset": dataset, **options})


def distill(student, dataset, **options):
    return Trained("distill", {"student": student, "dataset": dataset, **options})


def gradient_step(run, model, dataset, **options):
    """One step on the whole dataset: ({name: gradient in double}, the loss, {name: value after it}). The first has the names of running
    statistics too, with no meaning."""
    done = run(model, dataset, epochs=1, learning_rate=RATE, momentum=0, schedule="constant", **options)
    old, new = read_parameters(model), done.parameters()
    return {name: (np.float64(old[name]) - np.float64(new[name])) / RATE for name in old}, done.losses()[0], new


# ---- files ----


def read_parameters(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def write_parameters(path, parameters):
    """A copy of the model with these values of its initializers; all of them must be there."""
    model, copy = onnx.load(path), fresh(".onnx")
    names = {t.name for t in model.graph.initializer}
    if not set(parameters) <= names:
        raise Failure(f"{path} has no {sorted(set(parameters) - names)}")
    for t in model.graph.initializer:
        if t.name in parameters:
            t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(parameters[t.name], dtype=np.float32), t.name))
    onnx.save(model, copy)
    return copy


def write_dataset(images, labels, split="train", **attributes):
    path = fresh(".h5")
    with h5py.File(path, "w") as f:
        f.attrs["format"], f.attrs["version"], f.attrs["name"] = "mpistill-dataset", 1, "test"
        f.create_dataset(f"{split}/image", data=images).attrs.update(attributes)
        f.create_dataset(f"{split}/label", data=np.asarray(labels, dtype=np.int32))
    return path


def write_soft_labels(dataset, logits, teacher="elsewhere", split="train"):
    """A file as another framework would write it."""
    path = fresh(".h5")
    with h5py.File(path, "w") as f:
        f.attrs.update({"format": "mpistill-softlabels", "version": 1, "teacher": teacher, "split": split, "encoding": "dense"})
        f.attrs["dataset_hash"] = json.loads(mpistill("inspect", dataset, "--json"))["splits"][split]["hash"]
        f.create_dataset("logits", data=np.asarray(logits, dtype=np.float32))
    return path


def digits(rows, start=0):
    """Images [rows, 1, 8, 8] of the embedded dataset as float32 in [0, 1], and their labels."""
    with h5py.File(DIGITS, "r") as f:
        image, label = f["train/image"], f["train/label"]
        scaled = image[start:start + rows].astype(np.float32) * np.float32(image.attrs["scale"])
        return scaled, label[start:start + rows].astype(np.int64)


# ---- the order of samples: Philox4x32-10 and Fisher-Yates ----

MASK = (1 << 32) - 1
ORDER = 2  # what the numbers are for, part of their counter


def philox(counter, key):
    """Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def order(seed, epoch, n):
    """The rows of an epoch: entry i changes places with entry floor(u (i+1) / 2^64), for i from n-1 down to 1; u has 64 random bits."""
    rows = np.arange(n)
    for i in range(n - 1, 0, -1):
        words = philox([i & MASK, i >> 32, epoch & MASK, (epoch >> 32) ^ (ORDER << 24)], [seed & MASK, seed >> 32])
        j = (words[0] << 32 | words[1]) * (i + 1) >> 64
        rows[i], rows[j] = rows[j], rows[i]
    return rows


def epoch_batches(seed, epoch, n, batch):
    rows = order(seed, epoch, n)
    return [rows[i:i + batch] for i in range(0, n, batch)]


def shard_slices(m, shards):
    return [slice(s * m // shards, (s + 1) * m // shards) for s in range(shards)]


# ---- comparisons ----


def largest_difference(got, expected):
    """Of two lists of losses: absolute below 1, relative above."""
    got, expected = np.float64(got), np.float64(expected)
    if got.shape != expected.shape:
        raise Failure(f"{got.shape} losses, expected {expected.shape}")
    return float(np.max(np.abs(got - expected) / np.maximum(1, np.abs(expected))))


def relative_error(got, expected):
    """L2 norm of the difference over that of the expected values."""
    got, expected = np.float64(got), np.float64(expected)
    if got.shape != expected.shape:
        raise Failure(f"shape {got.shape}, expected {expected.shape}")
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


# The bias of a layer before a batch norm has no gradient, but rounding leaves some, in PyTorch as here. What is below this share of all
# gradients together counts as none, and has to be none on both sides.
NONE = 1e-4


def none_below(expected):
    return NONE * np.sqrt(sum(np.linalg.norm(np.float64(e)) ** 2 for e in expected.values()))


def worst_error(got, expected):
    """The largest relative_error of any name of `expected`, and that name."""
    if not expected:
        raise Failure("there is nothing to compare")
    none = none_below(expected)

    def error(name):
        if np.linalg.norm(expected[name]) >= none:
            return relative_error(got[name], expected[name])
        return 0.0 if np.linalg.norm(got[name]) < none else np.inf

    return max((error(name), name) for name in expected)


def check_gradients(got, expected, bound):
    error, name = worst_error(got, expected)
    n_none = sum(np.linalg.norm(e) < none_below(expected) for e in expected.values())
    which = f"{len(expected)} parameters" + (f", {n_none} without any" if n_none else "")
    return within(f"gradients of {which}, worst of {name},", error, bound)
