"""Reference values for the tests of src/learn, from PyTorch in double precision: reference.py SECTION.

One array a line: NAME VALUE... Cases of a kind are numbered: loss/kd/0/logits, loss/kd/0/gradient, ..."""
import itertools
import sys

import numpy as np
import torch
import torch.nn.functional as F

import augment_reference

torch.set_num_threads(1)
random = np.random.default_rng(20)


def put(name, values):
    print(name, *("%.17g" % v for v in np.asarray(values, dtype=np.float64).ravel()))


def floats(*shape, scale=1.0):
    """Normal numbers that a float holds exactly."""
    return (random.standard_normal(shape) * scale).astype(np.float32).astype(np.float64)


def leaf(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def soften(z, t, o):
    """log q and log p at T, of logits standardised first where that is asked for."""
    if o.standardize:
        z, t = ((x - x.mean(1, keepdim=True)) / (1e-7 + x.std(1, keepdim=True)) for x in (z, t))
    return F.log_softmax(z / o.temperature, 1), F.log_softmax(t / o.temperature, 1)


def kd(z, t, labels, o):
    log_q, log_p = soften(z, t, o)
    return o.temperature ** 2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def reverse_kl(z, t, labels, o):
    log_q, log_p = soften(z, t, o)
    return o.temperature ** 2 * F.kl_div(log_p, log_q, log_target=True, reduction="batchmean")


def jsd(z, t, labels, o):
    log_q, log_p = soften(z, t, o)
    log_m = torch.log((log_q.exp() + log_p.exp()) / 2)
    halves = [F.kl_div(log_m, x, log_target=True, reduction="batchmean") for x in (log_p, log_q)]
    return o.temperature ** 2 * sum(halves) / 2


def dkd(z, t, labels, o):
    """As in the authors' code: the label's class against the rest, and the rest with the label's logit pushed down."""
    known = labels >= 0
    z, t, y = z[known], t[known], labels[known, None]
    if o.standardize:
        z, t = ((x - x.mean(1, keepdim=True)) / (1e-7 + x.std(1, keepdim=True)) for x in (z, t))
    own = torch.zeros_like(z).scatter_(1, y, 1)

    def coin(x):
        p = F.softmax(x / o.temperature, 1)
        return torch.stack([(p * own).sum(1), (p * (1 - own)).sum(1)], 1)

    target = F.kl_div(coin(z).log(), coin(t), reduction="batchmean")
    rest = F.kl_div(F.log_softmax(z / o.temperature - 1e4 * own, 1), F.softmax(t / o.temperature - 1e4 * own, 1),
                    reduction="batchmean")
    return o.temperature ** 2 * (o.alpha * target + o.beta * rest)


def correlation(a, b):
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) + 1e-8) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)


def dist(z, t, labels, o):
    q, p = F.softmax(z / o.temperature, 1), F.softmax(t / o.temperature, 1)
    return o.temperature ** 2 * ((1 - correlation(q, p)).mean() + o.gamma * (1 - correlation(q.T, p.T)).mean())


def logit_mse(z, t, labels, o):
    return F.mse_loss(z, t)


def cosine(z, t, labels, o):
    return (1 - F.cosine_similarity(z, t, 1)).mean()


def cross_entropy(z, t, labels, o):
    return F.cross_entropy(z, labels, ignore_index=-1, label_smoothing=o.smoothing)


def mse(y, t, target, o):
    known = ~target.isnan()
    return F.mse_loss(y[known], target[known])


def smooth_l1(y, t, target, o):
    known = ~target.isnan()
    return F.smooth_l1_loss(y[known], target[known], beta=o.delta)


def soft_mse(y, t, target, o):
    return F.mse_loss(y, t)


def soft_smooth_l1(y, t, target, o):
    return F.smooth_l1_loss(y, t, beta=o.delta)


class Options:
    def __init__(self, temperature=1, smoothing=0, alpha=0, beta=0, gamma=0, standardize=0, delta=0):
        self.temperature, self.smoothing, self.standardize = temperature, smoothing, standardize
        self.alpha, self.beta, self.gamma, self.delta = alpha, beta, gamma, delta

    def values(self):
        return [self.temperature, self.smoothing, self.alpha, self.beta, self.gamma, self.standardize, self.delta]


