#!/usr/bin/env python3
"""Operators on 8-bit integers beside their definition in numpy: every integer must be the same, in fast and plain kernels."""
import sys

sys.dont_write_bytecode = True

import itertools

import numpy as np
import torch
from onnx import helper

from engine import model, run
from harness import Failure, main, test


def bytes_of(random, kind, shape):
    limits = np.iinfo(kind)
    return random.integers(limits.min, limits.max + 1, shape).astype(kind)


def saturated(x, zero, kind):
    """round(x) + zero within the range of the type; x in float, as the operators compute."""
    limits = np.iinfo(kind)
    return np.clip(np.rint(x) + np.float32(zero), limits.min, limits.max).astype(kind)


def same(path, inputs, expected):
    for reference in (False, True):
        for got, wanted in zip(run(path, inputs, [e.dtype for e in expected], reference), expected):
            if got.shape != wanted.shape:
                raise Failure(f"shape {got.shape}, expected {wanted.shape}")
            if not np.array_equal(got, wanted):
                at = tuple(np.argwhere(got != wanted)[0])
                raise Failure(f"{'plain' if reference else 'fast'} kernel: {(got != wanted).sum()} of {got.size} differ, "
                              f"{got[at]} is not {wanted[at]} at {at}")
    return sum(e.size for e in expected)


def channels(values, axis, rank):
    """A vector of an axis, or a scalar, as it is broadcast."""
    values = np.asarray(values)
    return values if values.ndim == 0 else values.reshape([-1 if i == axis else 1 for i in range(rank)])


# ---- QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear ----


@test("QuantizeLinear")
def quantize():
    random, n = np.random.default_rng(1), 0
    for kind, axis, per_axis in itertools.product((np.uint8, np.int8), (1, -1, 0), (False, True)):
        x = (random.standard_normal((5, 7, 3)) * 100).astype(np.float32)
        x.flat[:9] = [0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, np.inf, -np.inf]
        size = x.shape[axis] if per_axis else ()
        scale, zero = random.uniform(0.3, 2, size).astype(np.float32), bytes_of(random, kind, size)
        if not per_axis:
            scale = np.float32(1)
        wanted = saturated(x / channels(scale, axis % 3, 3), channels(zero, axis % 3, 3), kind)
        path = model([helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=axis)], {"x": x}, {"q": kind},
                     {"scale": scale, "zero": zero})
        n += same(path, [x], [wanted])
    x = random.integers(-1000, 1000, (3, 300)).astype(np.int32)
    path = model([helper.make_node("QuantizeLinear", ["x", "scale"], ["q"])], {"x": x}, {"q": np.uint8}, {"scale": np.float32(3)})
    n += same(path, [x], [saturated(x.astype(np.float32) / np.float32(3), 0, np.uint8)])
    return f"{n} numbers"


@test("DequantizeLinear")
def dequantize():
    random, n = np.random.default_rng(2), 0
    for kind, axis, per_axis in itertools.product((np.uint8, np.int8, np.int32), (1, -1), (False, True)):
        q = random.integers(-(10**6), 10**6, (4, 5, 6)).astype(kind)
        size = q.shape[axis] if per_axis else ()
        scale = random.uniform(0.01, 2, size).astype(np.float32)
        zero = np.zeros(size, kind) if kind == np.int32 else bytes_of(random, kind, size)
        wanted = (q.astype(np.int64) - channels(zero, axis % 3, 3)).astype(np.float32) * channels(scale, axis % 3, 3)
        path = model([helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis)], {"q": q}, {"y": np.float32},
                     {"scale": scale, "zero": zero})
        n += same(path, [q], [wanted.astype(np.float32)])
    return f"{n} numbers"


@test("DynamicQuantizeLinear")
def dynamic():
    random, n = np.random.default_rng(3), 0
    node = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"])]
    for low, high in ((-3, 5), (1, 2), (-7, -1), (0, 0)):
        x = random.uniform(low, high, (6, 50)).astype(np.float32)
        least, most = np.float32(min(0, x.min())), np.float32(max(0, x.max()))
        scale = np.float32(1) if least == most else (most - least) / np.float32(255)
        zero = saturated(-least / scale, 0, np.uint8)
        path = model(node, {"x": x}, {"q": np.uint8, "scale": np.float32, "zero": np.uint8})
        n += same(path, [x], [saturated(x / scale, zero, np.uint8), scale, zero])
    return f"{n} numbers"


