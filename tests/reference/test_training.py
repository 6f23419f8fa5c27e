#!/usr/bin/env python3
"""Training beside PyTorch: the same initial weights, batches and options, then gradients, losses and running statistics compared."""
import sys

sys.dont_write_bytecode = True

import copy
import warnings

import numpy as np
import torch

from harness import (Failure, check_gradients, create, digits, epoch_batches, gradient_step, largest_difference, main, order, philox,
                     read_parameters, test, train, within, worst_error, write_dataset, write_parameters)
from nets import Cnn, Mlp, ResNet, backward, cross_entropy, load, nearest_gradients, numpy_state, statistics, train_torch

STEPS = 20
FORCED_ROWS = 64
DRIFT_SEEDS = 8


def image_like(rows, channels, side, seed=3):
    """Pictures of smooth noise, and labels that depend on them."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, channels, side, side)).astype(np.float32)
    x += np.roll(x, 1, 2) + np.roll(x, 1, 3)
    return x, (np.abs(x[:, :, ::2].sum((1, 2, 3))) * 3).astype(np.int64) % 10


def mlp():
    return create("mlp", "--layers", "64,32,32,10", "--seed", 1), Mlp([64, 32, 32, 10])


def cnn():
    return create("cnn", "--input", "1x8x8", "--classes", 10, "--hidden", 50, "--seed", 2), Cnn(1, 8, 10, hidden=50)


def resnet(channels=1, side=8, seed=3):
    path = create("resnet", "--depth", 20, "--input", f"{channels}x{side}x{side}", "--classes", 10, "--seed", seed)
    return path, ResNet(20, channels, 10)


MODELS = {"mlp": mlp, "cnn": cnn, "resnet-20": resnet}


def loaded(model):
    path, net = model()
    return path, load(net, read_parameters(path))


def check_step(done, net, x, y, shards=1, bound=1e-4):
    """A gradient_step against PyTorch's of the same rows: loss, gradients, and running statistics if there are any."""
    got, loss, after = done
    batch = torch.from_numpy(x), cross_entropy(y), shards
    stepped = copy.deepcopy(net)
    expected = backward(stepped, *batch)
    wanted, turned = nearest_gradients(net, got, bound, *batch)
    texts = [within("loss", abs(loss - expected) / expected, 1e-5), check_gradients(got, wanted, bound)]
    if turned:
        texts.append(f"{turned} relus of inputs near zero turned")
    if statistics(net):
        texts.append(check_statistics(after, stepped, 1e-5))
    return ", ".join(texts)


def check_statistics(got, net, bound):
    """Running statistics of the file after a step; absolute below 1, relative above."""
    wanted = statistics(net)
    if not wanted:
        raise Failure("there are no running statistics to compare")
    worst = max(largest_difference(got[name], t) for name, t in wanted.items())
    return within("running statistics", worst, bound)


# ---- the order of samples ----


@test("the random numbers are Philox4x32-10's")
def philox_known_answers():
    answers = {  # of Random123's own test vectors
        (0, 0): [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        (0xFFFFFFFF, 0xFFFFFFFF): [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    }
    for (counter, key), words in answers.items():
        if philox([counter] * 4, [key] * 2) != words:
            raise Failure(f"counter {counter:#x}")
    return f"{len(answers)} known answers"


def order_of_samples(rows, batch, rate):
    """The mean loss of an epoch, and the parameters in the end, tell which rows were in which batch."""
    x, y = digits(rows)
    path, net = loaded(mlp)
    got = train(path, write_dataset(x, y), epochs=4, batch=batch, shards=1, seed=2**32 + 7, learning_rate=rate,
                schedule="constant")
    optimizer = torch.optim.SGD(net.parameters(), rate, 0.9)
    expected = []
    for epoch in range(4):
        batches = epoch_batches(2**32 + 7, epoch, rows, batch)
        losses = train_torch(net, [(x[b], cross_entropy(y[b])) for b in batches], optimizer)
        expected.append(np.average(losses, weights=[len(b) for b in batches]))
    error = worst_error(got.parameters(), numpy_state(net))[0]
    return ", ".join([within("mean losses of 4 epochs", largest_difference(got.losses(), expected), 1e-4),
                      within("parameters", error, 1e-4)])


test("order of samples: 9 batches of 16 and one of 6")(lambda: order_of_samples(150, 16, 0.1))
test("order of samples: row by row")(lambda: order_of_samples(50, 1, 0.01))


# ---- first steps ----


def first_gradient(model, x, y):
    path, net = loaded(model)
    rows = order(0, 0, len(x))
    return check_step(gradient_step(train, path, write_dataset(x, y), batch=len(x), shards=1), net, x[rows], y[rows])


for kind, make in MODELS.items():
    test(f"first gradient: {kind}")(lambda make=make: first_gradient(make, *digits(96)))
test("first gradient: resnet-20 on 3x16x16")(lambda: first_gradient(lambda: resnet(3, 16), *image_like(32, 3, 16)))


def three_steps(model):
    """Each epoch is one batch of all rows, so that the log has the loss of each step. The rate is low: at 0.1 the third loss of
    ResNet-20 differs by 1e-2 between PyTorch with and without oneDNN."""
    x, y = digits(96)
    path, net = loaded(model)
    got = train(path, write_dataset(x, y), epochs=3, batch=96, shards=1, learning_rate=0.01, schedule="constant")
    batches = [x[order(0, epoch, 96)] for epoch in range(3)]
    labels = [cross_entropy(y[order(0, epoch, 96)]) for epoch in range(3)]
    expected = train_torch(net, zip(batches, labels), torch.optim.SGD(net.parameters(), 0.01, 0.9))
    if not expected[2] < expected[0]:
        raise Failure(f"PyTorch's own losses do not fall: {expected}")
    return within("losses", largest_difference(got.losses(), expected), 1e-4)


for kind, make in MODELS.items():
    test(f"first three losses: {kind}")(lambda make=make: three_steps(make))


# ---- 20 steps of the MLP ----


def warm_cosine(optimizer):
    warnings.filterwarnings("ignore", "The epoch parameter", UserWarning)  # SequentialLR passes it to its own schedules
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 5, total_iters=4)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 5)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [5])


