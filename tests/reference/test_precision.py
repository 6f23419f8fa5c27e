#!/usr/bin/env python3
"""Students written in float16 and int8: what the files hold, and what another interpreter (PyTorch, node by node) makes of them."""
import sys

sys.dont_write_bytecode = True

import json
import os
import subprocess

import h5py
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

from engine import run
from harness import DIGITS, PROGRAM, Failure, create, fresh, main, mpistill, test, within

BYTES = {"float16": 0.56, "int8": 0.56}


def quantize(x, scale, zero):
    return torch.clamp(torch.round(x / scale) + zero.float(), 0, 255)


def spread(t, axis, rank):
    return t if t.ndim == 0 else t.reshape([-1 if i == axis else 1 for i in range(rank)])


def dequantize(q, scale, zero=None, axis=1):
    scale = spread(scale, axis, q.ndim)
    return (q.float() - (0 if zero is None else spread(zero, axis, q.ndim).float())) * scale


def batch_norm(x, scale, bias, mean, variance, epsilon):
    return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def evaluate(path, x):
    """The file's first output, in float32 whatever the type of its weights."""
    proto = onnx.load(path)
    values = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in proto.graph.initializer}
    values = {k: v.float() if v.dtype == torch.float16 else v for k, v in values.items()}
    values[proto.graph.input[0].name] = torch.from_numpy(x)
    for n in proto.graph.node:
        a = {i.name: onnx.helper.get_attribute_value(i) for i in n.attribute}
        i = [values[name] for name in n.input]
        op = n.op_type
        if op == "QuantizeLinear":
            out = quantize(*i)
        elif op == "DequantizeLinear":
            out = dequantize(*i, axis=a.get("axis", 1))
        elif op == "Conv":
            out = F.conv2d(i[0], i[1], i[2] if len(i) > 2 else None, stride=a["strides"], padding=a["pads"][:2],
                           groups=a.get("group", 1))
        elif op == "Gemm":
            out = i[0] @ (i[1].T if a.get("transB") else i[1]) + i[2]
        elif op == "BatchNormalization":
            out = batch_norm(*i, a["epsilon"])
        elif op == "Clip":
            out = i[0].clamp(i[1], i[2])
        elif op == "MaxPool":
            out = F.max_pool2d(i[0], a["kernel_shape"], a["strides"])
        elif op == "GlobalAveragePool":
            out = i[0].mean((2, 3), keepdim=True)
        elif op in ("Cast", "Dropout", "Identity"):
            out = i[0]
        elif op == "Constant":
            out = torch.tensor(numpy_helper.to_array(a["value"]) if "value" in a else a["value_float"]).float()
        else:
            out = {"Relu": torch.relu, "Flatten": lambda t: t.flatten(1), "Add": lambda s, t: s + t}[op](*i)
        values[n.output[0]] = out
    return values[proto.graph.output[0].name].numpy()


def images(split):
    with h5py.File(DIGITS) as f:
        a = f[split]["image"]
        return np.float32(a[...]) * np.float32(a.attrs["scale"]), f[split]["label"][...]


def ends(proto):
    """What a user of the file relies on."""
    return ([(v.name, str(v.type)) for v in [*proto.graph.input, *proto.graph.output]], [(o.domain, o.version) for o in proto.opset_import],
            proto.producer_name, proto.producer_version, proto.graph.name, proto.ir_version)


def check_weights(reduced, full, precision):
    values = {t.name: numpy_helper.to_array(t) for t in reduced.graph.initializer}
    n = 0
    for t in full.graph.initializer:
        w = numpy_helper.to_array(t)
        if precision == "float16" and w.dtype == np.float32:
            if values[t.name].dtype != np.float16 or not np.array_equal(values[t.name], w.astype(np.float16)):
                raise Failure(f"{t.name} is not the float16 of the trained weight")
            n += 1
        if precision == "int8" and values.get(t.name + ".int8", w).dtype == np.int8:
            scale, axis = values[t.name + ".int8_scale"], next(a.i for node in reduced.graph.node if node.output[0] == t.name for a in node.attribute)
            if scale.shape != (w.shape[axis],) or np.any(values[t.name + ".int8_zero_point"]):
                raise Failure(f"{t.name}: expected a scale for each of {w.shape[axis]} channels, symmetric")
            scale = scale.reshape([-1 if i == axis else 1 for i in range(w.ndim)])
            if np.any(np.abs(values[t.name + ".int8"] * scale - w) > scale * 0.501):
                raise Failure(f"{t.name}: a weight is off by more than half a step")
            n += 1
    if not n:
        raise Failure("no weight was looked at")
    return f"{n} weights"