@test("Cast to bfloat16")
def cast_to_bfloat16():
    random = np.random.default_rng(8)
    bits = random.integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32)
    bits[:6] = [0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7F800000, 0x80000001]  # halves, near the end, infinity
    x = bits.view(np.float32)
    x = x[~np.isnan(x)].reshape(1, -1)
    wanted = torch.from_numpy(x).bfloat16().float().numpy()
    return f"{same(model([helper.make_node('Cast', ['x'], ['y'], to=16)], {'x': x}, {'y': np.float32}), [x], [wanted])} numbers"


# ---- products ----

PRODUCTS = [((7, 5), (5, 3)), ((5,), (5, 3)), ((7, 5), (5,)), ((2, 3, 4, 5), (3, 5, 6)), ((2, 4, 5), (1, 5, 6)), ((3, 700), (700, 9)),
            ((2, 1, 3, 4), (5, 4, 2))]


@test("MatMulInteger")
def matmul_integer():
    random, n = np.random.default_rng(4), 0
    for (a_shape, b_shape), a_kind, b_kind, fixed in itertools.product(PRODUCTS, (np.uint8, np.int8), (np.uint8, np.int8), (False, True)):
        a, b = bytes_of(random, a_kind, a_shape), bytes_of(random, b_kind, b_shape)
        rows = len(a_shape) > 1 and fixed
        a_zero = bytes_of(random, a_kind, a_shape[-2] if rows else ())
        b_zero = bytes_of(random, b_kind, b_shape[-1] if len(b_shape) > 1 and fixed else ())
        centered = a.astype(np.int32) - (a_zero.astype(np.int32)[:, None] if rows else np.int32(a_zero))
        wanted = np.matmul(centered, b.astype(np.int32) - b_zero.astype(np.int32))
        nodes = [helper.make_node("MatMulInteger", ["a", "b", "a_zero", "b_zero"], ["y"])]
        constants = {"a_zero": a_zero, "b_zero": b_zero, **({"b": b} if fixed else {})}
        inputs = {"a": a} if fixed else {"a": a, "b": b}
        n += same(model(nodes, inputs, {"y": np.int32}, constants), list(inputs.values()), [wanted.astype(np.int32)])
    return f"{n} numbers"


@test("QLinearMatMul")
def qlinear_matmul():
    random, n = np.random.default_rng(5), 0
    for (a_shape, b_shape), kind, by_column in itertools.product(PRODUCTS, (np.uint8, np.int8), (False, True)):
        a, b = bytes_of(random, kind, a_shape), bytes_of(random, kind, b_shape)
        size = b_shape[-1] if by_column and len(b_shape) > 1 else ()
        scales = [np.float32(0.02), random.uniform(0.01, 0.03, size).astype(np.float32), np.float32(0.9)]
        zeros = [bytes_of(random, kind, ()), bytes_of(random, kind, size), bytes_of(random, kind, ())]
        sums = np.matmul(a.astype(np.int32) - np.int32(zeros[0]), b.astype(np.int32) - zeros[1].astype(np.int32))
        wanted = saturated(sums.astype(np.float32) * (scales[0] * scales[1] / scales[2]), zeros[2], kind)
        names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
        constants = dict(zip(names, [None, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2]]))
        del constants["a"]
        path = model([helper.make_node("QLinearMatMul", names, ["y"])], {"a": a}, {"y": kind}, constants)
        n += same(path, [a], [wanted])
    return f"{n} numbers"


# ---- convolutions ----


