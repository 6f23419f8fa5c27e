"""The models whose inference is measured, and PyTorch's and ONNX Runtime's part of it, one thread each.

    python teachers.py torch|onnxruntime NAME FOLDER SECONDS     prints {"version", "median_s"}; the outputs go to FOLDER/torch.npy or onnxruntime.npy
    python teachers.py export NAME FOLDER                        writes model.onnx, weights.pt, x.npy and x.bin"""
import json
import sys
import time

import numpy as np


def bert():
    import torch
    from torch import nn

    class Bert(nn.Module):
        def __init__(self, words=1000, tokens=128, width=256, heads=4, layers=4):
            super().__init__()
            self.word, self.place, self.norm = nn.Embedding(words, width), nn.Embedding(tokens, width), nn.LayerNorm(width)
            part = lambda: nn.ModuleDict({"q": nn.Linear(width, width), "k": nn.Linear(width, width), "v": nn.Linear(width, width),
                                          "out": nn.Linear(width, width), "up": nn.Linear(width, 4 * width),
                                          "down": nn.Linear(4 * width, width), "a": nn.LayerNorm(width), "b": nn.LayerNorm(width)})
            self.parts, self.heads, self.last = nn.ModuleList(part() for _ in range(layers)), heads, nn.Linear(width, 10)

        def split(self, x):
            return x.reshape(x.shape[0], x.shape[1], self.heads, -1).permute(0, 2, 1, 3)

        def forward(self, words):
            x = self.norm(self.word(words) + self.place(torch.arange(words.shape[1])[None]))
            for p in self.parts:
                q, k, v = self.split(p["q"](x)), self.split(p["k"](x)), self.split(p["v"](x))
                scores = torch.matmul(q, k.transpose(-1, -2)) / q.shape[-1]**0.5
                y = torch.matmul(scores.softmax(-1), v).permute(0, 2, 1, 3).flatten(2)
                x = p["a"](x + p["out"](y))
                x = p["b"](x + p["down"](nn.functional.gelu(p["up"](x))))
            return self.last(x[:, 0])

    return Bert()


def mlp():
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 800), nn.ReLU(), nn.Linear(800, 800), nn.ReLU(), nn.Linear(800, 10))


def vision(name, **options):
    def make():
        import torchvision
        return getattr(torchvision.models, name)(**options)
    return make


def vit_tiny():
    import torchvision
    return torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768)


def pictures(rows, side):
    return lambda random: random.standard_normal((rows, 3, side, side)).astype(np.float32)


# name: the net, its input
TEACHERS = {
    "resnet18": (vision("resnet18"), pictures(16, 224)),
    "mobilenet_v2": (vision("mobilenet_v2"), pictures(16, 224)),
    "vit-tiny": (vit_tiny, pictures(16, 224)),
    "mlp": (mlp, lambda random: random.standard_normal((256, 1, 28, 28)).astype(np.float32)),
    "bert": (bert, lambda random: random.integers(0, 1000, (16, 128))),
}


def settled(net, x):
    """Batch norms whose statistics are those of the input: activations that are neither all zero nor huge."""
    import torch
    from torch import nn
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    if norms:
        with torch.no_grad():
            net.train()(torch.from_numpy(x))
    for m in net.modules():  # heads that start at zero would leave nothing to compare
        if isinstance(m, nn.Linear) and not m.weight.any():
            nn.init.normal_(m.weight, std=m.in_features**-0.5)
    return net.eval()


def export(name, folder):
    import torch
    make, inputs = TEACHERS[name]
    torch.manual_seed(1)
    x = inputs(np.random.default_rng(1))
    net = settled(make(), x)
    torch.save(net.state_dict(), f"{folder}/weights.pt")
    np.save(f"{folder}/x.npy", x)
    x.tofile(f"{folder}/x.bin")
    torch.onnx.export(net, torch.from_numpy(x), f"{folder}/model.onnx", opset_version=17, input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "rows"}, "y": {0: "rows"}})


def timed(call, seconds):
    took, started = [], time.perf_counter()
    while len(took) < 5 or time.perf_counter() - started < seconds:
        at = time.perf_counter()
        y = call()
        took.append(time.perf_counter() - at)
    took = sorted(took[2:])
    return y, took[len(took) // 2]


def main():
    what, name, folder = sys.argv[1:4]
    if what == "export":
        return export(name, folder)
    x = np.load(f"{folder}/x.npy")
    if what == "torch":
        import torch
        torch.set_num_threads(1)
        net = TEACHERS[name][0]()
        net.load_state_dict(torch.load(f"{folder}/weights.pt"))
        net.eval()
        t = torch.from_numpy(x)
        with torch.inference_mode():
            y, median = timed(lambda: net(t), float(sys.argv[4]))
        y, version = y.numpy(), "PyTorch " + torch.__version__.split("+")[0]
    else:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])
        (y,), median = timed(lambda: session.run(None, {"x": x}), float(sys.argv[4]))
        version = "ONNX Runtime " + onnxruntime.__version__
    np.save(f"{folder}/{what}.npy", y)
    print(json.dumps({"version": version, "median_s": median}))


if __name__ == "__main__":
    main()