def sgd(**options):
    return lambda net: torch.optim.SGD(net.parameters(), **options)


def adamw(**options):
    return lambda net: torch.optim.AdamW(net.parameters(), **options)


def one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, STEPS, cycle_momentum=False, final_div_factor=1e2)


# name: our options, PyTorch's optimizer, its schedule, its clipping
TWENTY_STEPS = {
    "sgd": ({"learning_rate": 0.2, "momentum": 0, "schedule": "constant"}, sgd(lr=0.2), None, None),
    "momentum": ({"learning_rate": 0.1, "schedule": "constant", "weight_decay": 5e-3},
                 sgd(lr=0.1, momentum=0.9, weight_decay=5e-3), None, None),
    "nesterov": ({"learning_rate": 0.1, "momentum": 0.8, "nesterov": True, "schedule": "constant", "weight_decay": 5e-3},
                 sgd(lr=0.1, momentum=0.8, nesterov=True, weight_decay=5e-3), None, None),
    "adamw": ({"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "schedule": "constant"},
              adamw(lr=0.01, weight_decay=0.1), None, None),
    "adamw with other betas": ({"optimizer": "adamw", "learning_rate": 0.01, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-4,
                                "schedule": "constant"},
                               adamw(lr=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0), None, None),
    "cosine with warm-up": ({"learning_rate": 0.2, "schedule": "cosine", "warmup_epochs": 5},
                            sgd(lr=0.2, momentum=0.9), warm_cosine, None),
    "steps": ({"learning_rate": 0.2, "schedule": "step", "step_epochs": 6, "step_factor": 0.3}, sgd(lr=0.2, momentum=0.9),
              lambda o: torch.optim.lr_scheduler.StepLR(o, 6, 0.3), None),
    "one-cycle": ({"learning_rate": 0.2, "schedule": "one-cycle", "final_factor": 1 / 25 / 1e2}, sgd(lr=0.2, momentum=0.9),
                  one_cycle, None),
    "clipped": ({"learning_rate": 0.2, "schedule": "constant", "clip_norm": 0.25}, sgd(lr=0.2, momentum=0.9), None, 0.25),
}


def twenty_steps(options, make_optimizer, make_schedule, clip_norm):
    x, y = digits(128)
    path, net = loaded(mlp)
    got = train(path, write_dataset(x, y), epochs=STEPS, batch=128, shards=1, seed=5, **options)
    optimizer = make_optimizer(net)
    schedule = make_schedule and make_schedule(optimizer)
    expected, rates = [], []
    for epoch in range(STEPS):
        rows = order(5, epoch, 128)
        rates.append(optimizer.param_groups[0]["lr"])
        expected += train_torch(net, [(x[rows], cross_entropy(y[rows]))], optimizer, schedule, clip_norm=clip_norm)
    used = [epoch["learning_rate"] for epoch in got.epochs]
    error = worst_error(got.parameters(), numpy_state(net))[0]
    return ", ".join([
        within("losses", largest_difference(got.losses(), expected), 1e-4),
        within("learning rates", max(abs(u - r) / options["learning_rate"] for u, r in zip(used, rates)), 1e-7),
        within("parameters", error, 1e-3),
    ])


for variant, arguments in TWENTY_STEPS.items():
    test(f"20 steps of the mlp: {variant}")(lambda arguments=arguments: twenty_steps(*arguments))


# ---- ResNet-20 ----


def resnet_batches():
    x, y = digits(STEPS * FORCED_ROWS)
    return [(x[i:i + FORCED_ROWS], y[i:i + FORCED_ROWS]) for i in range(0, len(x), FORCED_ROWS)]


@test("resnet-20: each of 20 steps from PyTorch's state")
def forced_steps():
    """Not a run of ours but 20 steps of PyTorch's run, each repeated by us from PyTorch's parameters and statistics."""
    path, net = loaded(resnet)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9)
    worst, n_turned = {"loss": 0.0, "gradient": 0.0, "statistics": 0.0}, 0
    for x, y in resnet_batches():
        at = write_parameters(path, numpy_state(net))
        got, loss, after = gradient_step(train, at, write_dataset(x, y), batch=len(x), shards=1)
        rows = order(0, 0, len(x))
        batch = torch.from_numpy(x[rows]), cross_entropy(y[rows])
        wanted, turned = nearest_gradients(net, got, 1e-3, *batch)
        expected = backward(net, *batch)
        errors = {"loss": abs(loss - expected) / expected,
                  "gradient": worst_error(got, wanted)[0],
                  "statistics": max(largest_difference(after[name], t) for name, t in statistics(net).items())}
        worst = {key: max(value, errors[key]) for key, value in worst.items()}
        n_turned += turned
        optimizer.step()
    return ", ".join([within("losses", worst["loss"], 1e-5), within("gradients", worst["gradient"], 1e-3),
                      within("running statistics", worst["statistics"], 1e-5),
                      f"{n_turned} relus of inputs near zero turned"])


