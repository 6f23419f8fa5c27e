#!/usr/bin/env python3
"""Students of several outputs, of pixels, of frames and of numbers beside PyTorch's autograd in double precision: the gradient of one step,
and its loss."""
import os
import sys

sys.dont_write_bytecode = True

import h5py
import numpy as np
import torch
import torch.nn.functional as F

from harness import TOP, check_gradients, distill, fresh, gradient_step, main, mpistill, read_parameters, test, train, within

sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
import heads

N = 24
random = np.random.default_rng(5)


def dataset(**arrays):
    path = fresh(".h5")
    with h5py.File(path, "w") as f:
        f.attrs["format"], f.attrs["version"] = "mpistill-dataset", 1
        for name, values in arrays.items():
            f["train/" + name] = values
    return path


def teacher(data, logits, values=0):
    """A soft-label file; logits [n, C, ...]."""
    path = fresh(".h5")
    with h5py.File(path, "w") as f:
        f.attrs.update({"format": "mpistill-softlabels", "version": 1, "split": "train", "encoding": "dense", "dataset_hash": hash_of(data)})
        if values:
            f.attrs["values"] = 1
        f["logits"] = logits.astype("f4")
    return path


def hash_of(data):
    import json
    return json.loads(mpistill("inspect", data, "--json"))["splits"]["train"]["hash"]


def normal(*shape, scale=1.0):
    return (random.standard_normal(shape) * scale).astype("f4")


def compare(run, path, data, expected, **options):
    """loss: of the parameters, as double leaves by name."""
    parameters = {k: v.astype(np.float64) for k, v in read_parameters(path).items() if v.dtype == np.float32}
    leaves = {k: torch.tensor(v, requires_grad=True) for k, v in parameters.items()}
    value = expected(leaves)
    value.backward()
    texts = []
    for shards in (1, 4):
        got, found, _ = gradient_step(run, path, data, batch=N, shards=shards, **options)
        texts.append(within("loss", abs(found - value.item()) / abs(value.item()), 1e-5))
        texts.append(check_gradients(got, {k: v.grad.numpy() for k, v in leaves.items()}, 1e-4))
    return ", ".join(texts)


def kd(z, t, temperature, of):
    """Over rows of logits; `of`: what the sum is divided by."""
    return temperature**2 * F.kl_div(F.log_softmax(z / temperature, 1), F.softmax(t / temperature, 1), reduction="sum") / of


@test("three outputs: classes, classes of some rows, and numbers")
def three():
    path = fresh(".onnx")
    heads.heads(path, "image", [6], 9, {"a": 5, "b": 3, "c": 2}, 1)
    x = normal(N, 6)
    a, b = random.integers(0, 5, N).astype("i4"), random.integers(0, 3, N).astype("i4")
    b[::3] = -1
    c = normal(N, 2, scale=2)
    c[::4, 0] = np.nan
    data = dataset(image=x, **{"label.a": a, "label.b": b, "target.c": c})
    soft_a, soft_c = normal(N, 5, scale=3), normal(N, 2)

    def loss(p):
        h = torch.relu(torch.tensor(np.float64(x)) @ p["w.hidden"] + p["b.hidden"])
        za, zb, zc = (h @ p["w." + k] + p["b." + k] for k in "abc")
        known = torch.tensor(~np.isnan(c))
        target = torch.tensor(np.float64(c))[known]
        return (0.7 * kd(za, torch.tensor(np.float64(soft_a)), 3, N) + 0.3 * F.cross_entropy(za, torch.tensor(a).long()) +
                0.5 * F.cross_entropy(zb, torch.tensor(b).long(), ignore_index=-1) +
                2 * (0.25 * F.mse_loss(zc, torch.tensor(np.float64(soft_c))) + 0.75 * F.smooth_l1_loss(zc[known], target, beta=0.5)))

    return compare(distill, path, data, loss, task=["a", "b:weight=0.5", "c:weight=2"],
                   loss=["a/kd:0.7:temperature=3", "a/cross-entropy:0.3", "b/cross-entropy:1", "c/soft-mse:0.25", "c/smooth-l1:0.75:delta=0.5"],
                   soft_labels=["a=" + teacher(data, soft_a), "c=" + teacher(data, soft_c, values=1)])


