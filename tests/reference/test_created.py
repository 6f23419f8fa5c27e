#!/usr/bin/env python3
"""Models of `mpistill create` for sequences, patches and recommendation: the checker, the first gradient beside PyTorch's autograd over
the file's nodes, a loss that falls, and teaching and distilling with inputs of integers and with two inputs."""
import sys

sys.dont_write_bytecode = True

import json
import subprocess

import h5py
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

from harness import (PROGRAM, Failure, check_gradients, create, digits, fresh, gradient_step, main, mpistill, order, test, train, within)

ROWS = 96


def write(**arrays):
    path = fresh(".h5")
    with h5py.File(path, "w") as f:
        f.attrs.update({"format": "mpistill-dataset", "version": 1})
        for name, x in arrays.items():
            f[f"train/{name}"] = x
    return path


def texts(random):
    x = random.integers(1, 40, (ROWS, 12))
    x[np.arange(12)[None] >= random.integers(4, 13, (ROWS, 1))] = 0
    return {"tokens": x.astype(np.int32), "label": np.int32((x == 7).any(1))}


def series(random):
    x = random.standard_normal((ROWS, 10, 3)).astype(np.float32)
    return {"signal": x, "label": np.int32(x[:, :, 0].sum(1) > 0)}


def ratings(random):
    user, item = random.integers(0, 20, ROWS), random.integers(0, 15, ROWS)
    u, v = random.standard_normal((20, 3)), random.standard_normal((15, 3))
    return {"user": user.astype(np.int64), "item": item.astype(np.uint8), "label": np.int32((u[user] * v[item]).sum(1) > 0)}


def images(random, rows=ROWS):
    x, y = digits(rows)
    return {"image": x, "label": np.int32(y)}


KINDS = {
    "mobilenet": (["mobilenet", "--input", "1x8x8", "--classes", 10, "--width", 2], lambda random: images(random, 24)),
    "transformer": (["transformer", "--tokens", 40, "--length", 12, "--classes", 2, "--width", 16, "--heads", 2, "--depth", 2], texts),
    "vit": (["vit", "--input", "1x8x8", "--classes", 10, "--patch", 2, "--width", 16, "--heads", 4, "--depth", 2], images),
    "lstm": (["lstm", "--tokens", 40, "--length", 12, "--classes", 2, "--width", 8, "--hidden", 12, "--depth", 2], texts),
    "gru": (["gru", "--input", "10x3", "--classes", 2, "--hidden", 12], series),
    "two-tower": (["two-tower", "--users", 20, "--items", 15, "--classes", 2, "--width", 8, "--hidden", 16], ratings),
    "factorisation": (["two-tower", "--users", 20, "--items", 15, "--classes", 2, "--width", 8, "--hidden", 0], ratings),
}


# ---- PyTorch, node by node ----


def lstm(x, w, r, b):
    h = c = torch.zeros(x.shape[1], r.shape[2])
    states = []
    for step in x:
        i, o, f, g = (step @ w[0].T + h @ r[0].T + b[0].chunk(2)[0] + b[0].chunk(2)[1]).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return torch.stack(states)[:, None], h[None]


def gru(x, w, r, b):
    h = torch.zeros(x.shape[1], r.shape[2])
    states = []
    for step in x:
        z, s, n = (step @ w[0].T + b[0].chunk(2)[0]).chunk(3, 1)
        hz, hs, hn = (h @ r[0].T + b[0].chunk(2)[1]).chunk(3, 1)
        z = torch.sigmoid(z + hz)
        h = (1 - z) * torch.tanh(n + torch.sigmoid(s + hs) * hn) + z * h
        states.append(h)
    return torch.stack(states)[:, None], h[None]


def reshape(x, shape):
    return x.reshape([x.shape[i] if d == 0 else int(d) for i, d in enumerate(shape)])


def reduced(reduce):
    return lambda x, axes=None, *, a: reduce(x, list(map(int, axes)) if axes is not None else a["axes"], keepdim=bool(a.get("keepdims", 1)))


def unsqueeze(x, axes, a):
    for axis in axes:
        x = x.unsqueeze(int(axis))
    return x


near = []  # numbers that a Clip or Relu found as near to a bound as rounding is large


def clip(x, *bounds):
    near.append(sum(int(((x.detach() - b).abs() < 4e-6).sum()) for b in bounds))
    return x.clamp(*bounds)