OF_VALUES = {"mse": (mse, [{}, {}, {}]), "soft-mse": (soft_mse, [{}, {}, {}]),
             "smooth-l1": (smooth_l1, [dict(delta=1), dict(delta=0.25), dict(delta=5)]),
             "soft-smooth-l1": (soft_smooth_l1, [dict(delta=1), dict(delta=0.25), dict(delta=5)])}


def losses_of_values():
    """Numbers, some without a target: a column of them."""
    for kind, (function, options) in OF_VALUES.items():
        for case, option in enumerate(options):
            rows, o = (12, 5, 100)[case], Options(**option)
            weight = 0.25 + 0.5 * case
            y, soft, target = floats(rows, 1, scale=3), floats(rows, 1, scale=5), floats(rows, 1, scale=4)
            target[::4] = np.nan
            at = "loss/%s/%d/" % (kind, case)
            z = leaf(y)
            value = function(z, torch.tensor(soft), torch.tensor(target), o)
            (weight * value).backward()
            put(at + "options", [rows, 1, weight, *o.values()])
            put(at + "logits", y)
            put(at + "soft", soft)
            put(at + "targets", target)
            put(at + "labels", np.where(np.isnan(target), -1, 0))
            put(at + "value", [value.item()])
            put(at + "gradient", z.grad.numpy())


def losses():
    at = [dict(temperature=x) for x in (1, 4, 20, 0.5, 3)]
    standard = [dict(temperature=2, standardize=1), dict(temperature=1, standardize=1)]
    settings = {
        "kd": (kd, at + standard),
        "reverse-kl": (reverse_kl, at + standard),
        "jsd": (jsd, at + standard),
        "dkd": (dkd, [dict(temperature=4, alpha=1, beta=8), dict(temperature=1, alpha=1), dict(temperature=20, beta=2),
                      dict(temperature=2, alpha=3, beta=0.5), dict(temperature=2, alpha=1, beta=8, standardize=1)]),
        "dist": (dist, [dict(temperature=1, gamma=1), dict(temperature=4), dict(temperature=2, gamma=1), dict(temperature=20, gamma=0.5)]),
        "logit-mse": (logit_mse, [{}, {}, {}, {}]),
        "cosine": (cosine, [{}, {}, {}, {}]),
        "cross-entropy": (cross_entropy, [dict(), dict(smoothing=0.1), dict(smoothing=0.5)]),
    }
    shapes = [(12, 10), (5, 3), (7, 1000), (9, 65), (6, 8), (8, 17), (5, 33)]
    for kind, (function, options) in settings.items():
        for case, option in enumerate(options):
            rows, classes = shapes[case]
            o = Options(**option)
            weight = 0.25 + 0.5 * case
            logits, soft = floats(rows, classes, scale=3), floats(rows, classes, scale=5)
            labels = random.integers(0, classes, rows)
            labels[::4] = -1
            z, t, y = leaf(logits), torch.tensor(soft), torch.tensor(labels)
            value = function(z, t, y, o)
            (weight * value).backward()
            at = "loss/%s/%d/" % (kind, case)
            put(at + "options", [rows, classes, weight, *o.values()])
            put(at + "logits", logits)
            put(at + "soft", soft)
            put(at + "labels", labels)
            if kind == "kd":
                o.temperature = leaf(o.temperature)
                put(at + "temperature_slope", torch.autograd.grad(weight * function(z, t, y, o), o.temperature)[0])
            put(at + "value", [value.item()])
            put(at + "gradient", z.grad)
            # In two shards, the first of two rows: what a loss that compares rows gives then.
            z.grad = None
            value = sum(function(z[a:b], t[a:b], y[a:b], o) * (b - a) / rows for a, b in ((0, 2), (2, rows)))
            (weight * value).backward()
            put(at + "two/value", [value.item()])
            put(at + "two/gradient", z.grad)
    losses_of_values()


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


def mixed(log_p, log_w, temperature):
    return temperature * torch.logsumexp(log_p + log_w, 0)


def one_hot_logits(votes, temperature):
    return temperature * torch.log(torch.clamp(votes, min=1e-7))


def probability_mean(z, w, y, t, noise):
    return mixed(torch.log_softmax(z / t, 2), torch.log(w)[:, None, None], t)


def logit_mean(z, w, y, t, noise):
    return (w[:, None, None] * z).sum(0)


def learned(z, w, y, t, noise):
    """Weights by class, [K, C]."""
    return mixed(torch.log_softmax(z / t, 2), torch.log(w)[:, None, :], t)


