#!/usr/bin/env python3
"""Training of the usual architectures beside PyTorch: test_architectures.py [--all] [WORD ...]

The nets are PyTorch's and torchvision's, reduced in size, without dropout, exported in training mode. From the same weights and batches:
the first gradient of every parameter, the first three losses, and loss and gradients with the parameters and running statistics that PyTorch
has after 19 steps; with --all at each of 20 steps, and how far 20 steps lead from a run in double, against how PyTorch with and without
oneDNN is from itself in double. Initial weights are such that no number before a ReLU or the like is so near to its bend
that rounding decides on its side."""
import sys

sys.dont_write_bytecode = True

import copy
import warnings

import h5py
import numpy as np
import torch
import torchvision.models as V
from torch import nn
from torchvision.ops import StochasticDepth

from harness import Failure, check_gradients, fresh, gradient_step, largest_difference, main, order, read_parameters, test, train, within, worst_error
from nets import cross_entropy

ALL = "--all" in sys.argv
STEPS, SEEDS = 20, 8
BENDS = {nn.ReLU: (0,), nn.ReLU6: (0, 6), nn.Hardswish: (-3, 3), nn.Hardsigmoid: (-3, 3)}


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Embedding(50, 32), nn.Parameter(torch.randn(16, 32) / 50)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0, activation="gelu", batch_first=True)
        self.net, self.last = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 10)

    def forward(self, tokens):
        return self.last(torch.tanh(self.net(self.token(tokens) + self.place)[:, 0]))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.token = nn.Embedding(50, 16)
        self.net, self.last = getattr(nn, kind)(16, 24, 2, batch_first=True), nn.Linear(24, 10)

    def forward(self, tokens):
        return self.last(self.net(self.token(tokens))[0][:, -1])


def convnext():
    setting = [V.convnext.CNBlockConfig(16, 32, 2), V.convnext.CNBlockConfig(32, None, 2)]
    return V.ConvNeXt(setting, stochastic_depth_prob=0, layer_scale=0.3, num_classes=10)


def efficientnet():
    return V.efficientnet_b0(num_classes=10, stochastic_depth_prob=0)


def mobilenet():
    """Without the stages after the fourth: on 8 numbers a channel their batch norms make PyTorch's losses differ from its own by 0.2 at the
    third step, and on larger pictures so many numbers are near bends that its gradients differ by 4e-3 and more."""
    return V.mobilenet_v2(num_classes=10, width_mult=0.5, dropout=0, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2],
                                                                                                 [6, 32, 2, 2], [6, 64, 1, 1]])


def pictures(random, rows):
    x = random.standard_normal((rows, 3, 32, 32)).astype(np.float32)
    return x + np.roll(x, 1, 2) + np.roll(x, 1, 3)


def tokens(random, rows):
    return random.integers(0, 50, (rows, 16)).astype(np.int64)


# name: the net, its input, rows of a batch
NETS = {
    "resnet18": (lambda: V.ResNet(V.resnet.BasicBlock, [2, 2, 2, 2], num_classes=10), pictures, 8),
    "mobilenet_v2": (mobilenet, pictures, 8),
    "efficientnet_b0": (efficientnet, pictures, 16),
    "convnext": (convnext, pictures, 8),
    "vit": (lambda: V.VisionTransformer(32, 8, 3, 4, 48, 96, num_classes=10), pictures, 16),
    "bert": (Bert, tokens, 16),
    "lstm": (lambda: Recurrent("LSTM"), tokens, 16),
    "gru": (lambda: Recurrent("GRU"), tokens, 16),
}


def without_chance(net):
    """No dropout; heads that start at zero (vit) would leave nothing to compare."""
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, (nn.Dropout, StochasticDepth)):
                setattr(module, name, nn.Identity())
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    head = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    nn.init.normal_(head.weight, std=head.in_features**-0.5)
    return net


def nearest_bend(net, x):
    """The least distance of any number from a bend of the function it goes into."""
    least, hooks = [np.inf], []

    def look(module, given):
        for bend in BENDS[type(module)]:
            least[0] = min(least[0], float((given[0].detach() - bend).abs().min()))

    for module in net.modules():
        if type(module) in BENDS:
            hooks.append(module.register_forward_pre_hook(look))
    with torch.no_grad():
        copy.deepcopy(net).train()(x)
    for hook in hooks:
        hook.remove()
    return least[0]


