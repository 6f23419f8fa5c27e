"""The models that models.py exports: those of torchvision, and the usual nets of PyTorch's own layers, with random weights."""
from typing import List

import torch
import torch.nn.functional as F
import torchvision.models as V
from torch import nn

ROWS = 4
models = {}


class Model:
    """make() builds the net, inputs(random) the arguments of one call (numpy arrays). first: the lowest opset that torch.onnx can write it
    in. dynamic: whether it can be exported with the first dimension of all inputs and outputs left open."""

    def __init__(self, name, make, inputs, first=9, dynamic=True):
        self.name, self.make, self.inputs, self.first, self.dynamic = name, make, inputs, first, dynamic


def add(name, make, inputs, **options):
    models[name] = Model(name, make, inputs, **options)


def numbers(*shape):
    return lambda random: [random.standard_normal(shape).astype("float32")]


def pictures(side, rows=ROWS):
    return numbers(rows, 3, side, side)


# ---- torchvision ----

SIDES = {"alexnet": 224, "vgg": 224, "vit_h_14": 70, "vit": 96, "maxvit": 224, "inception": 139, "swin": 64, "convnext": 64, "regnet": 64}
DENSE = "fcn_resnet50 fcn_resnet101 deeplabv3_resnet50 deeplabv3_resnet101 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large".split()


def all_of_torchvision():
    """Every model of torchvision that classifies or segments images, by its own name: some have gigabytes of weights."""
    for name in V.list_models(V):
        side = next((s for start, s in SIDES.items() if name.startswith(start)), 96)
        options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        if name.startswith("vit"):  # which may be built for other images than 224
            options = {"image_size": side}
        first = 12 if name.startswith("maxvit") else 11 if name.startswith("swin") else 9
        add(name, lambda kind=name, options=options: getattr(V, kind)(weights=None, **options), pictures(side, 2), first=first)
    for name in DENSE:
        add(name, lambda kind=name: Dense(getattr(V.segmentation, kind)), pictures(64 if "lraspp" in name else 65, 2), first=11)
    return [*V.list_models(V), *DENSE]


PLAIN = ("resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 squeezenet1_0 squeezenet1_1 "
         "shufflenet_v2_x0_5 shufflenet_v2_x1_0 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 mnasnet1_0 efficientnet_b0 "
         "efficientnet_v2_s regnet_x_400mf regnet_y_400mf convnext_tiny").split()
for each in PLAIN:
    add(each, lambda kind=each: getattr(V, kind)(), pictures(96))
for each in ("alexnet", "vgg11", "vgg11_bn"):
    add(each, lambda kind=each: getattr(V, kind)(), pictures(224, 2))
add("googlenet", lambda: V.googlenet(init_weights=False, aux_logits=False), pictures(96))
add("inception_v3", lambda: V.inception_v3(init_weights=False, aux_logits=False), pictures(139))
add("vit", lambda: V.VisionTransformer(64, 16, 4, 4, 96, 192, num_classes=50), pictures(64))
add("swin_t", V.swin_t, pictures(64), first=11)


class Dense(nn.Module):
    """A segmentation model; its dictionary of outputs as a tuple."""

    def __init__(self, make, **options):
        super().__init__()
        self.net = make(weights=None, weights_backbone=None, num_classes=5, **options)

    def forward(self, x):
        return tuple(self.net(x).values())


add("fcn_resnet50", lambda: Dense(V.segmentation.fcn_resnet50, aux_loss=True), pictures(65, 2), first=11)
add("deeplabv3_mobilenet", lambda: Dense(V.segmentation.deeplabv3_mobilenet_v3_large), pictures(65, 2), first=11)
add("lraspp_mobilenet", lambda: Dense(V.segmentation.lraspp_mobilenet_v3_large), pictures(64, 2), first=11)


