"""The models of `mpistill create` in PyTorch, written from their papers, and PyTorch's side of training them.

State goes from and to ONNX files by name: a module's name is that of the ONNX node, and file_name() says how the rest is called."""
import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from harness import Failure, shard_slices, worst_error


class Ties:
    """A relu that notes the inputs within NEAR of zero, whose side rounding decides, and puts chosen ones on the other side. In a
    network of a million relus there is one such input in about every step, and its side changes gradients in the second digit."""

    NEAR = 2e-6

    def __init__(self, turned=()):
        self.turned, self.near, self.calls = turned, [], 0

    def __call__(self, x):
        sides = x.detach().flatten() > 0
        self.near += [(self.calls, i) for i in torch.nonzero(x.detach().flatten().abs() < self.NEAR).flatten().tolist()]
        for call, i in self.turned:
            if call == self.calls:
                sides[i] = not sides[i]
        self.calls += 1
        return x * sides.view(x.shape)


ties = None  # the Ties in use; none: torch's relu


def relu(x):
    return ties(x) if ties else x.relu()


class Mlp(nn.Module):
    """64-32-32-10 in the tests. With norms, each hidden layer is linear, norm, relu."""

    def __init__(self, widths, batch_norm=False):
        super().__init__()
        self.hidden = len(widths) - 2
        for i in range(1, self.hidden + 1):
            self.add_module(f"fc{i}", nn.Linear(widths[i - 1], widths[i]))
            if batch_norm:
                self.add_module(f"norm{i}", nn.BatchNorm1d(widths[i]))
        self.logits = nn.Linear(widths[-2], widths[-1])

    def forward(self, x):
        x = x.flatten(1)
        for i in range(1, self.hidden + 1):
            x = getattr(self, f"fc{i}")(x)
            x = relu(getattr(self, f"norm{i}", nn.Identity())(x))
        return self.logits(x)


class Cnn(nn.Module):
    """5x5 convolutions, each followed by a norm if asked for, relu and 2x2 max pooling; then linear layers."""

    def __init__(self, inputs, side, classes, channels=(32, 64), hidden=0, batch_norm=False):
        super().__init__()
        self.blocks = len(channels)
        for i, outputs in enumerate(channels, 1):
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, 5, padding=2, bias=not batch_norm))
            if batch_norm:
                self.add_module(f"norm{i}", nn.BatchNorm2d(outputs))
            inputs = outputs
        units = inputs * (side >> self.blocks) ** 2
        if hidden:
            self.hidden = nn.Linear(units, hidden)
        self.logits = nn.Linear(hidden or units, classes)

    def forward(self, x):
        for i in range(1, self.blocks + 1):
            x = getattr(self, f"conv{i}")(x)
            x = F.max_pool2d(relu(getattr(self, f"norm{i}", nn.Identity())(x)), 2)
        x = x.flatten(1)
        return self.logits(relu(self.hidden(x)) if hasattr(self, "hidden") else x)


class ResNetBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.narrows = stride != 1 or inputs != outputs
        if self.narrows:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.norm_shortcut = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        return relu(y + (self.norm_shortcut(self.conv_shortcut(x)) if self.narrows else x))


