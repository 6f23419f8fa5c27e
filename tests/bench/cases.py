"""The cases: what is trained, on how much of it, and by how much we mean to be faster than PyTorch's DistributedDataParallel.

`rows` of an epoch and `epochs` make a run of a few seconds; the first epoch is not counted. `aim` is the ratio of samples a second."""

# A row is an image of bytes, which is divided by 255, whatever the model's first layer.
MLP = {"layers": [784, 800, 800, 10], "row": [1, 28, 28], "batch": 256, "shards": 8, "rows": 16384, "epochs": 4, "aim": 1.6}

CASES = {
    "mlp": MLP,
    "mlp-kd": {**MLP, "kd": True},
    "small": {"layers": [64, 64, 10], "row": [1, 8, 8], "batch": 64, "shards": 2, "rows": 65536, "epochs": 4, "kd": True, "aim": 10.0},
    "lenet": {"kind": "cnn", "kernel": 5, "row": [1, 28, 28], "batch": 128, "shards": 4, "rows": 4096, "epochs": 4, "aim": 2.5},
    "lenet-3x3": {"kind": "cnn", "kernel": 3, "row": [1, 28, 28], "batch": 128, "shards": 4, "rows": 4096, "epochs": 4, "aim": 2.5},
    "transformer": {"kind": "transformer", "row": [64], "tokens": 1000, "width": 128, "heads": 4, "depth": 2, "batch": 64, "shards": 2,
                    "rows": 1024, "epochs": 3, "kd": True, "aim": 1.8},
    "resnet20": {"kind": "resnet", "row": [3, 32, 32], "batch": 256, "shards": 8, "rows": 768, "epochs": 3, "aim": 1.5},
}

# A whole run with several teachers (manyteachers.py).
ROWS, EPOCHS, BATCH = 2048, 20, 256
TEACHERS = [{"kind": "cnn", "kernel": 5, "row": [1, 28, 28]}] * 2 + [{"kind": "cnn", "kernel": 3, "row": [1, 28, 28]}] * 2 + [
    {"layers": [784, 1200, 1200, 10], "row": [1, 28, 28]}]
STUDENT = {"layers": [784, 800, 800, 10], "row": [1, 28, 28]}

CLASSES = 10
TEMPERATURE, KD_WEIGHT = 4.0, 0.9
LEARNING_RATE, MOMENTUM = 0.01, 0.9


def create_arguments(case):
    """Of `mpistill create`."""
    if "layers" in case:
        return ["mlp", "--layers", ",".join(map(str, case["layers"]))]
    if case["kind"] == "transformer":
        return ["transformer", "--length", str(case["row"][0]), "--classes", str(CLASSES),
                *(word for key in ("tokens", "width", "heads", "depth") for word in ("--" + key, str(case[key])))]
    shape = ["--input", "x".join(map(str, case["row"])), "--classes", str(CLASSES)]
    if case["kind"] == "resnet":
        return ["resnet", "--depth", "20", *shape]
    return ["cnn", "--channels", "32,64", "--kernel", str(case["kernel"]), *shape]