def by_row(z, w, x, t):
    v = w[:, None] * (1 - x / x.sum(0))
    return mixed(torch.log_softmax(z / t, 2), torch.log(v / v.sum(0))[:, :, None], t)


def entropy(z, w, y, t, noise):
    return by_row(z, w, torch.distributions.Categorical(logits=z / t).entropy(), t)


def confidence(z, w, y, t, noise):
    known = y.clamp(min=0).expand(len(z), -1)
    x = torch.exp(-torch.log_softmax(z, 2).gather(2, known[:, :, None])[:, :, 0])
    return torch.where(y[:, None] >= 0, by_row(z, w, x, t), probability_mean(z, w, y, t, noise))


def counts(z, w):
    return (w[:, None, None] * F.one_hot(z.argmax(2), z.shape[2])).sum(0)


def vote(z, w, y, t, noise):
    return one_hot_logits(counts(z, w), t)


def winner(z):
    return F.one_hot(counts(z, torch.ones(len(z))).argmax(1), z.shape[2]).double()


def first(z, w, y, t, noise):
    return z[0]


def shortest(v, most):
    """Weights within [0, most], of sum 1, of the shortest sum of the vectors: the best of all ways to fix some of them at a bound."""
    a, n, best = v @ v.T, len(v), (np.inf, None)
    for kinds in itertools.product(("free", 0, most), repeat=n):
        free = [i for i in range(n) if kinds[i] == "free"]
        w = np.array([0 if k == "free" else k for k in kinds], float)
        if free:
            m = np.zeros((len(free) + 1, len(free) + 1))
            m[:-1, :-1], m[:-1, -1], m[-1, :-1] = a[np.ix_(free, free)], 1, 1
            solution = np.linalg.lstsq(m, np.append(-(a @ w)[free], 1 - w.sum()), rcond=None)[0]
            w[free] = solution[:-1]
        if abs(w.sum() - 1) < 1e-9 and w.min() > -1e-12 and w.max() < most + 1e-12 and w @ a @ w < best[0]:
            best = w @ a @ w, w
    return best[1]


def aekd(z, w, y, t, noise, student):
    p, q, k = torch.softmax(z / t, 2), torch.softmax(torch.tensor(student) / t, 1), len(z)
    v = torch.tensor(np.stack([shortest((q[i] - p[:, i]).numpy(), 2 / k if k > 2 else 1) for i in range(z.shape[1])], 1).clip(0))
    return mixed(torch.log_softmax(z / t, 2), torch.log(v)[:, :, None], t)


def lnmax(z, w, y, t, noise):
    return one_hot_logits(winner(z), t)


def gnmax(z, w, y, t, noise):
    most = counts(z, torch.ones(len(z))).max(1).values
    return torch.where(most[:, None] >= noise[3], one_hot_logits(winner(z), t), np.nan)


