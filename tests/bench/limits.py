"""How near training comes to what its cores can do: products as fast as large ones, convolutions with nothing around them."""
import math
import os
import shutil
import tempfile

import onnx

from cases import CASES
from common import bound, build, ranks, repeats, run, spread, text, verdict
from training import prepare, run_ours

SECONDS = {"product": "2", "conv": "6"}  # of every turn


def limit(what, *arguments):
    """The slowest rank's word of bench_limits, one on every core."""
    said = run([*bound, f"{build}/tests/bench/bench_limits", what, SECONDS[what], *map(str, arguments)],
               env={**os.environ, "OMP_NUM_THREADS": "1"})
    values = [float(line) for line in said.split()]
    return min(values) * len(values) if what == "product" else max(values)


def products_flop(case):
    """Of a row: forward, for the weights, and for the inputs but the first layer's."""
    sizes = [a * b for a, b in zip(case["layers"], case["layers"][1:])]
    return 2 * (2 * sum(sizes) + sum(sizes[1:]))


def convolutions(folder):
    """Of the student, as bench_limits wants them."""
    model = onnx.shape_inference.infer_shapes(onnx.load(f"{folder}/student.onnx"))
    weights = {i.name: list(i.dims) for i in model.graph.initializer}
    values = list(model.graph.value_info) + list(model.graph.input)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    found = []
    for node in (n for n in model.graph.node if n.op_type == "Conv"):
        facts = {a.name: list(a.ints) for a in node.attribute if a.ints}
        filters, channels, kernel, _ = weights[node.input[1]]
        found += [channels, *shapes[node.input[0]][2:], filters, kernel, facts.get("strides", [1])[0], facts.get("pads", [0])[0],
                  int(node.input[0] not in [i.name for i in model.graph.input])]
    return found


def in_turn(name, ours_of, limit_of):
    folder = tempfile.mkdtemp(prefix="mpistill-bench.")
    try:
        prepare(folder, CASES[name])
        return spread([ours_of(run_ours(folder, CASES[name])) / limit_of(folder) for _ in range(repeats)])
    finally:
        shutil.rmtree(folder)


def measure(_folder, _pythons):
    mlp, resnet = CASES["mlp"], CASES["resnet20"]
    rows = resnet["batch"] // resnet["shards"]
    most_shards = math.ceil(resnet["shards"] / ranks)
    bare = lambda folder: most_shards * limit("conv", rows, *convolutions(folder)) / 1e3
    return {"MLP: GFLOP/s of the whole step, of those of large products":
            {**in_turn("mlp", lambda r: r["rate"] * products_flop(mlp) / 1e9, lambda _: limit("product")), "least": 0.8},
            "ResNet-20: its bare convolutions' time, of the whole step's":
            {**in_turn("resnet20", lambda r: 1 / r["step_s"], lambda folder: 1 / bare(folder)), "least": 0.85}}


def show(result):
    print(f"\nlimits, median (least–most) of {repeats}")
    for what, r in result.items():
        print(f"{what:60} {text(r, 3):24} ≥ {r['least']}{verdict(r['median'] >= r['least'])}", flush=True)