OPS = {
    "Constant": lambda a: torch.tensor(a["value_float"]),
    "LSTM": lambda *i, a: lstm(*i), "GRU": lambda *i, a: gru(*i), "Reshape": lambda x, s, a: reshape(x, s), "Unsqueeze": unsqueeze,
    "Gather": lambda w, i, a: w[i.long()], "Add": lambda x, y, a: x + y, "Mul": lambda x, y, a: x * y, "Sub": lambda x, y, a: x - y,
    "Div": lambda x, y, a: x / y, "Neg": lambda x, a: -x, "MatMul": lambda x, y, a: x @ y, "Max": lambda x, y, a: torch.maximum(x, y),
    "Equal": lambda x, y, a: x == y, "Cast": lambda x, a: x.float(), "Erf": lambda x, a: torch.erf(x), "Relu": lambda x, a: clip(x, 0),
    "Softmax": lambda x, a: torch.softmax(x, a["axis"]), "Transpose": lambda x, a: x.permute(a["perm"]),
    "ReduceSum": reduced(torch.sum), "ReduceMean": reduced(torch.mean), "Squeeze": lambda x, axes, a: x.squeeze(int(axes[0])),
    "Gemm": lambda x, w, b, a: x @ w.T + b, "Flatten": lambda x, a: x.flatten(1), "Clip": lambda x, low, high, a: clip(x, low, high),
    "GlobalAveragePool": lambda x, a: x.mean((2, 3), keepdim=True),
    "Conv": lambda x, w, b=None, *, a: F.conv2d(x, w, b, a["strides"], a["pads"][:2], groups=a.get("group", 1)),
    "LayerNormalization": lambda x, w, b, a: F.layer_norm(x, x.shape[-1:], w, b, a["epsilon"]),
    "BatchNormalization": lambda x, w, b, m, v, a: F.batch_norm(x, None, None, w, b, True, eps=a["epsilon"]),
}


def torch_step(path, arrays):
    """Loss and gradients of a batch."""
    proto = onnx.load(path)
    values = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in proto.graph.initializer}
    for name, t in values.items():
        if t.is_floating_point() and t.ndim and not name.endswith((".mean", ".variance")):
            t.requires_grad_()
    parameters = {name: t for name, t in values.items() if t.requires_grad}
    inputs = [name for name in arrays if name != "label"]
    for i in proto.graph.input:
        values[i.name] = torch.from_numpy(arrays[i.name] if i.name in arrays else arrays[inputs[0]])
    for n in proto.graph.node:
        a = {i.name: onnx.helper.get_attribute_value(i) for i in n.attribute}
        out = OPS[n.op_type](*[values[name] for name in n.input], a=a)
        for name, value in zip(n.output, out if isinstance(out, tuple) else [out]):
            values[name] = value
    loss = F.cross_entropy(values["logits"], torch.from_numpy(arrays["label"]).long())
    loss.backward()
    return loss.item(), {name: t.grad.numpy() for name, t in parameters.items()}


def first_gradient(kind):
    words, make = KINDS[kind]
    arrays = make(np.random.default_rng(3))
    rows = order(0, 0, len(arrays["label"]))
    for seed in range(20):  # until rounding does not decide on which side of a bound some number is
        path, near[:] = create(*words, "--seed", seed), []
        expected, gradients = torch_step(path, {name: x[rows] for name, x in arrays.items()})
        if not any(near):
            break
    onnx.checker.check_model(onnx.load(path), full_check=True)
    got, loss, _ = gradient_step(train, path, write(**arrays), batch=len(rows), shards=1)
    return ", ".join([within("loss", abs(loss - expected) / expected, 1e-5), check_gradients(got, gradients, 1e-3)])


def falls(kind):
    words, make = KINDS[kind]
    got = train(create(*words, "--seed", 4), write(**make(np.random.default_rng(3))), epochs=20, batch=32, optimizer="adamw",
                learning_rate=0.02)
    losses = got.losses()
    return within(f"loss of epoch 20 after {losses[0]:.2f}", losses[-1] / losses[0], 0.9)


for k in KINDS:
    test(f"{k}: first gradient")(lambda k=k: first_gradient(k))
    test(f"{k}: the loss falls")(lambda k=k: falls(k))