class ResNet(nn.Module):
    """For small images (He et al. 2016, section 4.2), with projection shortcuts."""

    def __init__(self, depth, inputs, classes, width=16):
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, width, 3, 1, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(width)
        inputs = width
        for stage in range(3):
            blocks = nn.Sequential()
            for i in range((depth - 2) // 6):
                blocks.add_module(f"block{i + 1}", ResNetBlock(inputs, width << stage, 2 if stage and not i else 1))
                inputs = width << stage
            self.add_module(f"stage{stage + 1}", blocks)
        self.logits = nn.Linear(inputs, classes)

    def forward(self, x):
        x = relu(self.norm0(self.conv0(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.logits(x.mean((2, 3)))


# ---- state ----

NORM_NAMES = {"weight": "scale", "running_mean": "mean", "running_var": "variance"}


def file_name(key):
    module, _, last = key.rpartition(".")
    is_norm = module.rpartition(".")[2].startswith("norm")
    return f"{module}.{NORM_NAMES.get(last, last) if is_norm else last}"


def state(net, name=file_name):
    """Parameters and running statistics by their names in the file, sharing the net's memory."""
    return {name(key): t for key, t in net.state_dict().items() if not key.endswith("num_batches_tracked")}


def load(net, parameters, name=file_name):
    """Puts a file's parameters into the net: all of them, and no others."""
    wanted = state(net, name)
    if set(wanted) != set(parameters):
        raise Failure(f"names differ: {sorted(set(wanted) ^ set(parameters))}")
    for key, t in wanted.items():
        if tuple(t.shape) != parameters[key].shape:
            raise Failure(f"{key} is {parameters[key].shape}, expected {tuple(t.shape)}")
        t.copy_(torch.from_numpy(parameters[key].copy()))
    return net


def numpy_state(net, name=file_name):
    return {key: t.numpy().copy() for key, t in state(net, name).items()}


def statistics(net, name=file_name):
    return {name(key): t.numpy().copy() for key, t in net.named_buffers() if not key.endswith("num_batches_tracked")}


def gradients(net, name=file_name):
    return {name(key): p.grad.numpy().copy() for key, p in net.named_parameters()}


# ---- training ----


def backward(net, x, loss_of, shards=1):
    """Loss and gradients of a batch; running statistics move. loss_of(logits, rows) is the part of the batch's loss that a slice of its
    rows has. With shards, each normalises by itself. Returns the loss."""
    net.train()
    net.zero_grad()
    if shards > 1:
        return backward_shards(net, x, loss_of, shards)
    loss = loss_of(net(x), slice(0, len(x)))
    loss.backward()
    return loss.item()


def backward_shards(net, x, loss_of, shards):
    """The running statistics move by the mean over the shards, weighted by their rows."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    old = [[m.running_mean.clone(), m.running_var.clone()] for m in norms]
    new = [[torch.zeros_like(t) for t in pair] for pair in old]
    total = 0.0
    for m in norms:
        m.momentum = 1.0  # what stays after a shard is that shard's own statistics
    for rows in shard_slices(len(x), shards):
        loss = loss_of(net(x[rows]), rows)
        loss.backward()
        total += loss.item()
        share = (rows.stop - rows.start) / len(x)
        for m, sums in zip(norms, new):
            sums[0] += share * m.running_mean
            sums[1] += share * m.running_var
    for m, momentum, before, after in zip(norms, momenta, old, new):
        m.momentum = momentum
        m.running_mean.copy_((1 - momentum) * before[0] + momentum * after[0])
        m.running_var.copy_((1 - momentum) * before[1] + momentum * after[1])
    return total


def backward_turned(net, turned, *arguments):
    """backward on a copy of the net, with these ties on the other side: (its gradients, the ties there are)."""
    global ties
    other, ties = copy.deepcopy(net), Ties(turned)
    try:
        backward(other, *arguments)
        return gradients(other), ties.near
    finally:
        ties = None


def nearest_gradients(net, got, bound, *arguments):
    """Gradients of a batch (net: before it) by PyTorch's own sides where these agree with `got`, otherwise with those ties turned that
    bring them nearer; and how many were turned."""
    best, near = backward_turned(net, [], *arguments)
    turned = []
    for tie in near:
        if worst_error(got, best)[0] <= bound:
            break
        other, _ = backward_turned(net, [*turned, tie], *arguments)
        if distance(got, other) < distance(got, best):
            best = other
            turned.append(tie)
    return best, len(turned)


def distance(got, expected):
    return sum(np.linalg.norm(got[name] - e) ** 2 for name, e in expected.items())


def cross_entropy(labels):
    """loss_of for backward: the mean over the labelled rows of the whole batch."""
    labels = torch.as_tensor(np.asarray(labels, dtype=np.int64))
    labelled = max(1, int((labels >= 0).sum()))
    return lambda logits, rows: F.cross_entropy(logits, labels[rows], ignore_index=-1, reduction="sum") / labelled


def train_torch(net, batches, optimizer, schedule=None, shards=1, clip_norm=None):
    """A step for each (x, loss_of); the losses."""
    losses = []
    for x, loss_of in batches:
        losses.append(backward(net, torch.as_tensor(x), loss_of, shards))
        if clip_norm:
            nn.utils.clip_grad_norm_(net.parameters(), clip_norm)
        optimizer.step()
        if schedule:
            schedule.step()
    return losses


def logits_of(net, x):
    net.eval()
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()
