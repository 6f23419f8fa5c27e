#!/usr/bin/env python3
"""Distillation beside PyTorch: the kd loss with temperature, hard labels where there are any, and teachers combined beforehand or on the
fly, from soft-label files made by h5py."""
import sys

sys.dont_write_bytecode = True

import copy
import os

import h5py
import numpy as np
import torch
import torch.nn.functional as F

from harness import (Failure, check_gradients, create, digits, distill, epoch_batches, gradient_step, largest_difference, main,
                     mpistill, order, read_parameters, test, within, worst_error, write_dataset, write_soft_labels)
from nets import Cnn, Mlp, ResNet, backward, cross_entropy, load, logits_of, nearest_gradients, numpy_state, train_torch

T, WEIGHT = 4, 0.9
ROWS = 96


def mlp():
    return create("mlp", "--layers", "64,32,32,10", "--seed", 1), Mlp([64, 32, 32, 10])


def cnn():
    path = create("cnn", "--input", "1x8x8", "--classes", 10, "--channels", "8,16", "--hidden", 20, "--seed", 2)
    return path, Cnn(1, 8, 10, (8, 16), 20)


def resnet():
    return create("resnet", "--depth", 8, "--input", "1x8x8", "--classes", 10, "--seed", 3), ResNet(8, 1, 10)


def loaded(model):
    path, net = model()
    return path, load(net, read_parameters(path))


def teacher_logits(rows, seed):
    """As sure of themselves as trained teachers are: the largest of ten numbers of deviation 5."""
    return (np.random.default_rng(seed).standard_normal((rows, 10)) * 5).astype(np.float32)


