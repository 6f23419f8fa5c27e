"""What PyTorch makes of the cases of test_gradients.c, in double precision: reference.py FILE.

FILE, written by test_pytorch.c, holds a case as lines: `case OP OPSET OUTPUTS [NAME=VALUE ...]`, then
`input KIND RANK DIM ... VALUE ...` for every input (KIND f: wants a gradient, c, i, b: constants, -: absent, same),
`weights VALUE ...` for every output (the gradient of the loss with respect to it), `end`. Printed for each: `output
VALUE ...` for every output, then `gradient VALUE ...` for every input of kind f, then `end`."""
import sys

import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def number(text):
    if text[0].isalpha() or "->" in text:
        return text
    if "," in text:
        return [float(v) for v in text.split(",") if v] if "." in text else [int(v) for v in text.split(",") if v]
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def ints(t):
    return None if t is None else [int(v) for v in t.reshape(-1)]


def axes_of(x, a):
    axes = ints(x[1]) if len(x) > 1 else a.get("axes")
    if not axes:
        return [] if a.get("noop_with_empty_axes") else list(range(x[0].dim()))
    return axes


def reduction(f):
    """Folds one axis after the other: true for all of them but the mean's, whose parts are equal."""
    def run(x, a, opset):
        y = x[0]
        for axis in axes_of(x, a):
            y = f(y, axis)
        keep = a.get("keepdims", 1)
        gone = sorted((d % x[0].dim() for d in axes_of(x, a)), reverse=True)
        for axis in [] if keep else gone:
            y = y.squeeze(axis)
        return y
    return run


def softmax(f):
    def run(x, a, opset):
        if opset >= 13:
            return f(x[0], dim=a.get("axis", -1))
        axis = a.get("axis", 1)
        return f(x[0].flatten(axis), dim=axis).reshape(x[0].shape)
    return run


def fold(f):
    def run(x, a, opset):
        y = x[0]
        for other in x[1:]:
            y = f(y, other)
        return y
    return run


def clip(x, a, opset):
    low, high = (a.get("min"), a.get("max")) if opset < 11 else (x + [None, None])[1:3]
    return torch.clamp(x[0], -1e30 if low is None else float(low), 1e30 if high is None else float(high))


def slice_(x, a, opset):
    starts, ends, axes, steps = (ints(t) for t in (x[1:] + [None] * 4)[:4]) if opset >= 10 else (
        a["starts"], a["ends"], a.get("axes"), None)
    y = x[0]
    for i, start in enumerate(starts):
        axis = axes[i] if axes else i
        places = range(y.shape[axis])[slice(start, ends[i], steps[i] if steps else 1)]
        y = y.index_select(axis, torch.tensor(list(places), dtype=torch.long))
    return y


def pad(x, a, opset):
    pads = ints(x[1]) if opset >= 11 else a["pads"]
    value = float(x[2]) if len(x) > 2 and x[2] is not None else a.get("value", 0.0)
    rank = x[0].dim()
    order = [v for d in reversed(range(rank)) for v in (pads[d], pads[d + rank])]
    if a.get("mode", "constant") == "constant":
        return F.pad(x[0], order, value=value)
    mode = {"edge": "replicate", "reflect": "reflect"}[a["mode"]]
    return F.pad(x[0][None, None], order, mode=mode)[0, 0]  # both axes of a matrix