class UNet(nn.Module):
    """Up and down again: transposed convolution, and upsampling in all ways that torch.onnx knows."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.InstanceNorm2d(16, affine=True), nn.GELU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.mix = nn.Conv2d(24, 8, 1)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        a = self.down(x)
        b = self.deep(a)
        near = F.interpolate(F.adaptive_avg_pool2d(b, 1)[:, :8].expand(-1, -1, *a.shape[2:]), scale_factor=1, mode="nearest")
        y = self.mix(torch.cat([self.up(b), a, near], 1))
        return self.last(F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True))


class Upsampled(nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.conv, self.how = nn.Conv2d(3, 4, 3), how

    def forward(self, x):
        return F.interpolate(self.conv(x), **self.how)


add("unet", UNet, pictures(32), first=11)
add("nearest", lambda: Upsampled(scale_factor=2, mode="nearest"), pictures(14))
add("nearest down", lambda: Upsampled(size=(7, 5), mode="nearest"), pictures(14), first=11)
add("bilinear", lambda: Upsampled(size=(25, 30), mode="bilinear", align_corners=False), pictures(14), first=11)
add("bicubic", lambda: Upsampled(scale_factor=1.5, mode="bicubic", align_corners=False), pictures(14), first=11)
add("bicubic corners", lambda: Upsampled(size=(25, 7), mode="bicubic", align_corners=True), pictures(14), first=11)


class Shuffled(nn.Module):
    """Pixel shuffle both ways, local response norm, group norm, 1-D and 3-D convolutions."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.deep, self.line = nn.Conv3d(1, 2, 3), nn.Conv1d(16, 6, 3)

    def forward(self, x):
        x = F.local_response_norm(self.norm(self.conv(x)), 3)
        y = F.pixel_shuffle(x, 2)
        z = self.deep(y.unsqueeze(1)).mean((1, 2))
        return y, F.pixel_unshuffle(y, 2).sum(1), z, self.line(x.flatten(2)), F.normalize(x, dim=1), F.lp_pool2d(x.abs() + 1, 3, 2)


add("pixels", Shuffled, pictures(8))

# ---- sequences ----


class Recurrent(nn.Module):
    """An LSTM, GRU or RNN; whole: all its outputs, else a classifier on the last one."""

    def __init__(self, kind, whole=True, **options):
        super().__init__()
        self.net = getattr(nn, kind)(12, 10, batch_first=True, **options)
        self.whole = whole
        self.last = nn.Linear(20 if options.get("bidirectional") else 10, 7)

    def forward(self, x, *states):
        states = [s.transpose(0, 1).contiguous() for s in states]
        y, state = self.net(x, (states if len(states) > 1 else states[0]) if states else None)
        if not self.whole:
            return self.last(y[:, -1])
        return (y, *state) if isinstance(state, tuple) else (y, state)


