#!/usr/bin/env python3
"""Models of `mpistill create` and models that torch.onnx exported: logits beside PyTorch's, and training on from the exported weights."""
import sys

sys.dont_write_bytecode = True

import copy
import json
import os
import warnings

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from harness import (Failure, check_gradients, create, fresh, gradient_step, largest_difference, main, mpistill, order,
                     read_parameters, test, train, within, write_dataset, write_parameters)
from nets import Cnn, Mlp, ResNet, backward, cross_entropy, gradients, load, logits_of, state, statistics

OPSETS = (11, 13, 17)
ROWS = 70


def pictures(channels=3, side=12, rows=ROWS, seed=4):
    random = np.random.default_rng(seed)
    return random.standard_normal((rows, channels, side, side)).astype(np.float32), random.integers(0, 10, rows)


# ---- networks as people write them; each sees 3x12x12 pictures ----


class Residual(nn.Module):
    """Batch norm after and before convolutions, a residual sum, three kinds of pooling, dropout, view, LogSoftmax at the end."""

    def __init__(self, dropout=0.3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 16, 3, stride=2, bias=False)
        self.bn3 = nn.BatchNorm2d(16)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = x + self.bn2(F.relu(self.conv2(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        x = self.drop(x.view(x.size(0), -1))
        return F.log_softmax(self.fc(x), dim=1)


class Separable(nn.Module):
    """Depthwise, dilated, grouped and strided convolutions, unequal padding, ReLU6, a mean over height and width."""

    def __init__(self):
        super().__init__()
        self.depth = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.point = nn.Conv2d(6, 12, 1)
        self.wide = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=4)
        self.tall = nn.Conv2d(12, 8, (3, 1), stride=(2, 1), padding=(1, 0))
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu6(self.point(self.depth(F.pad(x, (1, 0, 2, 1)))))
        x = torch.tanh(self.tall(F.leaky_relu(self.wide(x), 0.1)))
        return self.fc(x.mean((2, 3)))


class Branches(nn.Module):
    """Concatenated branches, channel attention, transposition and a product with a matrix, Softmax at the end."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(3, 4, 5, padding=2)
        self.gate = nn.Linear(8, 8)
        self.mix = nn.Parameter(torch.randn(8, 5) / 3)
        self.fc = nn.Linear(5 * 36, 10)

    def forward(self, x):
        x = torch.cat([self.a(x), self.b(x)], 1)
        x = x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1).flatten(1))).unsqueeze(2).unsqueeze(3)
        x = F.max_pool2d(x, 3, stride=2, padding=1).flatten(2).transpose(1, 2)
        x = torch.clamp(torch.matmul(x, self.mix), -2, 2) / 2 - 0.1
        return F.softmax(self.fc(x.reshape(-1, 5 * 36)), dim=-1)


def sequential():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 40), nn.Tanh(), nn.Dropout(0.5), nn.Linear(40, 30), nn.Sigmoid(),
                         nn.Linear(30, 20), nn.LeakyReLU(0.2), nn.Linear(20, 10))


def conv_sequential():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
                         nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(3, 2, padding=1),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
                         nn.Linear(16, 10), nn.LogSoftmax(1))


NETS = {"residual": Residual, "separable": Separable, "branches": Branches, "mlp": sequential, "cnn": conv_sequential}


def settled(make, x, seed=0):
    """A net with random weights whose batch norms have seen data."""
    torch.manual_seed(seed)
    net = make()
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.bias, -0.5, 0.5)
    net.train()
    with torch.no_grad():
        for part in np.array_split(x, 3):
            net(torch.from_numpy(part))
    return net.eval()


def export(net, x, opset, training=False):
    path = fresh(".onnx")
    mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, torch.from_numpy(x[:2]), path, opset_version=opset, training=mode, do_constant_folding=not training,
                          input_names=["image"], output_names=["scores"],
                          dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}})
    return path


# ---- logits ----


def taught(path, data):
    """Logits that `teach` stores."""
    folder = fresh(".soft")
    mpistill("teach", "--dataset", data, "--teacher", f"t={path}", "--dtype", "float32", "--output", folder)
    with h5py.File(os.path.join(folder, "t.h5"), "r") as f:
        return f["logits"][...]


def check_logits(got, expected):
    if not np.abs(expected - expected.mean(1, keepdims=True)).max() > 0.1:
        raise Failure("PyTorch's logits are all alike")
    error = np.abs(got - expected) / (1e-5 + 1e-4 * np.abs(expected))
    return within("largest error, as a share of 1e-5 + 1e-4 |logit|,", float(error.max()), 1)


def shaken(path, seed=1):
    """Fresh batch norms are the identity: other scales, shifts and statistics."""
    random, parameters = np.random.default_rng(seed), read_parameters(path)
    vectors = {name: p + random.uniform(-0.3, 0.3, p.shape).astype(np.float32) for name, p in parameters.items() if p.ndim == 1}
    return write_parameters(path, vectors)


def created(arguments, net, channels, side):
    path = shaken(create(*arguments))
    x, y = pictures(channels, side)
    load(net, read_parameters(path))
    return check_logits(taught(path, write_dataset(x, y)), logits_of(net, x))


CREATED = {
    "mlp": (["mlp", "--layers", "64,32,32,10"], lambda: Mlp([64, 32, 32, 10]), 1, 8),
    "mlp with batch norm": (["mlp", "--layers", "64,32,32,10", "--batch-norm"],
                            lambda: Mlp([64, 32, 32, 10], True), 1, 8),
    "cnn": (["cnn", "--input", "3x12x12", "--classes", 10, "--hidden", 40], lambda: Cnn(3, 12, 10, hidden=40), 3, 12),
    "resnet-20": (["resnet", "--depth", 20, "--input", "3x16x16", "--classes", 10], lambda: ResNet(20, 3, 10), 3, 16),
}
for kind, (words, make, depth, size) in CREATED.items():
    test(f"logits of a created {kind}")(lambda w=words, m=make, d=depth, s=size: created(w, m(), d, s))


def exported(make, opset):
    x, y = pictures()
    net = settled(make, x)
    got = taught(export(net, x, opset), write_dataset(x, y))
    expected = logits_of(net, x)
    if isinstance(net, Branches):  # ends with probabilities
        expected = np.log(expected)
    # What a last Softmax or LogSoftmax is given differs from what it gives by one number a row.
    return check_logits(got - got.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True))


for kind, make in NETS.items():
    for version in OPSETS:
        test(f"logits of an exported {kind}, opset {version}")(lambda m=make, v=version: exported(m, v))


@test("a uint8 dataset with scale and offset per channel")
def scaled():
    random = np.random.default_rng(6)
    x = random.integers(0, 256, (ROWS, 3, 12, 12), dtype=np.uint8)
    scale, offset = np.float32([1 / 64, 1 / 70, 1 / 80]), np.float32([-2.1, -1.9, -1.7])
    floats = x.astype(np.float32) * scale[:, None, None] + offset[:, None, None]
    net = settled(Residual, floats)
    data = write_dataset(x, random.integers(0, 10, ROWS), scale=scale, offset=offset)
    got, expected = taught(export(net, floats, 17), data), logits_of(net, floats)
    return check_logits(got - got.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True))


@test("evaluate: errors, accuracy and NLL")
def evaluate():
    x, y = pictures(rows=501)
    net = settled(Residual, x)
    path, data = export(net, x, 13), write_dataset(x, y)
    result = json.loads(mpistill("evaluate", "--model", path, "--dataset", data, "--split", "train", "--json"))
    z = torch.from_numpy(logits_of(net, x))
    errors = int((z.argmax(1).numpy() != y).sum())
    if (result["samples"], result["errors"]) != (501, errors):
        raise Failure(f"{result['errors']} errors of {result['samples']}, expected {errors} of 501")
    nll = F.cross_entropy(z, torch.from_numpy(y)).item()
    return f"{errors} errors, " + within("nll", abs(result["nll"] - nll), 1e-5)


# ---- training on ----


def fused(net):
    """A copy with each batch norm right behind a convolution folded into it, as the exporter does in eval mode."""
    net = copy.deepcopy(net).eval()
    for conv, norm in ({"conv1": "bn1", "conv3": "bn3"} if isinstance(net, Residual) else {"0": "1", "4": "5"}).items():
        setattr(net, conv, nn.utils.fusion.fuse_conv_bn_eval(getattr(net, conv), getattr(net, norm)))
        setattr(net, norm, nn.Identity())
    return net


def match_by_value(parameters, file):
    """The exporter renames what it folds: {name in the net: name in the file} by shape and nearest values."""
    names = {}
    for name, value in parameters.items():
        left = {other: t for other, t in file.items() if t.shape == value.shape and other not in names.values()}
        near = {other: np.abs(t - value).max() for other, t in left.items()}
        best = min(near, key=near.get, default=None)
        if best is None or not near[best] < 1e-5:
            raise Failure(f"no initializer has the values of {name}")
        names[name] = best
    return names


def train_exported(make, opset, training):
    x, y = pictures()
    net = settled(make, x)
    for m in net.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    path = export(net, x, opset, training)
    wanted = net if training or make not in (Residual, conv_sequential) else fused(net)
    names = match_by_value({key: t.numpy() for key, t in state(wanted, str).items()}, read_parameters(path))
    got, loss, after = gradient_step(train, path, write_dataset(x, y), batch=len(x), shards=1)
    rows = order(0, 0, len(x))

    def loss_of(z, part):
        return cross_entropy(y[rows])(torch.log(z) if make is Branches else z, part)

    expected = backward(wanted, torch.from_numpy(x[rows]), loss_of)
    texts = [within("loss", abs(loss - expected) / expected, 1e-5),
             check_gradients({key: got[other] for key, other in names.items()}, gradients(wanted, str), 1e-4)]
    moved = {name: largest_difference(after[names[name]], t) for name, t in statistics(wanted, str).items()}
    if moved:
        texts.append(within("running statistics", max(moved.values()), 1e-5))
    return ", ".join(texts)


for kind, make in NETS.items():
    for version in (11, 17) if kind in ("residual", "cnn") else (13,):
        for mode in (False, True):
            name = f"first gradient of an exported {kind}, opset {version}, {'training' if mode else 'eval'} mode"
            test(name)(lambda m=make, v=version, t=mode: train_exported(m, v, t))

if __name__ == "__main__":
    sys.exit(main())
