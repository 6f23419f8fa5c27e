"""One training of a case: its files, our run, the peer's run."""
import glob
import gzip
import json
import os

import h5py
import numpy as np
import onnx
from onnx import numpy_helper

from cases import CASES, CLASSES, KD_WEIGHT, LEARNING_RATE, MOMENTUM, TEMPERATURE, create_arguments
from common import HERE, bound, program, run

# ---- inputs: the same arrays for everyone ----

def idx(folder, name):
    path = (glob.glob(f"{folder}/{name}*") or [f"{folder}/{name}"])[0]
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        data = file.read()
    sizes = np.frombuffer(data, ">i4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)


def images_and_labels(case):
    """MNIST, or noise whose labels can be learned: a linear model made them."""
    n, row = case["rows"], case["row"]
    random = np.random.default_rng(1)
    if case.get("tokens"):
        x = random.integers(1, case["tokens"], (n, *row), np.int32)  # token 0 would be padding, which the peer does not look for
        return x, random.normal(0, 1, (case["tokens"], CLASSES))[x].sum(1).argmax(1).astype(np.int32)
    folder = os.environ.get("MNIST")
    if folder and int(np.prod(row)) == 784:
        x, y = idx(folder, "train-images-idx3-ubyte"), idx(folder, "train-labels-idx1-ubyte")
        return x[:n].reshape(n, *row), y[:n].astype(np.int32)
    x = random.integers(0, 256, (n, *row), np.uint8)
    scores = (x.reshape(n, -1) / 255 - 0.5) @ random.normal(0, 1, (int(np.prod(row)), CLASSES))
    return x, scores.argmax(1).astype(np.int32)


def write_soft_labels(folder, case, logits):
    facts = json.loads(run([program, "inspect", f"{folder}/set.h5", "--json"]))
    with h5py.File(f"{folder}/soft.h5", "w") as file:
        file.attrs.update({"format": "mpistill-softlabels", "version": 1, "teacher": "random", "split": "train",
                           "encoding": "dense", "dataset_hash": facts["splits"]["train"]["hash"]})
        file.create_dataset("logits", data=logits)


def write_initial(folder):
    """The student's parameters in the order of the file, for the peer to start from."""
    model = onnx.load(f"{folder}/student.onnx")
    trained = [i for i in model.graph.initializer if not i.name.endswith((".mean", ".variance"))]
    np.savez(f"{folder}/student.npz", **{i.name: numpy_helper.to_array(i) for i in trained})


def prepare(folder, case):
    x, y = images_and_labels(case)
    np.save(f"{folder}/x.npy", x)
    np.save(f"{folder}/y.npy", y)
    with h5py.File(f"{folder}/set.h5", "w") as file:
        file.attrs.update({"format": "mpistill-dataset", "version": 1})
        file["train/x"], file["train/label"] = x, y
        if x.dtype == np.uint8:
            file["train/x"].attrs.update({"scale": np.float32(1 / 255), "offset": np.float32(0)})
    run([program, "create", *create_arguments(case), "--seed", "1", "--output", f"{folder}/student.onnx"])
    write_initial(folder)
    if case.get("kd"):
        logits = np.random.default_rng(2).normal(0, 3, (case["rows"], CLASSES)).astype(np.float32)
        np.save(f"{folder}/logits.npy", logits)
        write_soft_labels(folder, case, logits)


# ---- one run each ----

def samples_per_s(case, seconds):
    return case["rows"] * (len(seconds) - 1) / sum(seconds[1:])


def run_ours(folder, case, start=bound, threads=1):
    log = f"{folder}/log.jsonl"
    for name in ("log.jsonl", "out.onnx", "out.onnx.inputs"):
        if os.path.exists(f"{folder}/{name}"):
            os.remove(f"{folder}/{name}")
    command = [*start, program, "distill", "--student"] if case.get("kd") else [*start, program, "train", "--model"]
    command += [f"{folder}/student.onnx", "--dataset", f"{folder}/set.h5", "--epochs", str(case["epochs"])]
    command += ["--batch", str(case["batch"]), "--shards", str(case["shards"]), "--learning-rate", str(LEARNING_RATE)]
    command += ["--momentum", str(MOMENTUM), "--schedule", "constant", "--quiet", "--log", log]
    command += ["--threads", str(threads), "--output", f"{folder}/out.onnx"]
    if case.get("kd"):
        command += ["--soft-labels", f"{folder}/soft.h5", "--temperature", str(TEMPERATURE), "--kd-weight", str(KD_WEIGHT)]
    run(command)
    with open(log) as file:
        epochs = [event for event in map(json.loads, file) if event["event"] == "epoch"]
    assert len(epochs) == case["epochs"]
    seconds = {k: sum(e["seconds"][k] for e in epochs[1:]) for k in epochs[0]["seconds"]}
    steps = (len(epochs) - 1) * (-(-case["rows"] // case["batch"]))
    return {"rate": samples_per_s(case, [e["seconds"]["all"] for e in epochs]), "loss": epochs[-1]["loss"]["total"],
            "step_s": seconds["all"] / steps, "allreduce_s": seconds["allreduce"] / steps,
            "phases": {k: s / seconds["all"] for k, s in seconds.items() if k != "all"}}


def run_peer(python, folder, name):
    if os.path.exists(f"{folder}/meeting"):
        os.remove(f"{folder}/meeting")
    said = json.loads(run([*bound, python, f"{HERE}/peer.py", name, folder]).strip().splitlines()[-1])
    return {"rate": samples_per_s(CASES[name], said["seconds"]), "loss": said["loss"], "version": said["version"]}