class Packed(nn.Module):
    """Sequences of several lengths."""

    def __init__(self, kind):
        super().__init__()
        self.net = getattr(nn, kind)(12, 10, batch_first=True, bidirectional=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        y, state = self.net(packed)
        y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
        return (y, *state) if isinstance(state, tuple) else (y, state)


def with_lengths(random):
    import numpy

    return [random.standard_normal((ROWS, 9, 12)).astype("float32"), numpy.int64([9, 7, 7, 2])]


def with_states(n, layers):
    return lambda random: [random.standard_normal(s).astype("float32") for s in [(ROWS, 9, 12)] + [(ROWS, layers, 10)] * n]


for each in ("LSTM", "GRU", "RNN"):
    add(each.lower(), lambda kind=each: Recurrent(kind), numbers(ROWS, 9, 12))
    add(each.lower() + " classifier", lambda kind=each: Recurrent(kind, False, num_layers=2), numbers(ROWS, 9, 12))
    add(each.lower() + " bidirectional", lambda kind=each: Recurrent(kind, num_layers=2, bidirectional=True), numbers(ROWS, 9, 12))
    add(each.lower() + " lengths", lambda kind=each: Packed(kind), with_lengths, dynamic=False)
    add(each.lower() + " states", lambda kind=each: Recurrent(kind), with_states(2 if each == "LSTM" else 1, 1))
add("rnn relu", lambda: Recurrent("RNN", nonlinearity="relu"), numbers(ROWS, 9, 12))


class Looped(nn.Module):
    """A recurrent net as a script with a loop of its own, which collects its outputs in a list."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Linear(12, 10), nn.Linear(10, 10), nn.Linear(10, 7)

    def forward(self, x):
        h = torch.zeros(x.size(0), 10)
        steps: List[torch.Tensor] = []
        for t in range(x.size(1)):
            h = torch.tanh(self.a(x[:, t]) + self.b(h))
            steps.append(h)
        return self.last(torch.stack(steps, 1)), h


class Halted(nn.Module):
    """A script whose loop ends by a condition, with another one in it."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 12)

    def forward(self, x):
        left = x.size(1)
        while left > 1:
            for _ in range(2):
                x = torch.relu(self.a(x)) + x
            left = left // 2
        return x.mean(1)


add("scripted loop", lambda: torch.jit.script(Looped()), numbers(ROWS, 9, 12), first=11)
add("scripted while", lambda: torch.jit.script(Halted()), numbers(ROWS, 9, 12), first=11)


def with_mask(*shape):
    """Numbers, and which places of each row are padding."""
    import numpy

    return lambda random: [random.standard_normal(shape).astype("float32"), numpy.arange(shape[1]) >= random.integers(3, shape[1] + 1, (shape[0], 1))]


class Encoder(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.net = nn.TransformerEncoder(nn.TransformerEncoderLayer(24, 4, 48, batch_first=True, **options), 2)

    def forward(self, x, padding=None):
        return self.net(x, src_key_padding_mask=padding)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.TransformerDecoder(nn.TransformerDecoderLayer(24, 4, 48, batch_first=True), 2)

    def forward(self, x, memory):
        causal = torch.triu(torch.full((x.shape[1], x.shape[1]), float("-inf")), 1)
        return self.net(x, memory, tgt_mask=causal)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.MultiheadAttention(24, 4, batch_first=True, add_bias_kv=True)

    def forward(self, x, padding):
        blocked = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(2)
        return self.net(x, x, x, key_padding_mask=padding, attn_mask=blocked)


add("transformer encoder", Encoder, numbers(ROWS, 9, 24))
add("transformer encoder gelu", lambda: Encoder(activation="gelu", norm_first=True), with_mask(ROWS, 9, 24))
add("transformer decoder", Decoder, lambda random: numbers(ROWS, 7, 24)(random) + numbers(ROWS, 9, 24)(random), first=14)
add("attention", Attention, with_mask(ROWS, 9, 24), first=14)


class Bert(nn.Module):
    """Word, place and segment embeddings, masked attention written out, LayerNorm, GELU of either form; the first word classifies."""

    def __init__(self, gelu, einsum=False, width=32, heads=4, layers=2):
        super().__init__()
        self.word, self.place, self.segment = nn.Embedding(100, width, padding_idx=0), nn.Embedding(40, width), nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        part = lambda: nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width), "up": nn.Linear(width, 4 * width),
                                      "down": nn.Linear(4 * width, width), "a": nn.LayerNorm(width), "b": nn.LayerNorm(width)})
        self.parts = nn.ModuleList(part() for _ in range(layers))
        self.pool, self.last = nn.Linear(width, width), nn.Linear(width, 5)
        self.gelu, self.einsum, self.heads = gelu, einsum, heads

    def attend(self, q, k, v, mask):
        if self.einsum:
            scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1]**0.5 + mask
            return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        q, k, v = (t.permute(0, 2, 1, 3) for t in (q, k, v))
        scores = torch.matmul(q, k.transpose(-1, -2)) / q.shape[-1]**0.5 + mask
        return torch.matmul(scores.softmax(-1), v).permute(0, 2, 1, 3).contiguous().flatten(2)

    def forward(self, words, segments, attention):
        mask = (1.0 - attention[:, None, None, :].float()) * -10000.0
        x = self.word(words) + self.place(torch.arange(words.shape[1])[None]) + self.segment(segments)
        x = self.norm(x)
        for p in self.parts:
            q, k, v = (t.reshape(t.shape[0], t.shape[1], self.heads, -1) for t in p["qkv"](x).chunk(3, -1))
            x = p["a"](x + p["out"](self.attend(q, k, v, mask)))
            x = p["b"](x + p["down"](self.gelu(p["up"](x))))
        return self.last(torch.tanh(self.pool(x[:, 0])))


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def sentences(random):
    return [random.integers(0, 100, (ROWS, 11)), random.integers(0, 2, (ROWS, 11)), random.integers(0, 2, (ROWS, 11))]


add("bert", lambda: Bert(F.gelu), sentences)
add("bert tanh", lambda: Bert(gelu_tanh), sentences)
add("bert einsum", lambda: Bert(F.gelu, True), sentences, first=12)