def made(name, first=0):
    """(net, x, y): the first seed whose numbers are clear of bends."""
    make, inputs, rows = NETS[name]
    best = None
    for seed in range(first, first + 12):
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        net, x = without_chance(make()), inputs(random, rows)
        y = random.integers(0, 10, rows)
        distance = nearest_bend(net, torch.from_numpy(x))
        if best is None or distance > best[0]:
            best = distance, net, x, y
        if distance > 2e-6:
            break
    return best[1:]


def export(net, x):
    path = fresh(".onnx")
    net = copy.deepcopy(net).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, torch.from_numpy(x), path, opset_version=17, input_names=["x"], output_names=["logits"],
                          dynamic_axes={"x": {0: "rows"}, "logits": {0: "rows"}}, do_constant_folding=False,
                          training=torch.onnx.TrainingMode.TRAINING)
    return path


def write(x, y):
    path = fresh(".h5")
    with h5py.File(path, "w") as f:
        f.attrs.update({"format": "mpistill-dataset", "version": 1})
        f["train/x"], f["train/label"] = x, np.int32(y)
    return path


def from_file(net, path):
    """The net's running statistics as the export left them: its trace has moved them."""
    parameters, own = read_parameters(path), net.state_dict()
    for name, t in own.items():
        if name in parameters and name.endswith(("running_mean", "running_var")):
            t.copy_(torch.from_numpy(parameters[name].copy()))


def same_values(net, path, gradients):
    """PyTorch's gradients by the names of the file. The exporter transposes some weights, joins those of recurrent layers and renames
    them: these are found by their values, and turned the same way."""
    parameters = read_parameters(path)
    found = {}
    for name, p in net.named_parameters():
        own, g = p.detach().numpy(), gradients[name]
        if name in parameters and parameters[name].shape == own.shape:
            found[name] = g
            continue
        for other, t in parameters.items():
            if t.dtype == own.dtype and t.shape == own.T.shape and np.array_equal(t, own.T):
                found[other] = g.T
    return found


def backward(net, x, y):
    net.train()
    net.zero_grad()
    loss = cross_entropy(y)(net(torch.from_numpy(x)), slice(0, len(x)))
    loss.backward()
    return loss.item(), {name: p.grad.numpy().copy() for name, p in net.named_parameters()}


def recurrent(net, path, gradients):
    """ONNX has gates in the order input, output, forget, cell and update, reset, new; both biases in one tensor."""
    found = {}
    parameters = read_parameters(path)
    order_of = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}[type(net.net).__name__]

    def turned(t):
        parts = np.split(t, len(order_of))
        return np.concatenate([parts[i] for i in order_of])

    own = {name: p.detach().numpy() for name, p in net.named_parameters()}
    for layer in range(2):
        for wanted in (["weight_ih"], ["weight_hh"], ["bias_ih", "bias_hh"]):
            join = lambda of: np.concatenate([turned(of[f"net.{part}_l{layer}"]) for part in wanted])[None]
            found.update({name: join(gradients) for name, t in parameters.items() if np.array_equal(t, join(own))})
    return found


def expected_gradients(net, path, gradients):
    found = same_values(net, path, gradients)
    if isinstance(net, Recurrent):
        found.update(recurrent(net, path, gradients))
    n = sum(g.size for g in found.values())
    if n < 0.999 * sum(p.numel() for p in net.parameters()):
        raise Failure(f"only {n} of {sum(p.numel() for p in net.parameters())} numbers were found in the file: {sorted(found)}")
    return found


def first_gradient(name):
    net, x, y = made(name)
    path = export(net, x)
    from_file(net, path)
    rows = order(0, 0, len(x))
    got, loss, _ = gradient_step(train, path, write(x, y), batch=len(x), shards=1)
    expected, gradients = backward(copy.deepcopy(net), x[rows], y[rows])
    return ", ".join([within("loss", abs(loss - expected) / expected, 1e-5),
                      check_gradients(got, expected_gradients(net, path, gradients), 1e-3)])


def torch_losses(net, x, y, steps, rate, with_onednn=True):
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), rate, 0.9)
    losses = []
    with torch.backends.mkldnn.flags(enabled=with_onednn):
        for step in range(steps):
            rows = order(0, step, len(x))
            losses.append(backward(net, x[rows], y[rows])[0])
            optimizer.step()
    return losses


def our_losses(path, x, y, steps, rate):
    return train(path, write(x, y), epochs=steps, batch=len(x), shards=1, learning_rate=rate, schedule="constant").losses()


