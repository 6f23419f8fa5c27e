"""What rows become in a view, as src/learn/augment.h says it, from numpy and PyTorch: a section of reference.py."""
import math

import numpy as np
import torch

AUGMENT = 4


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


assert philox([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


class Draws:
    def __init__(self, seed, view, place, row):
        self.seed, self.stream, self.row = seed, view << 8 | place, row

    def words(self, k):
        index = self.row << 24 | k
        return philox([index & 0xFFFFFFFF, index >> 32, self.stream & 0xFFFFFFFF, self.stream >> 32 ^ AUGMENT << 24],
                      [self.seed & 0xFFFFFFFF, self.seed >> 32])

    def uniform(self, k):
        return (self.words(k)[0] >> 8) / 2 ** 24

    def below(self, k, n):
        w = self.words(k)
        return (w[0] << 32 | w[1]) * n >> 64


def beta(d, alpha):
    """From two gamma numbers of shape alpha: of alpha + 1 by Marsaglia and Tsang, times u^(1/alpha)."""
    if alpha == 1:
        return d.uniform(16)
    k, logs = 16, []
    while len(logs) < 2:
        u = [(w + 0.5) / 2 ** 32 for w in d.words(k)]
        k += 1
        a = alpha + 1 - 1 / 3
        x = math.sqrt(-2 * math.log(u[0])) * math.cos(2 * math.pi * u[1])
        v = (1 + x / math.sqrt(9 * a)) ** 3
        if v > 0 and math.log(u[2]) < x * x / 2 + a - a * v + a * math.log(v):
            logs.append(math.log(a * v) + math.log(u[3]) / alpha)
    return 1 / (1 + math.exp(logs[1] - logs[0]))


def padded(x, p, reflect, top, left):
    wide = np.pad(x, ((0, 0), (p, p), (p, p)), mode="reflect" if reflect else "constant")
    return wide[:, top:top + x.shape[1], left:left + x.shape[2]]


def shift(x, d, o):
    return padded(x, o["pixels"], False, 2 * o["pixels"] - d.below(1, 2 * o["pixels"] + 1),
                  2 * o["pixels"] - d.below(2, 2 * o["pixels"] + 1))


def crop(x, d, o):
    return padded(x, o["padding"], o["reflect"], d.below(1, 2 * o["padding"] + 1), d.below(2, 2 * o["padding"] + 1))


def flip(x, d, o):
    return torch.flip(torch.tensor(x.copy()), (2,)).numpy()


def noise(x, d, o):
    normal = []
    for i in range((x.size + 3) // 4):
        w = d.words(16 + i)
        for a, b in (w[:2], w[2:]):
            length = math.sqrt(-2 * math.log((a + 1) / 2 ** 32))
            normal += [length * math.cos(2 * math.pi * b / 2 ** 32), length * math.sin(2 * math.pi * b / 2 ** 32)]
    return x + o["deviation"] * np.array(normal[:x.size]).reshape(x.shape)


def mixup(x, other, d, o):
    share = beta(d, o["alpha"])
    return share * x + (1 - share) * other, share


def cutmix(x, other, d, o):
    """As torchvision.transforms.v2.CutMix cuts its box."""
    _, h, w = x.shape
    r = 0.5 * math.sqrt(1 - beta(d, o["alpha"]))
    y, z = d.below(2, h), d.below(3, w)
    y1, y2 = max(y - int(r * h), 0), min(y + int(r * h), h)
    x1, x2 = max(z - int(r * w), 0), min(z + int(r * w), w)
    out = x.copy()
    out[:, y1:y2, x1:x2] = other[:, y1:y2, x1:x2]
    return out, 1 - (y2 - y1) * (x2 - x1) / (h * w)


DEFAULTS = dict(probability=0, pixels=2, padding=4, reflect=0, deviation=0.1, alpha=1)
ALONE = {"shift": shift, "crop": crop, "flip": flip, "noise": noise}
MIXING = {"mixup": mixup, "cutmix": cutmix}


def changed(x, kind, o, place, seed, view, row):
    d = Draws(seed, view, place, row)
    probability = o["probability"] or (0.5 if kind == "flip" else 1)
    return ALONE[kind](x, d, o) if d.uniform(0) < probability else x


def view_of(rows, kind, o, seed, view, row):
    """A kind that mixes stands behind a shift by up to one pixel."""
    if kind in ALONE:
        return changed(rows[row], kind, o, 0, seed, view, row), row, 1
    d = Draws(seed, view, 1, row)
    one = dict(DEFAULTS, pixels=1)
    mine = changed(rows[row], "shift", one, 0, seed, view, row)
    if d.uniform(0) >= (o["probability"] or 1):
        return mine, row, 1
    partner = d.below(1, len(rows))
    x, share = MIXING[kind](mine, changed(rows[partner], "shift", one, 0, seed, view, partner), d, o)
    return x, partner, share


CASES = [
    ("shift", (1, 5, 6), {}), ("shift", (3, 4, 7), {"pixels": 3, "probability": 0.7}),
    ("flip", (1, 4, 5), {}), ("flip", (2, 3, 6), {"probability": 1}),
    ("crop", (2, 6, 5), {"padding": 2}), ("crop", (1, 5, 6), {"padding": 4, "reflect": 1}),
    ("noise", (1, 3, 5), {}), ("noise", (1, 4, 4), {"deviation": 2.5, "probability": 0.5}),
    ("mixup", (1, 4, 5), {}), ("mixup", (2, 3, 4), {"alpha": 0.3, "probability": 0.6}), ("mixup", (1, 2, 3), {"alpha": 7}),
    ("cutmix", (1, 6, 7), {}), ("cutmix", (2, 5, 5), {"alpha": 0.5}),
]


def augment(put, random):
    count = {}
    for kind, shape, given in CASES:
        i = count[kind] = count.get(kind, -1) + 1
        o, seed, view = dict(DEFAULTS, **given), 5 + (i << 40), 3 + 1000 * i
        rows = random.standard_normal((24,) + shape).astype(np.float32).astype(np.float64)
        seen = [view_of(rows, kind, o, seed, view, row) for row in range(len(rows))]
        put(f"augment/{kind}/{i}/options", [*shape, len(rows), seed, view, *o.values()])
        put(f"augment/{kind}/{i}/rows", rows)
        put(f"augment/{kind}/{i}/value", [s[0] for s in seen])
        put(f"augment/{kind}/{i}/partner", [s[1] for s in seen])
        put(f"augment/{kind}/{i}/share", [s[2] for s in seen])
