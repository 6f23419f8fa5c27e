#!/usr/bin/env python3
"""Writes types.onnx beside itself: initializers of every element type, stored both ways, and parameters of every real type.

The values are those test_model.c expects; numpy and onnx do the encoding."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

REAL = [1.5, -2.0, 0.0, 65504.0]
WHOLE = [0, 1, 100, 127]
BOOLS = [True, False, False, True]


def raw(name, values, dtype):
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def typed(name, values, kind):
    return helper.make_tensor(name, kind, [4], values)


def bfloat16(name, values):
    bits = (np.array(values, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return helper.make_tensor(name, TensorProto.BFLOAT16, [4], bits.tobytes(), raw=True)


BFLOAT16 = [1.5, -2.0, 0.0, 65280.0]
initializers = [
    raw("raw.float", REAL, np.float32), typed("typed.float", REAL, TensorProto.FLOAT),
    raw("raw.double", REAL, np.float64), typed("typed.double", REAL, TensorProto.DOUBLE),
    raw("raw.float16", REAL, np.float16), typed("typed.float16", REAL, TensorProto.FLOAT16),
    bfloat16("raw.bfloat16", BFLOAT16),
    raw("raw.uint8", WHOLE, np.uint8), typed("typed.uint8", WHOLE, TensorProto.UINT8),
    raw("raw.int8", WHOLE, np.int8), typed("typed.int8", WHOLE, TensorProto.INT8),
    raw("raw.int32", WHOLE, np.int32), typed("typed.int32", WHOLE, TensorProto.INT32),
    raw("raw.int64", WHOLE, np.int64), typed("typed.int64", WHOLE, TensorProto.INT64),
    raw("raw.bool", BOOLS, np.bool_), typed("typed.bool", BOOLS, TensorProto.BOOL),
    raw("parameter.float", REAL, np.float32), raw("parameter.double", REAL, np.float64),
    typed("parameter.float16", REAL, TensorProto.FLOAT16), bfloat16("parameter.bfloat16", BFLOAT16),
]
kinds = ["float", "double", "float16", "bfloat16"]
ends = ["x"] + ["sum." + k for k in kinds]
nodes = [helper.make_node("Add", [ends[i], "parameter." + k], [ends[i + 1]], name="add." + k, doc_string="adds " + k)
         for i, k in enumerate(kinds)]
graph = helper.make_graph(
    nodes, "types", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
    [helper.make_tensor_value_info(ends[-1], TensorProto.FLOAT, ["N", 4])], initializer=initializers,
    doc_string="every type")
model = helper.make_model(graph, producer_name="make_types", opset_imports=[helper.make_opsetid("", 13)])
model.ir_version = 7
helper.set_model_props(model, {"key": "value", "classes": "a,b"})
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "types.onnx"), "wb") as f:
    f.write(model.SerializeToString())
