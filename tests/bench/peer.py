"""One rank of the peer: PyTorch's DistributedDataParallel over gloo, trained as a user would who cares for speed.

    mpirun -n N python peer.py CASE FOLDER

The data lies in memory as float32, a batch is one index_select, gradients are reduced in place of their buckets. Rank 0 prints one
JSON object: seconds of every epoch, the last epoch's mean loss, the version."""
import json
import os
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F

from cases import CASES, CLASSES, KD_WEIGHT, LEARNING_RATE, MOMENTUM, TEMPERATURE


def mlp(layers):
    parts = []
    for a, b in zip(layers, layers[1:]):
        parts += [nn.Linear(a, b), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts[:-1])


def cnn(row, kernel):
    side = [row[1] // 4, row[2] // 4]
    return nn.Sequential(
        nn.Conv2d(row[0], 32, kernel, padding=kernel // 2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel, padding=kernel // 2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * side[0] * side[1], 128), nn.ReLU(inplace=True), nn.Linear(128, CLASSES))


class Block(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.norm2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.shortcut = nn.Sequential()
        if a != b:
            self.shortcut = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return F.relu(y.add_(self.shortcut(x)), inplace=True)


def resnet20(row):
    parts = [nn.Conv2d(row[0], 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    width = 16
    for stage in range(3):
        for i in range(3):
            parts.append(Block(width, 16 << stage, 2 if stage and not i else 1))
            width = 16 << stage
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


class Encoder(nn.Module):
    """No row has padding, so there is nothing to mask."""

    def __init__(self, case):
        super().__init__()
        width = case["width"]
        self.embedding = nn.Embedding(case["tokens"], width)
        self.position = nn.Parameter(torch.zeros(case["row"][0], width))
        layer = nn.TransformerEncoderLayer(width, case["heads"], 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, case["depth"], norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.logits = nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.logits(self.layers(self.embedding(x) + self.position).mean(1))


def encoder(case, initial):
    """Theirs keeps query, key and value in one matrix, and matrices of ours are [in, out]."""
    model = Encoder(case)
    ours = {"embedding.weight": initial["embedding.weight"], "position": initial["position.weight"], "layers.norm.weight":
            initial["norm.weight"], "layers.norm.bias": initial["norm.bias"], "logits.weight": initial["logits.weight"],
            "logits.bias": initial["logits.bias"]}
    for i in range(case["depth"]):
        at, to = f"block{i + 1}.", f"layers.layers.{i}."
        parts = ("query", "key", "value")
        ours[to + "self_attn.in_proj_weight"] = np.concatenate([initial[at + p + ".weight"].T for p in parts])
        ours[to + "self_attn.in_proj_bias"] = np.concatenate([initial[at + p + ".bias"] for p in parts])
        for mine, his in (("project", "self_attn.out_proj"), ("expand", "linear1"), ("contract", "linear2")):
            ours[f"{to}{his}.weight"], ours[f"{to}{his}.bias"] = initial[f"{at}{mine}.weight"].T, initial[f"{at}{mine}.bias"]
        for norm in ("norm1", "norm2"):
            ours[f"{to}{norm}.weight"], ours[f"{to}{norm}.bias"] = initial[f"{at}{norm}.weight"], initial[f"{at}{norm}.bias"]
    model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in ours.items()})
    return model


def ordered(case, initial):
    """Of the other kinds the parameters come in the same order."""
    if "layers" in case:
        model = mlp(case["layers"])
    else:
        model = cnn(case["row"], case["kernel"]) if case["kind"] == "cnn" else resnet20(case["row"])
    parameters = list(model.parameters())
    assert [p.shape for p in parameters] == [torch.Size(a.shape) for a in initial.values()]
    with torch.no_grad():
        for p, a in zip(parameters, initial.values()):
            p.copy_(torch.from_numpy(a))
    return model


def make_model(case, path):
    with np.load(path) as file:
        initial = {name: file[name] for name in file.files}
    return encoder(case, initial) if case.get("tokens") else ordered(case, initial)


def distributed(model):
    return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False)


def loss_of(logits, labels, soft):
    if soft is None:
        return F.cross_entropy(logits, labels)
    student = F.log_softmax(logits / TEMPERATURE, 1)
    teacher = F.softmax(soft / TEMPERATURE, 1)
    kd = F.kl_div(student, teacher, reduction="batchmean") * TEMPERATURE**2
    return KD_WEIGHT * kd + (1 - KD_WEIGHT) * F.cross_entropy(logits, labels)


def main():
    case, folder = CASES[sys.argv[1]], sys.argv[2]
    rank, size = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["OMPI_COMM_WORLD_SIZE"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    x = np.load(f"{folder}/x.npy")
    x = torch.from_numpy(x.astype(np.int64) if case.get("tokens") else x.astype(np.float32) / 255)
    if "layers" in case:
        x = x.flatten(1)
    y = torch.from_numpy(np.load(f"{folder}/y.npy").astype(np.int64))
    soft = torch.from_numpy(np.load(f"{folder}/logits.npy")) if case.get("kd") else None
    model = distributed(make_model(case, f"{folder}/student.npz"))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    batch, share = case["batch"], case["batch"] // size
    seconds = []
    for epoch in range(case["epochs"]):
        dist.barrier()
        started = time.perf_counter()
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(case["rows"]))
        total = torch.zeros(())
        for at in range(rank * share, case["rows"], batch):
            ids = order[at:at + share]
            logits = model(x.index_select(0, ids))
            loss = loss_of(logits, y.index_select(0, ids), None if soft is None else soft.index_select(0, ids))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            total += loss.detach()
        dist.barrier()
        seconds.append(time.perf_counter() - started)
    dist.all_reduce(total)
    if rank == 0:
        mean = total.item() / size / (case["rows"] // batch)
        print(json.dumps({"version": torch.__version__, "seconds": seconds, "loss": mean}), flush=True)
    time.sleep(0.5)  # until the other ranks have the last message, too
    os._exit(0)  # the library's threads would abort the end of the interpreter now and then


if __name__ == "__main__":
    main()