@test("pixels: logits [n, C, H, W], some pixels without a label")
def pixels():
    path = fresh(".onnx")
    heads.pixels(path, 2, 5, 4, 6, 2)
    x, y = normal(N, 2, 6, 6), random.integers(-1, 4, (N, 6, 6)).astype("i4")
    data, soft = dataset(image=x, label=y), normal(N, 4, 6, 6, scale=3)

    def loss(p):
        h = torch.relu(F.conv2d(torch.tensor(np.float64(x)), p["w1"], p["b1"], padding=1))
        z = F.conv2d(h, p["w2"], p["b2"])
        rows = z.permute(0, 2, 3, 1).reshape(-1, 4)
        t = torch.tensor(np.float64(soft)).permute(0, 2, 3, 1).reshape(-1, 4)
        return 0.6 * kd(rows, t, 2, len(rows)) + 0.4 * F.cross_entropy(z, torch.tensor(y).long(), ignore_index=-1)

    return compare(distill, path, data, loss, loss=["kd:0.6:temperature=2", "cross-entropy:0.4"], soft_labels=[teacher(data, soft)])


def frames(last):
    path, length = fresh(".onnx"), 7
    heads.frames(path, length, 3, 8, 4, 3, last)
    x, y = normal(N, length, 3), random.integers(-1, 4, (N, length)).astype("i4")
    n = random.integers(1, length + 1, N).astype("i4")
    data, soft = dataset(sound=x, label=y, **{"sound.length": n}), normal(N, 4, length, scale=3)
    inside = torch.tensor(np.arange(length)[None] < n[:, None])

    def loss(p):
        z = (torch.relu(torch.tensor(np.float64(x)) @ p["w1"]) @ p["w2"])[inside]
        t = torch.tensor(np.float64(soft)).permute(0, 2, 1)[inside]
        return 0.5 * kd(z, t, 2, len(z)) + 0.5 * F.cross_entropy(z, torch.tensor(y)[inside].long(), ignore_index=-1)

    return compare(distill, path, data, loss, task=["main:output=logits:labels=label" + (":class_axis=last" if last else "")],
                   loss=["kd:0.5:temperature=2", "cross-entropy:0.5"], soft_labels=[teacher(data, soft)])


@test("frames: logits [n, C, T] within lengths")
def frames_first():
    return frames(False)


@test("frames: logits [n, T, C] within lengths")
def frames_last():
    return frames(True)


@test("detection: class logits [n, anchors, C] and boxes [n, anchors, 4], teachers' boxes on the foreground alone")
def detection():
    path, anchors = fresh(".onnx"), 5
    heads.anchors(path, 6, 9, anchors, 4, 6)
    x, y = normal(N, 6), random.integers(-1, 4, (N, anchors)).astype("i4")  # class 0: background
    boxes = normal(N, anchors, 4)
    boxes[y <= 0] = np.nan
    data = dataset(image=x, **{"label.class": y, "target.box": boxes})
    soft_class, soft_box = normal(N, 4, anchors, scale=3), normal(N, anchors, 4)

    def loss(p):
        h = torch.relu(torch.tensor(np.float64(x)) @ p["w.hidden"] + p["b.hidden"])
        z = (h @ p["w.class"] + p["b.class"]).reshape(N, anchors, 4)
        box = (h @ p["w.box"] + p["b.box"]).reshape(N, anchors, 4)
        inside = torch.tensor(y > 0)
        t = torch.tensor(np.float64(soft_class)).permute(0, 2, 1)
        return (0.5 * kd(z[inside], t[inside], 2, int(inside.sum())) +
                0.5 * F.cross_entropy(z.reshape(-1, 4), torch.tensor(y).long().reshape(-1), ignore_index=-1) +
                F.smooth_l1_loss(box[inside], torch.tensor(np.float64(boxes))[inside]) +
                0.5 * F.smooth_l1_loss(box[inside], torch.tensor(np.float64(soft_box))[inside]))

    return compare(distill, path, data, loss, task=["class:class_axis=last:mask=label.class", "box:mask=label.class"],
                   loss=["class/kd:0.5:temperature=2", "class/cross-entropy:0.5", "box/smooth-l1:1", "box/soft-smooth-l1:0.5"],
                   soft_labels=["class=" + teacher(data, soft_class), "box=" + teacher(data, soft_box, values=1)])


@test("numbers: the mean squared error is the usual loss")
def numbers():
    path = fresh(".onnx")
    heads.heads(path, "image", [6], 9, {"y": 3}, 4)
    x, y = normal(N, 6), normal(N, 3, scale=2)
    y[::5] = np.nan

    def loss(p):
        z = torch.relu(torch.tensor(np.float64(x)) @ p["w.hidden"] + p["b.hidden"]) @ p["w.y"] + p["b.y"]
        known = torch.tensor(~np.isnan(y))
        return F.mse_loss(z[known], torch.tensor(np.float64(y))[known])

    return compare(train, path, dataset(image=x, target=y), loss)


if __name__ == "__main__":
    sys.exit(main())
