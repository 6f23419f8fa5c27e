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


def shapes_of(model):
    """Of every value of a student, the number of its rows as 0."""
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    return shapes | {i.name: list(i.dims) for i in model.graph.initializer}


def student_of(folder):
    return onnx.shape_inference.infer_shapes(onnx.load(f"{folder}/student.onnx"))


def products_flop(folder):
    """Of a row of the student's products: forward, and for the gradients of both factors but the rows themselves."""
    model = student_of(folder)
    shapes, given, flop = shapes_of(model), {model.graph.input[0].name}, 0
    for node in model.graph.node:
        if node.op_type == "Flatten" and node.input[0] in given:
            given.add(node.output[0])
        if node.op_type in ("Gemm", "MatMul"):
            flop += 2 * math.prod(shapes[node.output[0]][1:]) * shapes[node.input[0]][-1] * (2 if node.input[0] in given else 3)
    return flop


def convolutions(folder):
    """Of the student, as bench_limits wants them."""
    model = student_of(folder)
    shapes, found = shapes_of(model), []
    for node in (n for n in model.graph.node if n.op_type == "Conv"):
        facts = {a.name: list(a.ints) for a in node.attribute if a.ints}
        filters, channels, kernel, _ = shapes[node.input[1]]
        found += [channels, *shapes[node.input[0]][2:], filters, kernel, facts.get("strides", [1])[0], facts.get("pads", [0])[0],
                  int(node.input[0] not in [i.name for i in model.graph.input])]
    return found


def of_products(folder, name):
    return run_ours(folder, CASES[name])["rate"] * products_flop(folder) / 1e9 / limit("product")


def of_convolutions(folder, name):
    case = CASES[name]
    bare = limit("conv", case["batch"] // case["shards"], *convolutions(folder)) / 1e3
    return math.ceil(case["shards"] / ranks) * bare / run_ours(folder, case)["step_s"]


ROWS = {"mlp": (of_products, 0.8), "transformer": (of_products, None), "lenet": (of_convolutions, None), "lenet-3x3": (of_convolutions, None),
        "resnet20": (of_convolutions, 0.85)}
WHAT = {of_products: "GFLOP/s of the whole step, of those of large products", of_convolutions: "its bare convolutions' time, of the whole step's"}


def in_turn(name, share):
    folder = tempfile.mkdtemp(prefix="mpistill-bench.")
    try:
        prepare(folder, CASES[name])
        return spread([share(folder, name) for _ in range(repeats)])
    finally:
        shutil.rmtree(folder)


def measure(_folder, _pythons):
    return {f"{name}: {WHAT[share]}": {**in_turn(name, share), "least": least} for name, (share, least) in ROWS.items()}


def show(result):
    print(f"\nlimits, median (least–most) of {repeats}: a step cannot be faster than what it has here divided by this share")
    for what, r in result.items():
        aim = f"≥ {r['least']}{verdict(r['median'] >= r['least'])}" if r["least"] else ""
        print(f"{what:68} {text(r, 3):24} {aim}", flush=True)
