"""Reference values for the tests of src/learn, from PyTorch in double precision: reference.py SECTION.

One array a line: NAME VALUE... Cases of a kind are numbered: loss/kd/0/logits, loss/kd/0/gradient, ..."""
import sys

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
random = np.random.default_rng(20)


def put(name, values):
    print(name, *("%.17g" % v for v in np.asarray(values, dtype=np.float64).ravel()))


def floats(*shape, scale=1.0):
    """Normal numbers that a float holds exactly."""
    return (random.standard_normal(shape) * scale).astype(np.float32).astype(np.float64)


def leaf(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def kd(z, t, labels, temperature, smoothing):
    return temperature ** 2 * F.kl_div(F.log_softmax(z / temperature, 1), F.softmax(t / temperature, 1), reduction="batchmean")


def cross_entropy(z, t, labels, temperature, smoothing):
    return F.cross_entropy(z, labels, ignore_index=-1, label_smoothing=smoothing)


def losses():
    settings = {
        "kd": (kd, [(1, 0), (4, 0), (20, 0), (0.5, 0), (3, 0)]),
        "cross-entropy": (cross_entropy, [(1, 0), (1, 0.1), (1, 0.5)]),
    }
    shapes = [(12, 10), (5, 3), (7, 1000), (9, 65), (4, 8)]
    for kind, (function, options) in settings.items():
        for case, (temperature, smoothing) in enumerate(options):
            rows, classes = shapes[case]
            weight = 0.25 + 0.5 * case
            logits, soft = floats(rows, classes, scale=3), floats(rows, classes, scale=5)
            labels = random.integers(0, classes, rows)
            labels[::4] = -1
            z = leaf(logits)
            value = function(z, torch.tensor(soft), torch.tensor(labels), temperature, smoothing)
            (weight * value).backward()
            at = "loss/%s/%d/" % (kind, case)
            put(at + "options", [rows, classes, weight, temperature, smoothing])
            put(at + "logits", logits)
            put(at + "soft", soft)
            put(at + "labels", labels)
            put(at + "value", [value.item()])
            put(at + "gradient", z.grad)


def optimizers():
    steps, n = 20, 37
    settings = {
        "sgd": [dict(), dict(momentum=0.9), dict(momentum=0.9, weight_decay=5e-4), dict(momentum=0.8, weight_decay=0.01, nesterov=True),
                dict(weight_decay=0.1)],
        "adamw": [dict(), dict(weight_decay=0.05), dict(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01)],
    }
    for kind, options in settings.items():
        for case, option in enumerate(options):
            rates = (0.1 if kind == "sgd" else 0.01) * (1 - np.arange(steps) / (2 * steps))
            start, gradients = floats(n), floats(steps, n)
            scale = 1 if case % 2 else 0.5
            p = leaf(start)
            optimizer = (torch.optim.SGD if kind == "sgd" else torch.optim.AdamW)(
                [p], lr=1.0, **({"weight_decay": 0} | option))
            for step in range(steps):
                optimizer.param_groups[0]["lr"] = rates[step]
                p.grad = torch.tensor(gradients[step] * scale)
                optimizer.step()
            at = "optimizer/%s/%d/" % (kind, case)
            betas = option.get("betas", (0.9, 0.999))
            put(at + "options", [n, steps, scale, option.get("momentum", 0), option.get("nesterov", False),
                                 option.get("weight_decay", 0), *betas, option.get("eps", 1e-8)])
            put(at + "rates", rates)
            put(at + "start", start)
            put(at + "gradients", gradients)
            put(at + "result", p.detach())


def factors(make, steps, warmup=0, base=1.0):
    optimizer = torch.optim.SGD([leaf(np.zeros(1))], lr=base)
    schedule = make(optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"] / base)
        optimizer.step()
        schedule.step()
    return rates


def schedules():
    lr = torch.optim.lr_scheduler
    rise = lambda w: (lambda i: min(1.0, (i + 1) / w) if w else 1.0)

    def cosine(steps, w, final):
        tail = factors(lambda o: lr.CosineAnnealingLR(o, steps - w, eta_min=final), steps - w)
        return [(i + 1) / w for i in range(w)] + tail

    def step(steps, w, every, factor):
        drops = factors(lambda o: lr.StepLR(o, every, factor), steps)
        return [d * rise(w)(i) for i, d in enumerate(drops)]

    def one_cycle(steps, w, final):
        return factors(lambda o: lr.OneCycleLR(o, 1.0, steps, pct_start=w / steps, div_factor=25, final_div_factor=1 / (25 * final),
                                               cycle_momentum=False), steps)

    # warm-up, steps, steps an epoch, step epochs, step factor, final factor
    cases = {
        "constant": [((0, 30, 10, 0, 0, 0), factors(lambda o: lr.LambdaLR(o, rise(0)), 30)),
                     ((7, 30, 10, 0, 0, 0), factors(lambda o: lr.LambdaLR(o, rise(7)), 30))],
        "step": [((0, 50, 10, 2, 0.1, 0), step(50, 0, 20, 0.1)), ((5, 50, 10, 1.5, 0.3, 0), step(50, 5, 15, 0.3))],
        "cosine": [((0, 40, 10, 0, 0, 0), cosine(40, 0, 0)), ((8, 40, 10, 0, 0, 0.05), cosine(40, 8, 0.05))],
        "one-cycle": [((10, 40, 10, 0, 0, 0.01), one_cycle(40, 10, 0.01)), ((0, 40, 10, 0, 0, 0.001), one_cycle(40, 12, 0.001))],
    }
    for kind, rows in cases.items():
        for case, (options, values) in enumerate(rows):
            put("schedule/%s/%d/options" % (kind, case), options)
            put("schedule/%s/%d/factors" % (kind, case), values)


def combine():
    def probability_mean(z, w, temperature):
        return temperature * torch.logsumexp(torch.log_softmax(z / temperature, 2) + torch.log(w)[:, None, None], 0)

    def logit_mean(z, w, temperature):
        return (w[:, None, None] * z).sum(0)

    for kind, function in (("probability-mean", probability_mean), ("logit-mean", logit_mean)):
        for case, (k, rows, classes, temperature, scale) in enumerate([(3, 6, 10, 1, 5), (2, 3, 70, 4, 10), (1, 4, 5, 2, 5),
                                                                      (5, 2, 129, 0.25, 200)]):
            z = floats(k, rows, classes, scale=scale)
            w = random.random(k)
            w = w / w.sum()
            at = "combine/%s/%d/" % (kind, case)
            put(at + "options", [k, rows, classes, temperature])
            put(at + "logits", z)
            put(at + "weights", w)
            put(at + "result", function(torch.tensor(z), torch.tensor(w), temperature))


def metrics():
    rows, classes, bins = 300, 10, 15
    logits = floats(rows, classes, scale=2)
    labels = np.where(random.random(rows) < 0.5, logits.argmax(1), random.integers(0, classes, rows))
    labels[::7] = -1
    known = labels >= 0
    p = torch.softmax(torch.tensor(logits[known]), 1).numpy()
    y = labels[known]
    confidence, right = p.max(1), p.argmax(1) == y
    which = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    ece = sum(abs(right[which == b].sum() - confidence[which == b].sum()) for b in range(bins)) / known.sum()
    put("metrics/options", [rows, classes])
    put("metrics/logits", logits)
    put("metrics/labels", labels)
    put("metrics/accuracy", [right.mean()])
    put("metrics/nll", [F.nll_loss(torch.log(torch.tensor(p)), torch.tensor(y)).item()])
    put("metrics/ece", [ece])


{"losses": losses, "optimizers": optimizers, "schedules": schedules, "combine": combine, "metrics": metrics}[sys.argv[1]]()