def partly_labelled(rows=ROWS):
    """A third of the rows has no label, unevenly spread."""
    x, y = digits(rows)
    y[np.random.default_rng(8).permutation(rows)[:rows // 3]] = -1
    return x, y


def kd(targets):
    """loss_of of T^2 KL(targets || softmax(z/T)), mean over the batch; targets: probabilities of its rows."""
    targets = torch.as_tensor(np.asarray(targets, dtype=np.float32))
    return lambda z, rows: T * T * F.kl_div(F.log_softmax(z / T, 1), targets[rows], reduction="sum") / len(targets)


def softened(logits, temperature=T):
    return F.softmax(torch.as_tensor(np.float64(logits)) / temperature, 1).numpy()


def mixed(targets, labels, weight=WEIGHT, sums=None):
    """loss_of for backward; sums[2], if given: both losses, each added up over the rows that its mean is over."""
    soft, hard = kd(targets), cross_entropy(labels)
    sums = np.zeros(2) if sums is None else sums
    labelled = (labels >= 0).sum()

    def loss_of(z, rows):
        parts = soft(z, rows), hard(z, rows)
        sums[:] += parts[0].item() * len(targets), parts[1].item() * labelled
        return weight * parts[0] + (1 - weight) * parts[1]

    return loss_of


def compare_students(model, x, y, targets, batch=ROWS, shards=1, weight=WEIGHT, steps=3, **options):
    """First gradient and the losses of some epochs; targets: probabilities at T for every row."""
    path, net = loaded(model)
    data = write_dataset(x, y)
    files = [write_soft_labels(data, logits) for logits in options.pop("teachers")]
    options.update(soft_labels=files, temperature=T, kd_weight=weight, shards=shards)
    rows = order(0, 0, len(x))
    got, loss, _ = gradient_step(distill, path, data, batch=len(x), **options)
    arguments = torch.from_numpy(x[rows]), mixed(targets[rows], y[rows], weight), shards
    expected = backward(copy.deepcopy(net), *arguments)
    wanted, _ = nearest_gradients(net, got, 1e-4, *arguments)
    texts = [within("loss", abs(loss - expected) / abs(expected), 1e-5), check_gradients(got, wanted, 1e-4)]
    done = distill(path, data, batch=batch, epochs=steps, learning_rate=0.02, schedule="constant", **options)
    optimizer = torch.optim.SGD(net.parameters(), 0.02, 0.9)
    losses = []
    for epoch in range(steps):
        sums = np.zeros(2)
        batches = [(x[b], mixed(targets[b], y[b], weight, sums)) for b in epoch_batches(0, epoch, len(x), batch)]
        train_torch(net, batches, optimizer, shards=shards)
        losses.append(weight * sums[0] / len(x) + (1 - weight) * sums[1] / max(1, (y >= 0).sum()))
    texts.append(within(f"{steps} losses", largest_difference(done.losses(), losses), 1e-4))
    return ", ".join(texts)


# ---- one teacher ----


def one_teacher(model, shards):
    x, y = partly_labelled()
    logits = teacher_logits(ROWS, 1)
    return compare_students(model, x, y, softened(logits), shards=shards, teachers=[logits])


for kind, make in {"mlp": mlp, "cnn": cnn, "resnet-8": resnet}.items():
    test(f"kd and cross-entropy, a third unlabelled: {kind}")(lambda make=make: one_teacher(make, 1))
test("kd and cross-entropy, a third unlabelled: resnet-8, 4 shards")(lambda: one_teacher(resnet, 4))


@test("kd and cross-entropy: several batches an epoch")
def several_batches():
    """The mean of cross-entropy is over the labelled rows of each batch, of which there are different numbers."""
    x, y = partly_labelled()
    logits = teacher_logits(ROWS, 1)
    return compare_students(mlp, x, y, softened(logits), batch=20, steps=4, shards=2, teachers=[logits])


@test("kd alone: no row has a label")
def unlabelled():
    x, y = digits(ROWS)
    logits = teacher_logits(ROWS, 1)
    return compare_students(mlp, x, np.full_like(y, -1), softened(logits), teachers=[logits])


@test("losses by part, and an option each")
def parts():
    x, y = partly_labelled()
    path, net = loaded(mlp)
    logits = teacher_logits(ROWS, 1)
    data = write_dataset(x, y)
    done = distill(path, data, soft_labels=[write_soft_labels(data, logits)], epochs=1, batch=ROWS, shards=1,
                   loss=["kd:0.7:temperature=4", "cross-entropy:0.2:label_smoothing=0.1"])
    z = torch.from_numpy(logits_of(net, x))
    soft = kd(softened(logits))(z, slice(0, ROWS)).item()
    hard = F.cross_entropy(z, torch.from_numpy(y), ignore_index=-1, label_smoothing=0.1).item()
    return ", ".join(within(part, abs(done.losses(part)[0] - expected) / expected, 1e-6)
                     for part, expected in (("kd", soft), ("cross-entropy", hard), ("total", 0.7 * soft + 0.2 * hard)))


@test("a top-k file: the rest is spread evenly")
def top_k():
    x, y = digits(ROWS)
    path, net = loaded(mlp)
    data = write_dataset(x, y)
    logits = np.float64(teacher_logits(ROWS, 1))
    best = np.argsort(-logits, 1)[:, :3]
    others = np.ones((ROWS, 10), dtype=bool)
    np.put_along_axis(others, best, False, 1)
    rest = np.log((np.exp(logits) * others).sum(1))
    file = write_soft_labels(data, np.zeros((ROWS, 10)))
    with h5py.File(file, "a") as f:
        del f["logits"]
        f.attrs["encoding"], f.attrs["n_classes"] = "topk", 10
        f["topk/index"], f["topk/rest"] = best.astype(np.int32), rest.astype(np.float32)
        f["topk/logit"] = np.take_along_axis(logits, best, 1).astype(np.float32)
    dense = np.where(others, (rest - np.log(7))[:, None], logits)
    loss = distill(path, data, soft_labels=[file], temperature=T, kd_weight=1, epochs=1, batch=ROWS).losses()[0]
    expected = kd(softened(dense))(torch.from_numpy(logits_of(net, x)), slice(0, ROWS)).item()
    return within("loss", abs(loss - expected) / expected, 1e-6)


# ---- several teachers ----

# rule: PyTorch's targets at T from the teachers' logits
RULES = {
    "probability-mean": lambda z, w: sum(a * softened(b) for a, b in zip(w, z)),
    "logit-mean": lambda z, w: softened(sum(a * np.float64(b) for a, b in zip(w, z))),
}


def two_teachers(rule, weights):
    x, y = partly_labelled()
    teachers = [teacher_logits(ROWS, 1), teacher_logits(ROWS, 2)]
    targets = RULES[rule](teachers, np.float64(weights) / sum(weights))
    text = ",".join(map(str, weights))
    return compare_students(mlp, x, y, targets, teachers=teachers, method=rule, weights=text)


def ensemble(rule, weights):
    """The file that aggregate makes for T, against PyTorch and against combining on the fly."""
    x, y = partly_labelled()
    path, _ = loaded(mlp)
    data = write_dataset(x, y)
    teachers = [teacher_logits(ROWS, 1), teacher_logits(ROWS, 2)]
    files = [write_soft_labels(data, logits, f"t{i}") for i, logits in enumerate(teachers)]
    rule_options = ["--method", rule, "--weights", ",".join(map(str, weights))]
    mpistill("aggregate", *files, *rule_options, "--temperature", T, "--dtype", "float32", "--output", "ensemble.h5", "--force")
    with h5py.File("ensemble.h5", "r") as f:
        stored = f["logits"][...]
    targets, other = (RULES[name](teachers, np.float64(weights) / sum(weights)) for name in (rule, *(set(RULES) - {rule})))
    if not np.abs(other - targets).max() > 0.1:
        raise Failure("the rules do not differ here")
    options = {"temperature": T, "epochs": 5, "batch": 32, "learning_rate": 0.05}
    stored_losses = distill(path, data, soft_labels=["ensemble.h5"], **options)
    own_losses = distill(path, data, soft_labels=files, method=rule, weights=",".join(map(str, weights)), **options)
    return ", ".join([within("probabilities", np.abs(softened(stored) - targets).max(), 1e-6),
                      within("losses from file and on the fly",
                             largest_difference(stored_losses.losses(), own_losses.losses()), 1e-6),
                      within("students", worst_error(stored_losses.parameters(), own_losses.parameters())[0], 1e-5)])


for method in RULES:
    for shares in ([1, 1], [1, 3]):
        name = f"{method}, weights {shares[0]}:{shares[1]}"
        test(f"two teachers on the fly: {name}")(lambda m=method, s=shares: two_teachers(m, s))
        test(f"two teachers in one file: {name}")(lambda m=method, s=shares: ensemble(m, s))

# ---- the whole way ----


@test("teach, aggregate and distill in float32 against PyTorch")
def whole_way():
    """Teachers are models here: their logits, the ensemble and the student's losses are compared with PyTorch's own."""
    x, y = digits(ROWS)
    data = write_dataset(x, y)
    (wide, wide_net), (conv, conv_net) = loaded(cnn), loaded(resnet)
    models = ["--teacher", f"wide={wide}", "--teacher", f"conv={conv}"]
    mpistill("teach", "--dataset", data, *models, "--dtype", "float32", "--output", "soft")
    files = [os.path.join("soft", f"{name}.h5") for name in ("wide", "conv")]
    mpistill("aggregate", *files, "--temperature", T, "--dtype", "float32", "--output", "both.h5")
    targets = (softened(logits_of(wide_net, x)) + softened(logits_of(conv_net, x))) / 2
    student, net = loaded(mlp)
    done = distill(student, data, soft_labels=["both.h5"], temperature=T, epochs=10, batch=32, shards=1, learning_rate=0.05,
                   schedule="constant")
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9)
    losses = []
    for epoch in range(10):
        batches = [(x[b], mixed(targets[b], y[b])) for b in epoch_batches(0, epoch, ROWS, 32)]
        losses.append(np.mean(train_torch(net, batches, optimizer)))
    return ", ".join([within("losses of 30 steps", largest_difference(done.losses(), losses), 1e-4),
                      within("student", worst_error(done.parameters(), numpy_state(net))[0], 1e-4)])


if __name__ == "__main__":
    sys.exit(main())