def three_losses(name):
    net, x, y = made(name)
    path = export(net, x)
    from_file(net, path)
    expected = torch_losses(net, x, y, 3, 0.003)
    if not expected[2] < expected[0]:
        raise Failure(f"PyTorch's own losses do not fall: {expected}")
    return within("losses", largest_difference(our_losses(path, x, y, 3, 0.003), expected), 1e-4)


def own_error(net, path, x, y, expected):
    """How far PyTorch's gradients are from themselves without oneDNN, in double, and when pictures are moved by a rounding error: what is near
    a bend decides."""
    with torch.backends.mkldnn.flags(enabled=False):
        others = [backward(copy.deepcopy(net), x, y)[1]]
    others.append(backward(copy.deepcopy(net).double(), np.float64(x) if x.dtype == np.float32 else x, y)[1])
    for seed in range(16 if x.dtype == np.float32 else 0):
        moved = np.float32(x * (1 + 1e-7 * np.random.default_rng(seed).standard_normal(x.shape)))
        others.append(backward(copy.deepcopy(net), moved, y)[1])
    return max(worst_error(expected_gradients(net, path, g), expected)[0] for g in others)


def after_steps(name, steps):
    """Loss and gradients with PyTorch's values of the given steps of a run. The loss falls to nothing: it is compared in absolute numbers.
    Where a number lies so near to a bend that PyTorch disagrees with itself, so may we."""
    net, x, y = made(name)
    optimizer, rows = torch.optim.SGD(net.parameters(), 0.01, 0.9), order(0, 0, len(x))
    worst_loss, worst_gradient, n_near, start = 0, 0, 0, None
    for step in range(max(steps) + 1):
        if step in steps:
            path = export(net, x)
            from_file(net, path)
            got, loss, _ = gradient_step(train, path, write(x, y), batch=len(x), shards=1)
            expected, gradients = backward(copy.deepcopy(net), x[rows], y[rows])
            gradients = expected_gradients(net, path, gradients)
            error, parameter = worst_error(got, gradients)
            near = error > 1e-3
            n_near += near
            within(f"step {step}: loss", abs(loss - expected), 1e-5 * max(1, expected))
            within(f"step {step}: gradient of {parameter}", error,
                   max(1e-3, 2 * own_error(net, path, x[rows], y[rows], gradients)) if near else 1e-3)
            worst_loss, worst_gradient = max(worst_loss, abs(loss - expected)), max(worst_gradient, 0 if near else error)
            start = start or expected
        optimizer.zero_grad()
        backward(net, x, y)
        optimizer.step()
    return (f"{len(steps)} steps: losses {worst_loss:.1e} of 1e-05 ({start:.2f} to {expected:.2f}), gradients {worst_gradient:.1e} of 1e-03"
            + (f"; in {n_near} of them as near as PyTorch to itself" if n_near else ""))


def drift(name):
    """From a run of PyTorch in double: with and without oneDNN it shares most of its kernels, and so the numbers that rounding puts on the
    other side of a bend. What such a number does is large and rare, hence the mean."""
    distances = []
    for seed in range(SEEDS):
        net, x, y = made(name, 100 * seed)
        path = export(net, x)
        from_file(net, path)
        double = copy.deepcopy(net).double()
        exact = np.float64(torch_losses(double, np.float64(x) if x.dtype == np.float32 else x, y, STEPS, 0.01, False))
        runs = [torch_losses(net, x, y, STEPS, 0.01, on) for on in (True, False)] + [our_losses(path, x, y, STEPS, 0.01)]
        distances.append([np.abs(np.float64(losses) - exact).max() for losses in runs])
    with_onednn, without, ours = np.mean(distances, 0)
    theirs = max(with_onednn, without)
    return f"{within('ours', ours, max(3 * theirs, 1e-5))}, PyTorch with and without oneDNN {with_onednn:.1e}, {without:.1e}"


for each in NETS:
    test(f"{each}: first gradient")(lambda each=each: first_gradient(each))
    test(f"{each}: first three losses")(lambda each=each: three_losses(each))
    test(f"{each}: values of PyTorch's steps")(lambda each=each: after_steps(each, range(STEPS) if ALL else (STEPS - 1,)))
    if ALL:
        test(f"{each}: drift over 20 steps")(lambda each=each: drift(each))

if __name__ == "__main__":
    if ALL:
        sys.argv.remove("--all")
    sys.exit(main())
