"""Outputs of an ONNX file beside those of the framework that it comes from, for models.py and frameworks.py, which keep what came out in a
file of a line of JSON an export."""
import json
import os
import subprocess

import numpy as np

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.abspath(os.path.join(TOP, os.environ.get("BUILD", "build"), "tests", "tools", "run_model"))
SECONDS = 900


def run(path, inputs, expected):
    """What tests/tools/run_model makes of arrays: one for each of `expected`, of its shape and type. Files lie in the working directory."""
    files = []
    for i, x in enumerate(inputs):
        np.ascontiguousarray(x).tofile(f"input{i}.bin")
        files.append(f"input{i}.bin:" + ",".join(map(str, x.shape)))
    done = subprocess.run([TOOL, path, str(len(inputs[0])), *files, "output.bin"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=SECONDS)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"status {done.returncode}")
    shapes = [tuple(int(d) for d in line[1:-1].split(",") if d) for line in done.stdout.splitlines()]
    if shapes != [y.shape for y in expected]:
        raise RuntimeError(f"shapes {shapes}, expected {[y.shape for y in expected]}")
    got, at, raw = [], 0, np.fromfile("output.bin", np.uint8)
    for y in expected:
        got.append(raw[at:at + y.nbytes].view(y.dtype).reshape(y.shape))
        at += y.nbytes
    return got


def deviation(got, expected):
    """The largest |got - expected| / (1e-5 + 1e-4 |expected|) of all numbers."""
    worst = 0.0
    for a, b in zip(got, expected):
        error = np.abs(np.asarray(a, np.float64) - b) / (1e-5 + 1e-4 * np.abs(b))
        worst = max(worst, float(error.max(initial=0)) if np.isfinite(a).all() else np.inf)
    return worst


TELLING = 100


def check_telling(expected):
    """Outputs say something about a model if those of one row, taken for another row's, are far over the bound, in each of the outputs:
    constant ones, or ones too small, would pass a comparison whatever was computed."""
    axes = [next((axis for axis, n in enumerate(y.shape) if n > 1), 0) for y in expected]  # states have layers before rows
    told = [deviation([np.roll(y, 1, axis)], [y]) for y, axis in zip(expected, axes)]
    if not TELLING <= min(told) or not all(np.isfinite(y).all() for y in expected):
        raise RuntimeError(f"the outputs say nothing: from row to row they differ by {', '.join(f'{t:.3g}' for t in told)} times the bound, "
                           f"less than {TELLING}")


class Result:
    """How far from the framework; where that is over 1, also how far from it in double precision, and how far it is from that itself."""

    def __init__(self, deviation, exact=None, peer=None):
        self.deviation, self.exact, self.peer = deviation, exact, peer

    def passes(self):
        return (self.deviation if self.exact is None else self.exact) <= 1

    def __str__(self):
        return f"{self.deviation:.2g}" + (f" (from double {self.exact:.2g}, the framework {self.peer:.2g})" if self.exact is not None else "")


def passes(result):
    return not isinstance(result, Exception) and result.passes()


def kept(path):
    if not path or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def keep(path, row):
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