def torch_losses(net, x, y, epochs, with_onednn):
    net = copy.deepcopy(net)
    rows = [order(0, epoch, len(x)) for epoch in range(epochs)]
    with torch.backends.mkldnn.flags(enabled=with_onednn):
        return train_torch(net, [(x[r], cross_entropy(y[r])) for r in rows], torch.optim.SGD(net.parameters(), 0.1, 0.9))


@test("resnet-20: drift over 20 free steps against PyTorch's own")
def drift():
    """Labels are random: what is learnt easily pulls different runs together again. The largest distance within 20 steps varies by
    10 with the initial weights, hence the geometric mean over some."""
    x, _ = digits(FORCED_ROWS)
    y = np.random.default_rng(5).integers(0, 10, len(x))
    distances = []
    for seed in range(DRIFT_SEEDS):
        path, net = loaded(lambda: resnet(seed=seed))
        got = train(path, write_dataset(x, y), epochs=STEPS, batch=len(x), shards=1, learning_rate=0.1, schedule="constant")
        with_onednn, without = (np.float64(torch_losses(net, x, y, STEPS, on)) for on in (True, False))
        distances.append([np.abs(losses - with_onednn).max() for losses in (got.losses(), without)])
    ours, theirs = np.exp(np.log(distances).mean(0))
    text = within("ours from PyTorch", ours, 3 * theirs)
    return f"{text}, PyTorch without oneDNN from PyTorch {theirs:.1e} (geometric means of {DRIFT_SEEDS} seeds)"


# ---- shards ----


def sharded(model, rows, shards=4):
    x, y = digits(rows)
    path, net = loaded(model)
    data = write_dataset(x, y)
    at = order(0, 0, rows)
    batch = torch.from_numpy(x[at]), cross_entropy(y[at])
    sharded_loss, whole_loss = (backward(copy.deepcopy(net), *batch, s) for s in (shards, 1))
    if not abs(sharded_loss - whole_loss) > 1e-3:
        raise Failure("normalising each shard by itself makes no difference here")
    texts = [check_step(gradient_step(train, path, data, batch=rows, shards=shards), net, x[at], y[at], shards)]
    losses = train(path, data, epochs=3, batch=rows, shards=shards, learning_rate=0.01, schedule="constant").losses()
    batches = [(x[o], cross_entropy(y[o])) for o in (order(0, epoch, rows) for epoch in range(3))]
    expected = train_torch(net, batches, torch.optim.SGD(net.parameters(), 0.01, 0.9), shards=shards)
    texts.append(within("three losses", largest_difference(losses, expected), 1e-4))
    return ", ".join(texts)


def norm_mlp():
    return create("mlp", "--layers", "64,32,32,10", "--batch-norm"), Mlp([64, 32, 32, 10], batch_norm=True)


def norm_cnn():
    return (create("cnn", "--input", "1x8x8", "--classes", 10, "--channels", "8,16", "--hidden", 20, "--batch-norm"),
            Cnn(1, 8, 10, (8, 16), 20, batch_norm=True))


SHARDED = (("mlp", norm_mlp, 96), ("cnn", norm_cnn, 96), ("resnet-20", resnet, 96), ("mlp, unequal shards", norm_mlp, 50))
for kind, make, n in SHARDED:
    test(f"4 shards with batch norm: {kind}")(lambda make=make, n=n: sharded(make, n))

if __name__ == "__main__":
    sys.exit(main())
