"""Hinton's student by PyTorch: `hinton_peer.py STUDENT DATASET SOFT_LABELS SEED` trains a created MLP as hinton.sh has mpistill do it (AdamW,
cosine, T = 20, a tenth of the weight on the hard labels), on one core, and prints its errors on the test split."""
import sys

import h5py
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

EPOCHS, BATCH, RATE, DECAY, TEMPERATURE, KD_WEIGHT = 40, 32, 0.001, 0.1, 20.0, 0.9


def images(dataset, split):
    return torch.tensor(dataset[f"{split}/image"][:].reshape(-1, 784).astype("f4") / 255), torch.tensor(dataset[f"{split}/label"][:].astype("i8"))


def network(path):
    """The layers of `mpistill create mlp`, weights [out, in]."""
    weights = [numpy_helper.to_array(x) for x in onnx.load(path).graph.initializer]
    layers = []
    for w, b in zip([w for w in weights if w.ndim == 2], [w for w in weights if w.ndim == 1]):
        layer = torch.nn.Linear(w.shape[1], w.shape[0])
        layer.weight.data, layer.bias.data = torch.tensor(w), torch.tensor(b)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def main(student, dataset, labels, seed):
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    with h5py.File(dataset) as d, h5py.File(labels) as s:
        (x, y), (test_x, test_y) = images(d, "train"), images(d, "test")
        soft = functional.softmax(torch.tensor(s["logits"][:].astype(np.float32)) / TEMPERATURE, 1)
    model = network(student)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * (len(x) // BATCH))
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for i in range(len(x) // BATCH):
            rows = order[i * BATCH:(i + 1) * BATCH]
            z = model(x[rows])
            kd = TEMPERATURE**2 * functional.kl_div(functional.log_softmax(z / TEMPERATURE, 1), soft[rows], reduction="batchmean")
            loss = KD_WEIGHT * kd + (1 - KD_WEIGHT) * functional.cross_entropy(z, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        print(int((model(test_x).argmax(1) != test_y).sum()))


if __name__ == "__main__":
    main(*sys.argv[1:])
