"""One forward pass of a model through the engine alone, and models of a few nodes to run."""
import os
import subprocess

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import SECONDS, TOP, Failure, fresh

RUN_MODEL = os.path.join(TOP, os.environ.get("BUILD", "build"), "tests", "tools", "run_model")
KINDS = {np.dtype(name): getattr(TensorProto, name.upper().replace("FLOAT32", "FLOAT"))
         for name in ("float32", "uint8", "int8", "int32", "int64", "bool")}


def model(nodes, inputs, outputs, constants=None, opset=17, ml=3):
    """A file with these nodes. inputs: {name: array of one batch}; outputs: {name: numpy type}; constants: {name: array}."""
    graph = helper.make_graph(
        nodes, "few", [helper.make_tensor_value_info(name, KINDS[x.dtype], ["N", *x.shape[1:]]) for name, x in inputs.items()],
        [helper.make_tensor_value_info(name, KINDS[np.dtype(kind)], None) for name, kind in outputs.items()],
        initializer=[numpy_helper.from_array(np.asarray(x), name) for name, x in (constants or {}).items()])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ml), helper.make_opsetid("com.microsoft", 1)])
    proto.ir_version = 8
    path = fresh(".onnx")
    onnx.save(proto, path)
    return path


def run(path, inputs, kinds, reference=False):
    """Outputs of the file, one array for each numpy type of `kinds`."""
    files = []
    for x in inputs:
        files.append(fresh(".raw"))
        np.ascontiguousarray(x).tofile(files[-1])
        files[-1] += ":" + ",".join(map(str, x.shape))
    out = fresh(".raw")
    command = [RUN_MODEL, *(["--reference"] if reference else []), path, str(len(inputs[0])), *files, out]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=SECONDS)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()}")
    with open(out, "rb") as f:
        raw = f.read()
    arrays, at = [], 0
    for text, kind in zip(done.stdout.split("\n"), kinds):
        shape = [int(d) for d in text.strip("[]").split(",") if d.strip()]
        n = int(np.prod(shape)) * np.dtype(kind).itemsize
        arrays.append(np.frombuffer(raw[at:at + n], dtype=kind).reshape(shape))
        at += n
    if at != len(raw):
        raise Failure(f"{path}: {len(raw)} bytes of outputs, {at} expected")
    return arrays