def without_ties(k, rows, classes):
    """Logits whose most frequent first class is one class in every row."""
    z = floats(k, rows, classes, scale=5)
    for row in range(rows):
        z[: k // 2 + 1, row, row % classes] += 50
    return z


def union_of(z, w, t, known, others):
    """The best q of each row, by L-BFGS on its logits."""
    out = torch.zeros(z.shape[1:], dtype=torch.float64)
    for row in range(z.shape[1]):
        own = [torch.softmax(torch.cat([z[k, row][known[k]], z[k, row][~known[k]][:1]] if others[k] else [z[k, row][known[k]]]) / t, 0)
               for k in range(len(z))]
        u = leaf(np.zeros(z.shape[2]))
        optimizer = torch.optim.LBFGS([u], max_iter=20000, max_eval=50000, tolerance_grad=1e-13, tolerance_change=1e-16, history_size=30,
                                      line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = 0
            for k, p in enumerate(own):
                if others[k]:
                    log_q = torch.log_softmax(u, 0)
                    log_q = torch.cat([log_q[known[k]], torch.logsumexp(log_q[~known[k]], 0)[None]])
                else:
                    log_q = torch.log_softmax(u[known[k]], 0)
                loss = loss - w[k] * (p * log_q).sum()
            loss.backward()
            return loss
        optimizer.step(closure)
        out[row] = torch.log_softmax(u.detach(), 0)
    return t * torch.clamp(out, min=np.log(1e-7))


def put_union(case, z, w, t, known, others, result):
    k, rows, classes = z.shape
    at = "combine/union/%d/" % case
    put(at + "options", [k, rows, classes, t, 0, 0, 0, 0])
    put(at + "logits", z)
    put(at + "labels", np.zeros(rows))
    put(at + "weights", w)
    put(at + "known", known)
    put(at + "others", others)
    put(at + "result", result)


def unions():
    for case, (k, rows, classes, t, with_others) in enumerate([(3, 5, 6, 1, 0), (3, 4, 7, 3, 1), (4, 6, 9, 2, 2), (2, 4, 5, 1, 0)]):
        known, others = np.zeros((k, classes), bool), np.zeros(k, bool)
        for i in range(k):  # neighbours overlap, the last list goes to the end
            known[i, i * (classes // k):(i + 1) * (classes // k) + 2] = True
        known[-1, -(classes // k) - 1:] = True
        others[:with_others] = True
        if with_others == 2:
            known[-1] = True  # the one that knows all
        if case == 3:
            known[:] = True
        z = torch.tensor(floats(k, rows, classes, scale=2))
        for i in range(k):
            z[i][:, ~known[i]] = z[i, :, :1] + 1 if others[i] else -np.inf
        w = random.dirichlet(np.ones(k))
        put_union(case, z, w, t, known, others, union_of(z, w, t, torch.tensor(known), others))


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def chained(z, t, lists):
    """Lists that share one class with the list before or none: q is every teacher's own, continued at the class shared, whatever the weights.
    Parts that share nothing have their share of the classes."""
    log_q, part, sizes = np.full(z.shape[1:], -np.inf), np.zeros(z.shape[2], int), []
    for k, own in enumerate(lists):
        shared = [c for c in own if k and c in lists[k - 1]]
        log_p = log_softmax(z[k][:, own] / t)
        if shared:
            log_p += log_q[:, shared] - log_p[:, [own.index(shared[0])]]
        else:
            sizes.append(0)
        log_q[:, own], part[own] = log_p, len(sizes) - 1
    for i in range(len(sizes)):
        mine = part == i
        log_q[:, mine] = log_softmax(log_q[:, mine]) + np.log(mine.mean())
    return t * np.maximum(log_q, np.log(1e-7))


def by_newton(z, w, t, known):
    """The best q of each row, by Newton's method on its logarithms, for lists that hang together."""
    out = np.zeros(z.shape[1:])
    for row in range(z.shape[1]):
        p = [np.exp(log_softmax(z[k, row, known[k]] / t)) for k in range(len(z))]
        u = np.zeros(z.shape[2])
        for _ in range(3000):
            slope, curve = np.zeros(len(u)), np.zeros((len(u), len(u)))
            for k in range(len(z)):
                own = np.flatnonzero(known[k])
                s = np.exp(log_softmax(u[own]))
                slope[own] += w[k] * (s - p[k])
                curve[np.ix_(own, own)] += w[k] * (np.diag(s) - np.outer(s, s))
            step = -np.append(np.linalg.solve(curve[:-1, :-1], slope[:-1]), 0)
            u += step / max(1, np.ptp(step))  # a step that changes no ratio by more than e goes down
            if np.ptp(step) < 1e-13:
                break
        assert np.ptp(step) < 1e-6  # the curvature's condition, up to 1e8, times what doubles and this LAPACK round
        out[row] = log_softmax(u)
    return t * np.maximum(out, np.log(1e-7))


def sharp_unions():
    """Teachers that are sure, and share classes that are improbable to them, down to 1e-40 and below."""
    one, chain, apart = [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9]], [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7]], [[0, 1, 2], [3, 4, 5], [5, 6]]
    ring = [[0, 1, 2, 3], [2, 3, 4, 5], [5, 6, 0], [1, 4, 6]]
    number = 4
    for lists, scale, t in ((one, 4, 1), (one, 40, 1), (chain, 30, 1), (chain, 200, 4), (apart, 10, 1), (ring, 4, 1), (ring, 9, 2)):
        k, rows, classes = len(lists), 20, max(map(max, lists)) + 1
        known = np.zeros((k, classes), bool)
        z = floats(k, rows, classes, scale=scale)
        for i, own in enumerate(lists):
            known[i, own] = True
        z[np.broadcast_to(~known[:, None], z.shape)] = -np.inf
        for w in ([0.97] + [0.03 / (k - 1)] * (k - 1), [0.03 / (k - 1)] * (k - 1) + [0.97]):
            put_union(number, z, w, t, known, np.zeros(k), by_newton(z, w, t, known) if lists == ring else chained(z, t, lists))
            number += 1
    # One that knows all but has no weight joins nothing.
    z = np.concatenate([np.full((2, 4, 5), -np.inf), floats(1, 4, 5)])
    known = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]], bool)
    z[0, :, :3], z[1, :, 3:] = floats(4, 3), floats(4, 2)
    put_union(number, z, [0.5, 0.5, 0], 1, known, np.zeros(3), chained(z[:2], 1, [[0, 1, 2], [3, 4]]))


def learning():
    for case, (k, rows, classes, width, t) in enumerate([(3, 6, 10, 5, 4), (2, 4, 70, 9, 1), (5, 3, 129, 2, 2)]):
        z, student, f = floats(k, rows, classes, scale=3), floats(rows, classes, scale=2), floats(rows, width)
        parameters = torch.tensor(floats((k + 1) * width), requires_grad=True)
        theta, v = parameters[:k * width].reshape(k, width), parameters[k * width:]
        w = torch.softmax(((theta[None] * torch.tensor(f)[:, None]) * v).sum(2), 1)
        p = (w.T[:, :, None] * torch.softmax(torch.tensor(z) / t, 2)).sum(0)
        loss = 0.7 * (p * (torch.log(p) - torch.log_softmax(torch.tensor(student) / t, 1))).sum()
        loss.backward()
        at = "combine/amtml/%d/" % case
        put(at + "options", [k, rows, classes, t, 0, 0, 0, 0])
        put(at + "logits", z)
        put(at + "labels", np.zeros(rows))
        put(at + "weights", np.full(k, 1 / k))
        put(at + "student", student)
        put(at + "features", f)
        put(at + "parameters", parameters.detach())
        put(at + "gradient", parameters.grad)
        put(at + "result", t * torch.log(p.detach()))


def combine():
    small = [(3, 6, 10, 1, 5), (2, 3, 70, 4, 10), (1, 4, 5, 2, 5), (5, 2, 129, 0.25, 200)]
    for kind, function in (("probability-mean", probability_mean), ("logit-mean", logit_mean), ("learned", learned), ("entropy", entropy),
                           ("confidence", confidence), ("vote", vote), ("random", first), ("random-batch", first),
                           ("aekd", aekd), ("pate-lnmax", lnmax), ("pate-gnmax", gnmax)):
        for case, (k, rows, classes, temperature, scale) in enumerate(small):
            if k == 1 and kind in ("entropy", "confidence", "aekd"):
                k = 4
            private = kind.startswith("pate")
            z = without_ties(k, rows, classes) if private else floats(k, rows, classes, scale=scale)
            # So little noise that the votes decide; a threshold that some rows miss.
            noise = [1e-6, 1e-6, 1e-6, 0.5 + k // 2 + 1] if private else [0, 0, 0, 0]
            if private:
                z[k // 2 + 1:, ::2] = z[0, ::2]
            y = random.integers(0, classes, rows)
            y[1] = -1
            w = random.random((k, classes) if kind == "learned" else k)
            if kind.startswith("random"):
                w[1:] = 0
            w = w / w.sum(0)
            at = "combine/%s/%d/" % (kind, case)
            put(at + "options", [k, rows, classes, temperature, *noise])
            put(at + "logits", z)
            put(at + "labels", y)
            put(at + "weights", w)
            more = [floats(rows, classes, scale=min(scale, 10))] if kind == "aekd" else []
            if more:
                put(at + "student", more[0])
            put(at + "result", function(torch.tensor(z), torch.tensor(w), torch.tensor(y), temperature, noise, *more))
    # Smallest epsilon over the orders of Renyi divergence.
    orders = 1 + np.logspace(-6, 9, 3_000_001)
    for case, (noise, asked, delta) in enumerate([(20, 100, 1e-5), (20, 1000, 1e-6), (0.5, 3, 1e-5), (5, 1, 0.1)]):
        divergence = asked * np.minimum(2 / noise, 2 * orders / noise ** 2)
        put("epsilon/pate-lnmax/%d" % case, [noise, asked, delta, np.min(divergence + np.log(1 / delta) / (orders - 1))])
    for case, (sigma1, sigma2, asked, answered, delta) in enumerate([(150, 40, 1000, 286, 1e-5), (20, 5, 10, 10, 1e-8), (3, 2, 500, 0, 1e-3)]):
        divergence = orders * (asked / (2 * sigma1 ** 2) + answered / sigma2 ** 2)
        put("epsilon/pate-gnmax/%d" % case, [sigma1, sigma2, asked, answered, delta, np.min(divergence + np.log(1 / delta) / (orders - 1))])
    unions()
    sharp_unions()
    learning()


def stacking():
    k, rows, classes = 4, 400, 5
    labels = random.integers(0, classes - 1, rows)  # the last class never
    signal = 3 * np.eye(classes)[labels]
    z = np.stack([signal + floats(rows, classes, scale=s) for s in (1.5, 2, 3)] + [floats(rows, classes, scale=4)]).astype(np.float32)
    z[1] *= 3  # too sure of itself
    z = torch.tensor(z.astype(np.float64))
    y = torch.tensor(labels)
    put("stacking/options", [k, rows, classes])
    put("stacking/logits", z)
    put("stacking/labels", labels)
    point = [0.3, 1, 2, 0.05]
    inverse = leaf(np.array(point))
    sum(F.cross_entropy(z[i] * inverse[i], y, reduction="sum") for i in range(k)).backward()
    put("stacking/inverse", point)
    put("stacking/slopes", inverse.grad)
    log_inverse = leaf(np.zeros(k))
    optimizer = torch.optim.LBFGS([log_inverse], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = sum(F.cross_entropy(z[i] * log_inverse[i].exp(), y) for i in range(k))
        loss.backward()
        return loss
    optimizer.step(closure)
    temperatures = torch.exp(-log_inverse.detach())
    put("stacking/temperatures", temperatures)
    p = torch.softmax(z / temperatures[:, None, None], 2)
    own = p[:, torch.arange(rows), y].numpy()
    w = np.full(k, 1 / k)
    for _ in range(100_000):
        w = w * (own / (w @ own)).mean(1)
    put("stacking/weights", w)
    put("stacking/nll", [-np.log(w @ own).mean()])
    v = leaf(random.dirichlet(np.ones(k), classes).T)
    m = (v[:, None, :] * p).sum(0)
    nll = F.nll_loss(torch.log(m / m.sum(1, keepdim=True)), y, reduction="sum")
    nll.backward()
    put("stacking/class_weights", v.detach())
    put("stacking/class_nll", [nll.item()])
    put("stacking/pulls", -v.grad)


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
    best, overlaps = p.argmax(1), []
    for c in range(classes):
        union = ((best == c) | (y == c)).sum()
        if union:
            overlaps.append(((best == c) & (y == c)).sum() / union)
    put("metrics/mean_iou", [np.mean(overlaps)])
    numbers, targets = floats(rows, scale=3), (floats(rows, scale=2) + 5).astype(np.float32).astype(np.float64)
    targets[::5] = np.nan
    a, b = numbers[~np.isnan(targets)], targets[~np.isnan(targets)]
    put("metrics/numbers", numbers)
    put("metrics/targets", targets)
    put("metrics/mse", [((a - b) ** 2).mean()])
    put("metrics/mae", [abs(a - b).mean()])
    put("metrics/r2", [1 - ((a - b) ** 2).sum() / ((b - b.mean()) ** 2).sum()])


# ---- features: s and t are lists of one or two tensors, w what the loss learns ----

def items(x, how):
    """[items, channels], as a projector sees a tensor."""
    if how == "linear":
        return x.flatten(1)
    x = x.unsqueeze(1) if x.dim() == 2 else x if x.dim() == 3 else x.flatten(2).transpose(1, 2)
    return x.mean(1) if how == "mean" else x.flatten(0, 1)


def projected(s, t, w, how):
    y, to = items(s, how), items(t, how)
    if how == "none":
        return y, to, None
    n = y.shape[1] * to.shape[1]
    return F.linear(y, w[:n].view(to.shape[1], y.shape[1]), w[n:n + to.shape[1]]), to, w[n + to.shape[1]:]


def hint(s, t, w, o):
    y, to, _ = projected(s[0], t[0], w, o["projector"])
    return F.mse_loss(y, to)


def vid(s, t, w, o):
    y, to, a = projected(s[0], t[0], w, "conv1x1")
    variance = F.softplus(a) + 1e-5
    return 0.5 * ((y - to) ** 2 / variance + torch.log(variance)).mean()


def attention(s, t, w, o):
    a, b = (F.normalize((x[0] ** 2).mean(2 if x[0].dim() == 3 else 1).flatten(1)) for x in (s, t))
    return ((a - b) ** 2).sum(1).mean()


def similarity(s, t, w, o):
    a, b = (F.normalize(x[0].flatten(1) @ x[0].flatten(1).T) for x in (s, t))
    return ((a - b) ** 2).sum() / len(a) ** 2


def rkd(s, t, w, o):
    def distances(x):
        square = x.pow(2).sum(1)
        d = (square[:, None] + square[None] - 2 * x @ x.T).clamp(min=1e-12)
        d = torch.sqrt(d) * (1 - torch.eye(len(x)))
        return d / d[d > 0].mean()

    def angles(x):
        e = F.normalize(x[None] - x[:, None], dim=2)
        return (e @ e.transpose(1, 2)).flatten()
    a, b = s[0].flatten(1), t[0].flatten(1)
    return o["distance"] * F.smooth_l1_loss(distances(a), distances(b)) + o["angle"] * F.smooth_l1_loss(angles(a), angles(b))


def pkt(s, t, w, o):
    def p(x):
        x = x.flatten(1) / (x.flatten(1).norm(dim=1, keepdim=True) + 1e-7)
        k = (x @ x.T + 1) / 2
        return k / k.sum(1, keepdim=True)
    a, b = p(s[0]), p(t[0])
    return (b * torch.log((b + 1e-7) / (a + 1e-7))).mean()


def channels_first(x):
    return x.transpose(1, 2) if x.dim() == 3 else x.flatten(2)


def nst(s, t, w, o):
    a, b = (F.normalize(channels_first(x[0]), dim=2) for x in (s, t))

    def kernel(x, y):
        return ((x[:, :, None] * y[:, None]).sum(3) ** 2).mean((1, 2))
    return (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)).mean()


def gram(s, t, w, o):
    def flow(x):
        a, b = channels_first(x[0]), channels_first(x[-1])
        return a @ b.transpose(1, 2) / a.shape[2]
    return F.mse_loss(flow(s), flow(t))


def attention_maps(s, t, w, o):
    a, b = (torch.where(x[0] <= -100, torch.zeros_like(x[0]), x[0]) for x in (s, t))
    if a.shape[1] != b.shape[1]:
        a, b = a.mean(1), b.mean(1)
    return F.mse_loss(a, b)


def relation(s, t, w, o):
    def shares(x):
        q, k = (y if y.dim() == 3 else y.transpose(1, 2).flatten(2) for y in (x[0], x[-1]))
        heads = o["heads"] or (x[0].shape[1] if x[0].dim() == 4 else 1)
        q, k = (y.view(*y.shape[:2], heads, -1).transpose(1, 2) for y in (q, k))
        return torch.log_softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, 3)
    a, b = shares(s), shares(t)
    return F.kl_div(a, b, log_target=True, reduction="none").sum(3).mean()


def learned_numbers(kind, s, t, how):
    if kind not in ("hint", "vid") or how == "none":
        return 0
    y, to = items(torch.tensor(s), how), items(torch.tensor(t), how)
    return to.shape[1] * (y.shape[1] + 1 + (kind == "vid"))


def features():
    settings = {  # student's shapes, teacher's, options
        "hint": (hint, [([(6, 5)], [(6, 9)], {}), ([(4, 3, 4, 5)], [(4, 7, 4, 5)], {}), ([(4, 3, 6)], [(4, 3, 8)], {}),
                        ([(4, 3, 2, 2)], [(4, 2, 4, 4)], dict(projector="linear")), ([(5, 3, 6)], [(5, 7, 4)], dict(projector="mean")),
                        ([(4, 3, 2, 2)], [(4, 5, 3, 3)], dict(projector="mean")), ([(4, 3, 2, 2)], [(4, 3, 2, 2)], dict(projector="none"))]),
        "vid": (vid, [([(6, 5)], [(6, 9)], {}), ([(4, 3, 4, 5)], [(4, 7, 4, 5)], {}), ([(5, 3, 6)], [(5, 3, 4)], {})]),
        "attention": (attention, [([(4, 3, 4, 4)], [(4, 7, 4, 4)], {}), ([(4, 5, 3)], [(4, 5, 8)], {}), ([(6, 2, 7, 3)], [(6, 2, 7, 3)], {})]),
        "similarity": (similarity, [([(6, 5)], [(6, 9)], {}), ([(5, 3, 4, 4)], [(5, 7, 2, 2)], {}), ([(9, 4, 3)], [(9, 20)], {})]),
        "rkd": (rkd, [([(6, 5)], [(6, 9)], dict(distance=1, angle=2)), ([(5, 3, 4, 4)], [(5, 7, 2, 2)], dict(distance=25, angle=50)),
                      ([(7, 4)], [(7, 4)], dict(distance=1, angle=0)), ([(7, 4)], [(7, 4)], dict(distance=0, angle=1))]),
        "pkt": (pkt, [([(6, 5)], [(6, 9)], {}), ([(5, 3, 4, 4)], [(5, 7, 2, 2)], {}), ([(9, 4, 3)], [(9, 20)], {})]),
        "nst": (nst, [([(4, 3, 4, 4)], [(4, 7, 4, 4)], {}), ([(4, 5, 3)], [(4, 5, 8)], {}), ([(5, 2, 7, 3)], [(5, 2, 7, 3)], {})]),
        "gram": (gram, [([(4, 3, 4, 4)], [(4, 3, 2, 2)], {}), ([(4, 3, 4, 4), (4, 5, 4, 4)], [(4, 3, 2, 3), (4, 5, 2, 3)], {}),
                        ([(5, 6, 3)], [(5, 4, 3)], {})]),
        "attention-maps": (attention_maps, [([(4, 2, 5, 5)], [(4, 2, 5, 5)], {}), ([(4, 2, 5, 5)], [(4, 3, 5, 5)], {}),
                                            ([(4, 2, 5, 5)], [(4, 2, 5, 5)], dict(masked=1))]),
        "relation": (relation, [([(4, 5, 6)], [(4, 5, 8)], dict(heads=2)), ([(4, 3, 5, 4)], [(4, 3, 5, 2)], {}),
                                ([(4, 5, 6), (4, 5, 6)], [(4, 5, 9), (4, 5, 9)], dict(heads=3)), ([(4, 2, 5, 6)], [(4, 5, 8)], dict(heads=4)),
                                ([(5, 4, 3)], [(5, 4, 3)], {})]),
    }
    projectors = ["conv1x1", "linear", "mean", "none"]
    for kind, (function, cases) in settings.items():
        for case, (mine, its, given) in enumerate(cases):
            o = dict(projector="conv1x1", heads=0, distance=0, angle=0, masked=0)
            o.update(given)
            weight = 0.25 + 0.5 * case
            student, teacher = [floats(*x) for x in mine], [floats(*x) for x in its]
            if o["masked"]:
                for x in student + teacher:
                    x[:, :, :, -1] = -10000
            w = floats(learned_numbers(kind, student[0], teacher[0], o["projector"]), scale=0.5)
            s, t, v = [leaf(x) for x in student], [torch.tensor(x) for x in teacher], leaf(w)
            value = function(s, t, v, o)
            (weight * value).backward()
            at = "feature/%s/%d/" % (kind, case)
            put(at + "options", [len(student), weight, projectors.index(o["projector"]), o["heads"], o["distance"], o["angle"]])
            for i in range(len(student)):
                put(at + "shape/student/%d" % i, student[i].shape)
                put(at + "shape/teacher/%d" % i, teacher[i].shape)
                put(at + "student/%d" % i, student[i])
                put(at + "teacher/%d" % i, teacher[i])
                put(at + "gradient/%d" % i, s[i].grad)
            put(at + "value", [value.item()])
            if len(w):
                put(at + "learned", w)
                put(at + "learned_gradient", v.grad)
            # Two shards, of two rows and the others.
            s, v = [leaf(x) for x in student], leaf(w)
            rows = len(student[0])
            parts = [function([x[a:b] for x in s], [x[a:b] for x in t], v, o) * (b - a) / rows for a, b in ((0, 2), (2, rows))]
            (weight * sum(parts)).backward()
            put(at + "two/value", [sum(parts).item()])
            for i in range(len(student)):
                put(at + "two/gradient/%d" % i, s[i].grad)


{"losses": losses, "optimizers": optimizers, "schedules": schedules, "combine": combine, "stacking": stacking,
 "metrics": metrics, "features": features,
 "augment": lambda: augment_reference.augment(put, random)}[sys.argv[1]]()