@test("padding changes nothing: a transformer's tokens behind it may be anything that is padding")
def padding():
    arrays = texts(np.random.default_rng(5))
    short, long = (create("transformer", "--tokens", 40, "--length", n, "--classes", 2, "--width", 16, "--heads", 2, "--depth", 2)
                   for n in (12, 20))
    model = onnx.load(long)
    source = {t.name: t for t in onnx.load(short).graph.initializer}
    for t in model.graph.initializer:
        if t.name == "position.weight":
            both = np.concatenate([numpy_helper.to_array(source[t.name]), np.ones((8, 16), np.float32)])
            t.CopyFrom(numpy_helper.from_array(both, t.name))
        elif t.name in source and tuple(source[t.name].dims) == tuple(t.dims) and t.data_type == 1:
            t.CopyFrom(source[t.name])
    onnx.save(model, "long.onnx")
    padded = np.concatenate([arrays["tokens"], np.zeros((ROWS, 8), np.int32)], 1)
    a, b = (teach(path, tokens=x) for path, x in ((short, arrays["tokens"]), ("long.onnx", padded)))
    return within("logits", float(np.abs(a - b).max()), 1e-5)


def teach(path, **arrays):
    folder = fresh("")
    mpistill("teach", "--dataset", write(**arrays), "--teacher", f"t={path}", "--dtype", "float32", "--quiet", "--output", folder)
    with h5py.File(f"{folder}/t.h5") as f:
        return f["logits"][...]


@test("a recipe with two inputs: teach, distil, int8")
def recommender():
    data = write(**ratings(np.random.default_rng(6)))
    words = KINDS["two-tower"][0]
    teacher = train(create(*words), data, epochs=5, batch=32, optimizer="adamw", learning_rate=0.01).path
    with open("two.yaml", "w", encoding="utf-8") as f:
        f.write(f"""dataset: {data}
output: two
teachers: [{{name: a, model: {teacher}}}]
student: {{create: two-tower, users: 20, items: 15, classes: 2, width: 4, hidden: 0}}
distill: {{epochs: 3, batch: 32, precision: int8}}
""")
    rows = json.loads(mpistill("run", "two.yaml", "--json", "--quiet"))["models"]
    onnx.checker.check_model(onnx.load("two/student.onnx"), full_check=True)
    return f"{[r['name'] for r in rows]}, {[r.get('errors') for r in rows]} errors of {ROWS}"


@test("inspect: multiply-adds, memory of a sample, what can be trained")
def figures():
    def inspect(*words):
        return json.loads(mpistill("inspect", create(*words), "--json"))

    resnet = inspect("resnet", "--depth", 20, "--input", "3x32x32", "--classes", 10)
    convolutions = 9 * 1024 * (3 * 16 + 6 * 16 * 16) + 9 * 256 * (16 * 32 + 5 * 32 * 32) + 9 * 64 * (32 * 64 + 5 * 64 * 64)
    shortcuts = 256 * 16 * 32 + 64 * 32 * 64
    if resnet["per_sample"]["macs"] != convolutions + shortcuts + 640:  # 41 million in He et al. 2016
        raise Failure(f"resnet-20: {resnet['per_sample']}")
    if not resnet["per_sample"]["training_bytes"] > resnet["per_sample"]["inference_bytes"] > 4 * 3 * 1024 or resnet["trainable"] is not True:
        raise Failure(f"resnet-20: {resnet['per_sample']}")
    words = KINDS["lstm"][0]
    if inspect(*words)["per_sample"]["macs"] != 12 * 4 * 12 * (8 + 12) + 12 * 4 * 12 * (12 + 12) + 24:
        raise Failure("lstm")
    return f"resnet-20: {resnet['per_sample']}"


@test("arrays that do not fit are refused")
def refused():
    good = ratings(np.random.default_rng(7))
    tower, text = create(*KINDS["two-tower"][0]), create(*KINDS["lstm"][0])
    cases = [(tower, {"user": good["user"], "thing": good["item"]}, "no array 'item'"),
             (tower, {"user": good["user"], "item": np.float32(good["item"])}, "'item' takes int64, but 'item'"),
             (text, {"tokens": np.full((ROWS, 12), 40, np.int32)}, "embedding"),
             (text, {"tokens": np.zeros((ROWS, 11), np.int32)}, "takes [?, 12]")]
    for model, arrays, words in cases:
        done = subprocess.run([PROGRAM, "train", "--model", model, "--dataset", write(**arrays, label=good["label"]), "--epochs", "1",
                               "--output", fresh(".onnx")], capture_output=True, text=True, timeout=60)
        if done.returncode != 2 or words not in done.stderr:
            raise Failure(f"{words}: status {done.returncode}: {done.stderr}")
    return f"{len(cases)} cases, status 2"


if __name__ == "__main__":
    sys.exit(main())