def split(x, a, opset):
    axis = a.get("axis", 0)
    sizes = ints(x[1]) if len(x) > 1 else a.get("split")
    return list(torch.split(x[0], sizes or x[0].shape[axis] // a["outputs"], dim=axis))


def unsqueeze(x, a, opset):
    axes = ints(x[1]) if len(x) > 1 else a["axes"]
    rank = x[0].dim() + len(axes)
    y = x[0]
    for axis in sorted(d % rank for d in axes):
        y = y.unsqueeze(axis)
    return y


def squeeze(x, a, opset):
    axes = ints(x[1]) if len(x) > 1 else a.get("axes")
    return x[0].squeeze() if axes is None else x[0].squeeze(*axes)


def window(x, a, kernel):
    """Strides, dilations, the pads to both sides (last axis first, as F.pad wants them), and behind them what
    ceil_mode needs to fit a last, incomplete window."""
    n = x.dim() - 2
    strides, dilations = a.get("strides", [1] * n), a.get("dilations", [1] * n)
    pads, auto = a.get("pads", [0] * 2 * n), a.get("auto_pad", "NOTSET")
    order, rest = [], []
    for d in reversed(range(n)):
        size, reach = x.shape[d + 2], dilations[d] * (kernel[d] - 1) + 1
        low, high, more = pads[d], pads[d + n], 0
        if auto.startswith("SAME"):
            total = max((-(-size // strides[d]) - 1) * strides[d] + reach - size, 0)
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
            high = total - low
        elif a.get("ceil_mode", 0):
            free = size + low + high - reach
            more = -free % strides[d]
            if free + more >= size + low:  # a window that starts behind the input does not count
                more = 0
        order += [low, high]
        rest += [0, more]
    return strides, dilations, order, rest


def conv(x, a, opset):
    strides, dilations, order, _ = window(x[0], a, x[1].shape[2:])
    f = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x[0].dim()]
    return f(F.pad(x[0], order), x[1], x[2] if len(x) > 2 else None, strides, 0, dilations, a.get("group", 1))


def conv_transpose(x, a, opset):
    """Without padding, then the pads cut off."""
    n = x[0].dim() - 2
    strides, dilations, _, _ = window(x[0], dict(a, auto_pad="NOTSET"), x[1].shape[2:])
    extra, pads = a.get("output_padding", [0] * n), list(a.get("pads", [0] * 2 * n))
    f = {3: F.conv_transpose1d, 4: F.conv_transpose2d}[x[0].dim()]
    y = f(x[0], x[1], x[2] if len(x) > 2 else None, strides, 0, extra, a.get("group", 1), dilations)
    auto = a.get("auto_pad", "NOTSET")
    for d in range(n):
        wanted = a["output_shape"][-n:][d] if "output_shape" in a else (
            x[0].shape[d + 2] * strides[d] if auto.startswith("SAME") else None)
        if wanted is not None:
            total = y.shape[d + 2] - wanted
            pads[d] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[d + n] = total - pads[d]
        y = F.pad(y, [0, 0] * (n - 1 - d) + [-pads[d], -pads[d + n]])
    return y


def max_pool(x, a, opset):
    strides, dilations, order, rest = window(x[0], a, a["kernel_shape"])
    f = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[x[0].dim()]
    return f(F.pad(F.pad(x[0], order, value=-1e30), rest, value=-1e30), a["kernel_shape"], strides, 0, dilations)


def average_pool(x, a, opset):
    strides, _, order, rest = window(x[0], a, a["kernel_shape"])
    f = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[x[0].dim()]
    counted = F.pad(torch.ones_like(x[0]), order, value=float(a.get("count_include_pad", 0)))
    return f(F.pad(F.pad(x[0], order), rest), a["kernel_shape"], strides) / f(F.pad(counted, rest), a["kernel_shape"], strides)


def gemm(x, a, opset):
    left = x[0].T if a.get("transA", 0) else x[0]
    right = x[1].T if a.get("transB", 0) else x[1]
    y = a.get("alpha", 1.0) * left @ right
    return y + a.get("beta", 1.0) * x[2] if len(x) > 2 else y


def batch_norm(x, a, opset):
    return F.batch_norm(x[0], None, None, x[1], x[2], training=True, eps=a.get("epsilon", 1e-5))


def layer_norm(x, a, opset):
    axes = list(range(a.get("axis", -1) % x[0].dim(), x[0].dim()))
    off = x[0] - x[0].mean(axes, True)
    y = off / (off ** 2).mean(axes, True).add(a.get("epsilon", 1e-5)).sqrt() * x[1]
    return y + x[2] if len(x) > 2 and x[2] is not None else y


def group_norm(x, a, opset):
    scale, bias = x[1:]
    if opset < 21:  # a number for each group
        each = x[0].shape[1] // a["num_groups"]
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return F.group_norm(x[0], a["num_groups"], scale, bias, a.get("epsilon", 1e-5))


def along(f):
    """f(y, index, updates) for tensors, an index and an axis of the Elements operators; negative indices count from the end."""
    def run(x, a, opset):
        axis = a.get("axis", 0)
        index = torch.where(x[1] < 0, x[1] + x[0].shape[axis], x[1])
        return f(x, axis, index, a.get("reduction", "none"))
    return run


def slices(x, a, opset):
    """Every slice that an index of the ND operators names, and its place."""
    shared = a.get("batch_dims", 0)
    index = x[1].reshape(-1, x[1].shape[-1])
    batch = x[1].shape[:shared]
    for i, words in enumerate(index.tolist()):
        before = []
        for d in reversed(range(shared)):  # x and the index share their first axes
            per = index.shape[0] // torch.Size(batch[:d + 1]).numel()
            before.insert(0, i // per % batch[d])
        yield i, tuple(before + words)


def gather_nd(x, a, opset):
    return torch.stack([x[0][place] for _, place in slices(x, a, opset)])


def scatter_nd(x, a, opset):
    y, updates = x[0].clone(), x[2].reshape(-1, *x[0].shape[x[1].shape[-1]:])
    for i, place in slices(x, a, opset):
        y[place] = updates[i] + (y[place].clone() if a.get("reduction") == "add" else 0)
    return y


def reverse_sequence(x, a, opset):
    batch, y = a.get("batch_axis", 1), x[0].transpose(0, 1) if a.get("batch_axis", 1) else x[0]
    y = torch.stack([torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(y, x[1].tolist())])
    return y.transpose(0, 1) if batch else y


def cumsum(x, a, opset):
    axis = int(x[1])
    y = x[0].flip(axis) if a.get("reverse") else x[0]
    y = y.cumsum(axis) - (y if a.get("exclusive") else 0)
    return y.flip(axis) if a.get("reverse") else y


def top_k(x, a, opset):
    return torch.topk(x[0], int(x[1]) if len(x) > 1 else a["k"], a.get("axis", -1), bool(a.get("largest", 1))).values


def depth_to_space(x, a, opset):
    b, (n, c, h, w) = a["blocksize"], x[0].shape
    if a.get("mode") == "CRD":
        return F.pixel_shuffle(x[0], b)
    return x[0].reshape(n, b, b, c // b // b, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * b, w * b)


def space_to_depth(x, a, opset):
    b, (n, c, h, w) = a["blocksize"], x[0].shape
    return x[0].reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // b, w // b)


def resize(x, a, opset):
    """What F.interpolate can do of it."""
    given = a.get("scales") or (x[1] if opset < 11 else x[2]).tolist() if len(x) < 4 else None
    how = {"size": x[3].tolist()[2 - x[0].dim():]} if given is None else {"scale_factor": given[2:]}
    mode, kind = a.get("mode", "nearest"), a.get("coordinate_transformation_mode", "half_pixel" if opset > 10 else "asymmetric")
    if opset > 10 or mode == "nearest":
        named = {"nearest": "nearest" if kind == "asymmetric" else "nearest-exact", "linear": "bilinear", "cubic": "bicubic"}[mode]
        named = "nearest" if opset < 11 else named
        return F.interpolate(x[0], mode=named, **how, **({} if mode == "nearest" else {"align_corners": kind == "align_corners"}))
    y = x[0]
    for d, scale in enumerate(given):  # asymmetric and linear
        at = torch.arange(int(y.shape[d] * scale)).double() / scale
        low = at.floor().long()
        high, part = (low + 1).clamp(max=y.shape[d] - 1), (at - low).reshape([-1 if k == d else 1 for k in range(4)])
        y = y.index_select(d, low) * (1 - part) + y.index_select(d, high) * part
    return y


ACTIVATIONS = {
    "Sigmoid": lambda x, a, b: torch.sigmoid(x), "Tanh": lambda x, a, b: torch.tanh(x), "Elu": lambda x, a, b: F.elu(x, a),
    "HardSigmoid": lambda x, a, b: torch.clamp(a * x + b, 0, 1), "Softsign": lambda x, a, b: F.softsign(x),
    "Softplus": lambda x, a, b: F.softplus(x), "ScaledTanh": lambda x, a, b: a * torch.tanh(b * x),
}


def activations(a, count, defaults):
    """Functions of one number; activation_alpha and _beta go to those that take one, in their order."""
    names = a.get("activations", ",".join(defaults)).strip(",").split(",")
    names = names * (count // len(names))
    alphas, betas, result = list(a.get("activation_alpha", [])), list(a.get("activation_beta", [])), []
    clip = a.get("clip", 1e30)
    for name in names:
        alpha = alphas.pop(0) if alphas and name in ("Elu", "HardSigmoid", "ScaledTanh") else 1.0
        beta = betas.pop(0) if betas and name in ("HardSigmoid", "ScaledTanh") else 1.0
        result.append(lambda x, f=ACTIVATIONS[name], p=alpha, q=beta: f(torch.clamp(x, -clip, clip), p, q))
    return result


def rnn_cell(x, h, c, w, r, wb, rb, peep, f, a):
    return f[0](x @ w.T + h @ r.T + wb + rb), c


def gru_cell(x, h, c, w, r, wb, rb, peep, f, a):
    n = h.shape[-1]
    z, s = f[0](x @ w[:2 * n].T + h @ r[:2 * n].T + wb[:2 * n] + rb[:2 * n]).split(n, -1)
    left = x @ w[2 * n:].T + wb[2 * n:]
    right = s * (h @ r[2 * n:].T + rb[2 * n:]) if a.get("linear_before_reset") else (s * h) @ r[2 * n:].T + rb[2 * n:]
    return (1 - z) * f[1](left + right) + z * h, c


def lstm_cell(x, h, c, w, r, wb, rb, peep, f, a):
    i, o, forget, g = (x @ w.T + h @ r.T + wb + rb).split(h.shape[-1], -1)
    pi, po, pf = peep.split(h.shape[-1], -1)
    i = f[0](i + pi * c)
    forget = 1 - i if a.get("input_forget") else f[0](forget + pf * c)
    c = forget * c + i * f[1](g)
    return f[0](o + po * c) * f[2](c), c


def recurrent(cell, gates, defaults):
    def run(given, a, opset):
        x, w, r, b, lengths, h0, c0, p = (given + [None] * 8)[:8]
        layout, way = a.get("layout", 0), a.get("direction", "forward")
        x = x.transpose(0, 1) if layout else x
        (t, n, _), (d, _, hidden) = x.shape, r.shape
        state = lambda s: torch.zeros(d, n, hidden).double() if s is None else s.transpose(0, 1) if layout else s
        h0, c0 = state(h0), state(c0)
        b = torch.zeros(d, 2 * gates * hidden).double() if b is None else b
        p = torch.zeros(d, 3 * hidden).double() if p is None else p
        f = activations(a, d * len(defaults), defaults)
        ys, hs, cs = [], [], []
        for k in range(d):
            y, h, c = [None] * t, h0[k], c0[k]
            for at in reversed(range(t)) if k or way == "reverse" else range(t):
                now = torch.ones(n, 1, dtype=torch.bool) if lengths is None else (lengths > at)[:, None]
                wb, rb = b[k].chunk(2)
                new_h, new_c = cell(x[at], h, c, w[k], r[k], wb, rb, p[k], f[k * len(defaults):], a)
                h, c = torch.where(now, new_h, h), torch.where(now, new_c, c)
                y[at] = torch.where(now, h, 0 * h)
            ys.append(torch.stack(y)), hs.append(h), cs.append(c)
        y, h, c = torch.stack(ys, 1), torch.stack(hs), torch.stack(cs)
        if layout:
            y, h, c = y.permute(2, 0, 1, 3), h.transpose(0, 1), c.transpose(0, 1)
        return [y, h, c][:a["outputs"]]
    return run


def lrn(x, a, opset):
    size, square = a["size"], F.pad((x[0]**2).flatten(2), (0, 0, (a["size"] - 1) // 2, a["size"] // 2))
    sums = square.unfold(1, size, 1).sum(-1).reshape(x[0].shape)
    return x[0] / (a.get("bias", 1.0) + a.get("alpha", 1e-4) / size * sums)**a.get("beta", 0.75)


def mean_variance(x, a, opset):
    axes = a.get("axes", [0, 2, 3])
    return (x[0] - x[0].mean(axes, True)) / x[0].var(axes, False, True).sqrt()


def lp_pool(x, a, opset):
    strides, _, order, _ = window(x[0], a, a["kernel_shape"])
    y = F.pad(x[0].abs()**a.get("p", 2), order)
    for d, (k, step) in enumerate(zip(a["kernel_shape"], strides)):
        y = y.unfold(d + 2, k, step)
    return y.flatten(4).sum(-1)**(1 / a.get("p", 2))


def nll(f):
    def run(x, a, opset):
        loss = f(x[0], x[1], x[2] if len(x) > 2 else None, ignore_index=a.get("ignore_index", -100), reduction=a.get("reduction", "mean"))
        return [loss, x[0].log_softmax(1)][:a["outputs"]]
    return run


def flatten(x, a, opset):
    axis = a.get("axis", 1)
    rows = 1
    for d in x[0].shape[:axis]:
        rows *= d
    return x[0].reshape(rows, -1)


def reshape(x, a, opset):
    return x[0].reshape([x[0].shape[i] if d == 0 else d for i, d in enumerate(ints(x[1]))])


def one(f):
    return lambda x, a, opset: f(x[0], a)


def two(f):
    return lambda x, a, opset: f(x[0], x[1])


def grid_sample(x, a, opset):
    return F.grid_sample(x[0], x[1], a.get("mode", "bilinear"), a.get("padding_mode", "zeros"), bool(a.get("align_corners", 0)))


OPERATORS = {
    "Abs": one(lambda x, a: x.abs()), "Celu": one(lambda x, a: F.celu(x, a.get("alpha", 1.0))), "Clip": clip,
    "Cos": one(lambda x, a: x.cos()), "Sin": one(lambda x, a: x.sin()),
    "ThresholdedRelu": one(lambda x, a: F.threshold(x, a.get("alpha", 1.0), 0.0)),
    "Elu": one(lambda x, a: F.elu(x, a.get("alpha", 1.0))),
    "Erf": one(lambda x, a: x.erf()), "Exp": one(lambda x, a: x.exp()),
    "HardSigmoid": one(lambda x, a: torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1)),
    "HardSwish": one(lambda x, a: F.hardswish(x)), "Mish": one(lambda x, a: F.mish(x)),
    "LeakyRelu": one(lambda x, a: F.leaky_relu(x, a.get("alpha", 0.01))), "Log": one(lambda x, a: x.log()),
    "Neg": one(lambda x, a: -x), "Reciprocal": one(lambda x, a: 1 / x), "Relu": one(lambda x, a: F.relu(x)),
    "Selu": one(lambda x, a: F.selu(x)), "Sigmoid": one(lambda x, a: torch.sigmoid(x)),
    "Softplus": one(lambda x, a: F.softplus(x)), "Softsign": one(lambda x, a: F.softsign(x)),
    "Sqrt": one(lambda x, a: x.sqrt()), "Tanh": one(lambda x, a: torch.tanh(x)),
    "Add": two(torch.add), "Mod": two(torch.fmod), "Sub": two(torch.sub), "Mul": two(torch.mul), "Div": two(torch.div), "Pow": two(torch.pow),
    "PRelu": two(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "Max": fold(torch.maximum), "Min": fold(torch.minimum), "Sum": fold(torch.add),
    "Mean": lambda x, a, opset: fold(torch.add)(x, a, opset) / len(x),
    "Where": lambda x, a, opset: torch.where(x[0], x[1], x[2]),
    "ReduceL1": reduction(lambda x, d: x.abs().sum(d, True)),
    "ReduceL2": lambda x, a, opset: reduction(lambda y, d: y.sum(d, True))([x[0] ** 2] + x[1:], a, opset).sqrt(),
    "ReduceLogSum": lambda x, a, opset: reduction(lambda y, d: y.sum(d, True))(x, a, opset).log(),
    "ReduceLogSumExp": reduction(lambda x, d: x.logsumexp(d, True)),
    "ReduceMax": reduction(lambda x, d: x.amax(d, True)), "ReduceMin": reduction(lambda x, d: x.amin(d, True)),
    "ReduceMean": reduction(lambda x, d: x.mean(d, True)), "ReduceProd": reduction(lambda x, d: x.prod(d, True)),
    "ReduceSum": reduction(lambda x, d: x.sum(d, True)),
    "ReduceSumSquare": lambda x, a, opset: reduction(lambda y, d: y.sum(d, True))([x[0] ** 2] + x[1:], a, opset),
    "Softmax": softmax(F.softmax), "LogSoftmax": softmax(F.log_softmax),
    "Cast": one(lambda x, a: x), "CastLike": one(lambda x, a: x), "Flatten": flatten, "Identity": one(lambda x, a: x), "Reshape": reshape,
    "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Concat": lambda x, a, opset: torch.cat(x, a["axis"]),
    "Expand": lambda x, a, opset: x[0] * torch.ones(ints(x[1]), dtype=torch.float64),
    "Gather": lambda x, a, opset: torch.stack(
        [x[0].select(a.get("axis", 0), i) for i in ints(x[1])], a.get("axis", 0)).reshape(
            x[0].shape[:a.get("axis", 0)] + x[1].shape + x[0].shape[a.get("axis", 0) + 1:]),
    "Pad": pad, "Slice": slice_, "Split": split, "Tile": lambda x, a, opset: x[0].repeat(ints(x[1])),
    "Transpose": one(lambda x, a: x.permute(a.get("perm", list(reversed(range(x.dim())))))),
    "Conv": conv, "MaxPool": max_pool, "AveragePool": average_pool, "Gemm": gemm, "MatMul": two(torch.matmul),
    "GlobalAveragePool": one(lambda x, a: x.mean(list(range(2, x.dim())), True)),
    "GlobalMaxPool": one(lambda x, a: x.amax(list(range(2, x.dim())), True)),
    "Acos": one(lambda x, a: x.acos()), "Acosh": one(lambda x, a: x.acosh()), "Asin": one(lambda x, a: x.asin()),
    "Asinh": one(lambda x, a: x.asinh()), "Atan": one(lambda x, a: x.atan()), "Atanh": one(lambda x, a: x.atanh()),
    "Cosh": one(lambda x, a: x.cosh()), "Sinh": one(lambda x, a: x.sinh()), "Tan": one(lambda x, a: x.tan()),
    "Shrink": one(lambda x, a: torch.where(x < -a["lambd"], x + a["bias"], torch.where(x > a["lambd"], x - a["bias"], 0 * x))),
    "GatherElements": along(lambda x, d, index, how: x[0].gather(d, index)), "GatherND": gather_nd, "ScatterND": scatter_nd,
    "ScatterElements": along(lambda x, d, index, how: (torch.scatter_add if how == "add" else torch.scatter)(x[0], d, index, x[2])),
    "Scatter": along(lambda x, d, index, how: torch.scatter(x[0], d, index, x[2])), "ReverseSequence": reverse_sequence,
    "Compress": lambda x, a, opset: x[0].flatten()[:len(x[1])][x[1]] if "axis" not in a else x[0].index_select(
        a["axis"], x[1].nonzero()[:, 0]),
    "CumSum": cumsum, "TopK": top_k, "Resize": resize, "Upsample": resize, "GridSample": grid_sample,
    "Trilu": lambda x, a, opset: (torch.triu if a.get("upper", 1) else torch.tril)(x[0], int(x[1]) if len(x) > 1 else 0),
    "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth,
    "RNN": recurrent(rnn_cell, 1, ["Tanh"]), "GRU": recurrent(gru_cell, 3, ["Sigmoid", "Tanh"]),
    "LSTM": recurrent(lstm_cell, 4, ["Sigmoid", "Tanh", "Tanh"]),
    "Einsum": lambda x, a, opset: torch.einsum(a["equation"], *x),
    "Gelu": one(lambda x, a: F.gelu(x, approximate=a.get("approximate", "none"))), "LRN": lrn,
    "com.microsoft.Gelu": one(lambda x, a: F.gelu(x)),
    "LpNormalization": one(lambda x, a: x / x.norm(a.get("p", 2), a.get("axis", -1), True)),
    "MeanVarianceNormalization": mean_variance, "LpPool": lp_pool,
    "GlobalLpPool": one(lambda x, a: x.flatten(2).norm(2, -1).reshape(*x.shape[:2], 1, 1)),
    "NegativeLogLikelihoodLoss": nll(F.nll_loss), "SoftmaxCrossEntropyLoss": nll(F.cross_entropy),
    "BatchNormalization": batch_norm, "LayerNormalization": layer_norm, "ConvTranspose": conv_transpose,
    "GroupNormalization": group_norm,
    "InstanceNormalization": lambda x, a, opset: F.instance_norm(
        x[0], None, None, x[1], x[2], eps=a.get("epsilon", 1e-5)),
}


def read_input(words, before):
    kind = words[0]
    if kind in ("-", "same"):
        return before[0] if kind == "same" else None
    rank = int(words[1])
    dims = [int(d) for d in words[2:2 + rank]]
    kinds = {"f": torch.float64, "c": torch.float64, "i": torch.int64, "b": torch.bool}
    values = [float(v) for v in words[2 + rank:]]
    return torch.tensor(values, dtype=torch.float64).to(kinds[kind]).reshape(dims).requires_grad_(kind == "f")


def put(name, t):
    print(name, *("%.17g" % v for v in t.detach().reshape(-1).tolist()))


def run(operator, opset, attributes, x, weights):
    y = OPERATORS[operator](x, attributes, opset)
    y = y if isinstance(y, list) else [y]
    loss = 0
    for part, w in zip(y, weights):
        put("output", part)
        loss = loss + (part.reshape(-1) * torch.tensor(w, dtype=torch.float64)).sum()
    leaves = []
    for t in x:
        if t is not None and t.requires_grad and not any(t is leaf for leaf in leaves):
            leaves.append(t)
    loss.backward()
    for leaf in leaves:
        put("gradient", torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)


def main(path):
    for line in open(path):
        words = line.split()
        if words[0] == "case":
            operator, opset, attributes = words[1], int(words[2]), {"outputs": int(words[3])}
            attributes.update((k, number(v)) for k, v in (w.split("=", 1) for w in words[4:]))
            x, weights = [], []
        elif words[0] == "input":
            x.append(read_input(words[1:], x))
        elif words[0] == "weights":
            weights.append([float(v) for v in words[1:]])
        else:
            if operator in OPERATORS:
                run(operator, opset, attributes, x, weights)
            else:
                print("unknown")
            print("end")


main(sys.argv[1])