def student(kind, arguments, precision, data=DIGITS):
    model, out = create(kind, *arguments, "--seed", 1), fresh(".onnx")
    mpistill("train", "--model", model, "--dataset", data, "--epochs", 1 if kind == "mobilenet" else 3, "--learning-rate", 0.02, "--precision", precision, "--quiet",
             "--output", out)
    full = out.replace(".onnx", ".float32.onnx")
    reduced, trained = onnx.load(out), onnx.load(full)
    onnx.checker.check_model(reduced, full_check=True)
    if ends(reduced) != ends(trained) or ends(reduced)[0] != ends(onnx.load(model))[0]:
        raise Failure("names, types, opset or metadata changed")
    share = os.path.getsize(out) / os.path.getsize(full)
    texts = [check_weights(reduced, trained, precision), within("bytes of those of float32", share, BYTES[precision])]
    x, y = images("test")
    if len(trained.graph.input[0].type.tensor_type.shape.dim) == 2:
        x = x.reshape(len(x), -1)
    wanted, got = evaluate(out, x), run(out, [x], ["float32"])[0]
    off = np.abs(got - wanted) > 1e-4 * (1 + np.abs(wanted))
    texts.append(within("rows where rounding to a level differs from PyTorch's", float(off.any(1).mean()), 0 if precision == "float16" else 0.02))
    said = json.loads(mpistill("evaluate", "--model", out, "--dataset", data, "--split", "test", "--against", full, "--json", "--quiet"))
    errors, before = int((got.argmax(1) != y).sum()), evaluate(full, x)
    if said["errors"] != errors or said["against"]["errors"] != int((before.argmax(1) != y).sum()):
        raise Failure(f"evaluate counts {said}")
    if said["parameters"] != sum(int(np.prod(t.dims)) for t in trained.graph.initializer if t.data_type == 1 and t.dims
                                 and not t.name.endswith((".mean", ".variance"))):
        raise Failure(f"evaluate counts {said['parameters']} parameters")
    within("agreement as told", abs(said["against"]["agreement"] - (got.argmax(1) == before.argmax(1)).mean()), 1e-9)
    within("distance as told", abs(said["against"]["largest_logit_difference"] - np.abs(got - before).max()), 1e-3)
    texts.append(within("errors more than float32 of 360", errors - said["against"]["errors"], 8))
    return ", ".join(texts)


KINDS = {"mlp": ["--layers", "64,96,10"],
         "cnn": ["--input", "1x8x8", "--classes", 10, "--channels", "16,32", "--hidden", 64, "--batch-norm"],
         "resnet": ["--depth", 8, "--width", 32, "--input", "1x8x8", "--classes", 10]}
KINDS["mobilenet"] = ["--input", "1x8x8", "--classes", 10, "--width", 3]
for k, given in KINDS.items():
    for p in BYTES:
        test(f"{k} in {p}")(lambda k=k, given=given, p=p: student(k, given, p))


@test("an opset without scales per channel is refused before training")
def old_opset():
    model = onnx.load(create("mlp", *KINDS["mlp"]))
    model.opset_import[0].version = 11
    onnx.save(model, "old.onnx")
    done = subprocess.run([PROGRAM, "train", "--model", "old.onnx", "--dataset", DIGITS, "--precision", "int8", "--output", fresh(".onnx")],
                          capture_output=True, text=True, timeout=60)
    if done.returncode != 2 or "opset 11" not in done.stderr or "13" not in done.stderr:
        raise Failure(f"status {done.returncode}: {done.stderr}")
    return "status 2, with both opsets"


@test("a recipe's student in int8: a row for each precision")
def recipe():
    with open("int8.yaml", "w", encoding="utf-8") as f:
        f.write(f"dataset: {DIGITS}\noutput: int8\nstudent: {{create: mlp, layers: [64, 96, 10]}}\n"
                "distill: {epochs: 2, precision: int8, losses: [{kind: cross-entropy, weight: 1}]}\n")
    rows = json.loads(mpistill("run", "int8.yaml", "--json", "--quiet"))["models"]
    if [r["name"] for r in rows] != ["student float32", "student"] or not rows[1]["bytes"] < 0.42 * rows[0]["bytes"]:
        raise Failure(f"{rows}")
    return f"{rows[0]['bytes']} and {rows[1]['bytes']} bytes, {rows[0]['errors']} and {rows[1]['errors']} errors"


if __name__ == "__main__":
    sys.exit(main())