def convolve(x, w, strides, pads, dilations, groups):
    """Sums of products of integers [rows, channels, ...] with [filters, channels / groups, ...], by the definition."""
    axes = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0)] + [(pads[i], pads[i + axes]) for i in range(axes)])
    out = [(x.shape[2 + i] - (w.shape[2 + i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(axes)]
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    per_group = w.shape[0] // groups
    for f in range(w.shape[0]):
        first = f // per_group * w.shape[1]
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(slice(tap[i] * dilations[i], tap[i] * dilations[i] + (out[i] - 1) * strides[i] + 1, strides[i])
                       for i in range(axes))
            window = x[(slice(None), slice(first, first + w.shape[1])) + at]
            y[:, f] += np.einsum("nc...,c->n...", window, w[(f, slice(None)) + tap])
    return y


CONVOLUTIONS = [  # input, weight, strides, pads, dilations, groups
    ((2, 3, 9, 8), (5, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 3, 9, 8), (4, 3, 2, 3), (2, 3), (0, 1, 2, 3), (1, 1), 1),
    ((1, 4, 11, 10), (6, 2, 3, 3), (1, 2), (2, 2, 2, 2), (2, 3), 2),
    ((2, 8, 7, 7), (8, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8),
    ((1, 40, 40, 33), (7, 40, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((3, 5, 20), (4, 5, 7), (2,), (6, 6), (1,), 1),
    ((2, 2, 5, 6, 7), (3, 2, 2, 3, 2), (1, 2, 1), (1, 0, 1, 0, 1, 1), (2, 1, 1), 1),
    ((1, 1, 3, 3), (2, 1, 1, 5), (1, 1), (0, 4, 0, 4), (1, 1), 1),
]


def conv_attributes(strides, pads, dilations, groups):
    return {"strides": strides, "pads": pads, "dilations": dilations, "group": groups}


@test("ConvInteger")
def conv_integer():
    random, n = np.random.default_rng(6), 0
    for (x_shape, w_shape, *geometry), x_kind, w_kind in itertools.product(CONVOLUTIONS, (np.uint8, np.int8), (np.uint8, np.int8)):
        x, w = bytes_of(random, x_kind, x_shape), bytes_of(random, w_kind, w_shape)
        x_zero, w_zero = bytes_of(random, x_kind, ()), bytes_of(random, w_kind, w_shape[0])
        wanted = convolve(x.astype(np.int64) - np.int64(x_zero), w.astype(np.int64) - channels(w_zero, 0, w.ndim).astype(np.int64), *geometry)
        node = helper.make_node("ConvInteger", ["x", "w", "x_zero", "w_zero"], ["y"], **conv_attributes(*geometry))
        constants = {"x_zero": x_zero, "w_zero": w_zero, "w": w}
        n += same(model([node], {"x": x}, {"y": np.int32}, constants), [x], [wanted.astype(np.int32)])
    return f"{n} numbers"


@test("QLinearConv")
def qlinear_conv():
    random, n = np.random.default_rng(7), 0
    for (x_shape, w_shape, *geometry), kind, by_filter in itertools.product(CONVOLUTIONS, (np.uint8, np.int8), (False, True)):
        x, w = bytes_of(random, kind, x_shape), bytes_of(random, np.int8, w_shape)
        size = w_shape[0] if by_filter else ()
        scales = [np.float32(0.02), random.uniform(0.01, 0.03, size).astype(np.float32), np.float32(1.3)]
        zeros = [bytes_of(random, kind, ()), bytes_of(random, np.int8, size), bytes_of(random, kind, ())]
        bias = random.integers(-10000, 10000, w_shape[0]).astype(np.int32)
        sums = convolve(x.astype(np.int64) - np.int64(zeros[0]), w.astype(np.int64) - channels(zeros[1], 0, w.ndim).astype(np.int64), *geometry)
        if by_filter:
            sums = sums + channels(bias, 1, w.ndim)
        factor = channels(scales[0] * scales[1] / scales[2], 1, w.ndim)
        wanted = saturated(sums.astype(np.float32) * factor, zeros[2], kind)
        names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"] + (["bias"] if by_filter else [])
        constants = dict(zip(names, [None, scales[0], zeros[0], w, scales[1], zeros[1], scales[2], zeros[2], bias]))
        del constants["x"]
        node = helper.make_node("QLinearConv", names, ["y"], **conv_attributes(*geometry))
        n += same(model([node], {"x": x}, {"y": kind}, constants), [x], [wanted])
    return f"{n} numbers"


if __name__ == "__main__":
    sys.exit(main())
