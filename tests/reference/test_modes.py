#!/usr/bin/env python3
"""Models that PyTorch exported in training mode and in inference mode, and models of which parts are frozen, beside PyTorch."""
import sys

sys.dont_write_bytecode = True

import copy
import subprocess
import warnings

import h5py
import numpy as np
import onnx
import torch
from torch import nn

from engine import run
from harness import (PROGRAM, Failure, digits, flags, fresh, main, order, read_parameters, test, train, within, worst_error,
                     write_dataset)
from nets import cross_entropy, load, numpy_state


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                                  nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(12 * 16, 10)

    def forward(self, x):
        return self.head(self.drop(self.body(x).flatten(1)))


def net(seed=1):
    torch.manual_seed(seed)
    made = Net()
    for norm in made.modules():  # statistics that matter
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return made


def export(made, training, opset=14):
    """The file; made gets its parameters, since a trace in training mode moves running statistics."""
    path, whole = fresh(".onnx"), made
    made = copy.deepcopy(made)
    made.train(training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(made, torch.zeros(2, 1, 8, 8), path, opset_version=opset, input_names=["image"], output_names=["logits"],
                          dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, do_constant_folding=not training,
                          training=torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL)
    if training:
        load(whole, read_parameters_of_training(path), plain)
    return path


def plain(name):
    return name


def logits(made, x):
    made.eval()
    with torch.no_grad():
        return made(torch.from_numpy(x)).numpy()


def stderr_of(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Failure(f"status {done.returncode}: {done.stderr}")
    return done.stderr


def warnings_in(text):
    return [line for line in text.split("\n") if line.startswith("mpistill: warning: ")]


def exported_in_training_mode(opset):
    x, y = digits(96)
    path = export(net(), True, opset)
    before = onnx.load(path)
    if not any(n.op_type == "BatchNormalization" and len(n.output) > 1 for n in before.graph.node):
        raise Failure("PyTorch wrote no batch norm in training mode")
    data, out = write_dataset(x, y), fresh(".onnx")
    said = warnings_in(stderr_of("train", *flags({"model": path, "dataset": data, "epochs": 2, "batch": 32, "learning_rate": 0.01}),
                                 "--output", out))
    first = next(n.name for n in before.graph.node if n.op_type in ("BatchNormalization", "Dropout"))
    if len(said) != 1 or f"'{first}'" not in said[0]:
        raise Failure(f"one warning that names {first} was expected: {said}")
    student = onnx.load(out)
    onnx.checker.check_model(student, full_check=True)
    for n in student.graph.node:
        modes = [a.i for a in n.attribute if a.name == "training_mode"]
        if n.op_type == "BatchNormalization" and (any(modes) or len(n.output) != 1):
            raise Failure(f"{n.name} is still in training mode")
        if n.op_type == "Dropout" and len(n.input) > 2:
            raise Failure(f"{n.name} is still in training mode")
    trained = load(net(2), read_parameters_of_training(out), plain)
    got = run(out, [x], ["float32"])[0]
    return within("outputs of the written file from PyTorch in eval()", float(np.abs(got - logits(trained, x)).max()), 1e-4)


def read_parameters_of_training(path):
    return {name: t for name, t in read_parameters(path).items() if t.dtype == np.float32 and t.ndim > 0}


for o in (13, 14, 17):
    test(f"a student exported in training mode, opset {o}")(lambda o=o: exported_in_training_mode(o))


@test("a teacher exported in training mode is run for inference")
def teacher():
    x, y = digits(96)
    made = net()
    path, data, folder = export(made, True), write_dataset(x, y), fresh("")
    said = warnings_in(stderr_of("teach", "--dataset", data, "--teacher", f"t={path}", "--dtype", "float32", "--output", folder))
    if len(said) != 1 or "training mode" not in said[0]:
        raise Failure(f"one warning was expected: {said}")
    if len(warnings_in(stderr_of("evaluate", "--model", path, "--dataset", data, "--split", "train"))) != 1:
        raise Failure("evaluate warns once")
    with h5py.File(f"{folder}/t.h5") as f:
        got = f["logits"][...]
    return within("logits from PyTorch in eval()", float(np.abs(got - logits(made, x)).max()), 1e-4)


@test("a student exported for inference: its folded batch norms are told")
def folded():
    x, y = digits(96)
    path, out = export(net(), False), fresh(".onnx")
    said = warnings_in(stderr_of("train", "--model", path, "--dataset", write_dataset(x, y), "--epochs", 1, "--learning-rate", 0.01,
                                 "--output", out))
    if len(said) != 1 or "folded" not in said[0]:
        raise Failure(f"one warning was expected: {said}")
    model, newer = onnx.load(path), fresh(".onnx")  # by PyTorch's other exporter: weights have their names, and outputs are a batch norm's
    names = {n.output[0]: f"getitem_{i}" for i, n in enumerate(model.graph.node) if n.op_type == "Conv"}
    names.update({n.input[1]: f"conv{i}.weight" for i, n in enumerate(model.graph.node) if n.op_type == "Conv"})
    for n in model.graph.node:
        n.input[:], n.output[:] = [names.get(v, v) for v in n.input], [names.get(v, v) for v in n.output]
    for t in model.graph.initializer:
        t.name = names.get(t.name, t.name)
    onnx.save(model, newer)
    said = warnings_in(stderr_of("train", "--model", newer, "--dataset", write_dataset(x, y), "--epochs", 1, "--learning-rate", 0.01,
                                 "--output", fresh(".onnx")))
    if len(said) != 1 or "folded" not in said[0] or ".weight'" not in said[0]:
        raise Failure(f"one warning was expected: {said}")
    return "one warning"


class Late(nn.Module):
    """Norms behind relus, which no exporter folds into a convolution. Fresh, they have the same numbers."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(8), nn.MaxPool2d(2),
                                  nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(8))
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def read_directly(path):
    """The same model without the Identities that give merged tensors their names back, as other exporters leave it."""
    model, copy = onnx.load(path), fresh(".onnx")
    given = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity"}
    for n in list(model.graph.node):
        if n.op_type == "Identity":
            model.graph.node.remove(n)
        else:
            n.input[:] = [given.get(name, name) for name in n.input]
    onnx.save(model, copy)
    return copy, given


def three_epochs(made, rate, x, y):
    steps = torch.optim.SGD(made.parameters(), rate)
    for epoch in range(3):
        rows = order(0, epoch, 96)
        steps.zero_grad()
        cross_entropy(y[rows])(made(torch.from_numpy(x[rows])), slice(0, 96)).backward()
        steps.step()


def merged(direct):
    x, y = digits(96)
    torch.manual_seed(3)
    made = Late()
    path = export(made, False)
    _, given = read_directly(path)
    if len(given) < 6:
        raise Failure(f"PyTorch has merged nothing: {given}")
    if direct:
        path, _ = read_directly(path)
    data, out = write_dataset(x, y), fresh(".onnx")
    said = warnings_in(stderr_of("train", *flags({"model": path, "dataset": data, "epochs": 3, "batch": 96, "shards": 1, "momentum": 0,
                                                  "learning_rate": 0.05, "schedule": "constant"}), "--output", out))
    if len(said) != 1 or "merged" not in said[0]:
        raise Failure(f"one warning was expected: {said}")
    made.train()
    three_epochs(made, 0.05, x, y)
    student = onnx.load(out)
    onnx.checker.check_model(student, full_check=True)
    norms = [name for n in student.graph.node if n.op_type == "BatchNormalization" for name in n.input[1:]]
    if len(norms) != 8 or len(set(norms)) != 8:
        raise Failure(f"norms share their tensors: {norms}")
    if not direct:
        got = read_parameters(out)
        wanted = numpy_state(made, plain)
        return within(f"worst of {len(wanted)} parameters and statistics", worst_error({k: got[k] for k in wanted}, wanted)[0], 1e-4)
    return within("outputs of the written file", float(np.abs(run(out, [x], ["float32"])[0] - logits(made, x)).max()), 1e-4)


test("a fresh student whose equal tensors the exporter has merged, with names")(lambda: merged(False))
test("a fresh student whose equal tensors the exporter has merged, without")(lambda: merged(True))


@test("layers that share one weight are trained with one, and told")
def tied():
    x, y = digits(96)
    torch.manual_seed(4)
    shared = nn.Linear(32, 32)
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(32, 10))
    with torch.no_grad():
        shared.bias.zero_()  # all the same number, and yet one layer's
    path, out = export(made, False), fresh(".onnx")
    said = warnings_in(stderr_of("train", *flags({"model": path, "dataset": write_dataset(x, y), "epochs": 3, "batch": 96, "shards": 1,
                                                  "momentum": 0, "learning_rate": 0.1, "schedule": "constant"}), "--output", out))
    if len(said) != 1 or "share a weight" not in said[0]:
        raise Failure(f"one warning was expected: {said}")
    three_epochs(made, 0.1, x, y)
    return within("outputs of the written file", float(np.abs(run(out, [x], ["float32"])[0] - logits(made, x)).max()), 1e-4)


@test("numbers of formulas, as PyTorch's newer exporter names them, stay as they are")
def formulas():
    x, y = digits(96)
    h, rng = onnx.helper, np.random.default_rng(5)
    values = {"val_3": rng.normal(size=(64, 16)), "val_41": [0.25], "val_5": np.ones(16), "scale": [0.5], "val_": np.ones(16),
              "head": rng.normal(size=(16, 10))}
    nodes = [h.make_node("Flatten", ["image"], ["flat"]), h.make_node("MatMul", ["flat", "val_3"], ["a"]), h.make_node("Mul", ["a", "val_41"], ["b"]),
             h.make_node("Mul", ["b", "val_5"], ["c"]), h.make_node("Mul", ["c", "scale"], ["d"]), h.make_node("Add", ["d", "val_"], ["e"]),
             h.make_node("MatMul", ["e", "head"], ["logits"])]
    graph = h.make_graph(nodes, "g", [h.make_tensor_value_info("image", 1, ["N", 1, 8, 8])], [h.make_tensor_value_info("logits", 1, ["N", 10])],
                         [onnx.numpy_helper.from_array(np.float32(v), k) for k, v in values.items()])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)])
    model.ir_version, path = 8, fresh(".onnx")
    onnx.save(model, path)
    got = train(path, write_dataset(x, y), epochs=1, learning_rate=0.01).parameters()
    moved = {name for name in values if not np.array_equal(got[name], np.float32(values[name]))}
    if moved != {"val_3", "scale", "val_", "head"}:
        raise Failure(f"trained: {sorted(moved)}")
    return f"{len(values) - len(moved)} constants"


def frozen_net(patterns):
    """PyTorch's way: no gradient, and eval() for a batch norm with frozen parameters."""
    import fnmatch
    made = net()
    made.drop = nn.Identity()
    made.train()
    for name, p in made.named_parameters():
        p.requires_grad = not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm2d) and not (norm.weight.requires_grad and norm.bias.requires_grad):
            norm.eval()
            norm.train = lambda mode=True: None
    return made


def frozen(patterns, optimizer):
    x, y = digits(96)
    made = frozen_net(patterns)
    path = export(made, True)
    options = dict(epochs=3, batch=96, shards=1, learning_rate=0.02, schedule="constant", weight_decay=0.01, clip_norm=0.5,
                   optimizer=optimizer)
    got = train(path, write_dataset(x, y), freeze=patterns, **options).parameters()
    trained = [p for p in made.parameters() if p.requires_grad]
    steps = (torch.optim.SGD(trained, 0.02, 0.9, weight_decay=0.01) if optimizer == "sgd" else
             torch.optim.AdamW(trained, 0.02, weight_decay=0.01))
    before = numpy_state(made, plain)
    for epoch in range(3):
        rows = order(0, epoch, 96)
        made.zero_grad()
        cross_entropy(y[rows])(made(torch.from_numpy(x[rows])), slice(0, 96)).backward()
        nn.utils.clip_grad_norm_(trained, 0.5)
        steps.step()
    wanted = numpy_state(made, plain)
    same = [name for name in wanted if np.array_equal(before[name], wanted[name])]
    if not same or len(same) == len(wanted):
        raise Failure(f"nothing to compare: {same} stay")
    for name in same:
        if not np.array_equal(got[name], before[name]):
            raise Failure(f"{name} is frozen, but changed")
    moves = lambda after: {name: np.float64(after[name]) - before[name] for name in wanted if name not in same}
    return within(f"moves of the others ({len(same)} frozen)", worst_error(moves(got), moves(wanted))[0], 1e-3)


FROZEN = {"the first layers": ["body.[01].*"], "all but the head": ["body.*"], "biases": ["*.bias"], "a batch norm's statistics too": ["body.5.weight"]}
for which, given in FROZEN.items():
    for kind in ("sgd", "adamw"):
        test(f"frozen: {which}, {kind}")(lambda given=given, kind=kind: frozen(given, kind))

@test("patterns that leave nothing, or match nothing, are refused")
def refused():
    x, y = digits(32)
    path, data = export(net(), True), write_dataset(x, y)
    for pattern, text in (("*", "leaves no parameter"), ("body.9*", "'body.9*'"), ("body.0.weigth", "did you mean 'body.0.weight'")):
        done = subprocess.run([PROGRAM, "train", "--model", path, "--dataset", data, "--freeze", pattern, "--output", fresh(".onnx")],
                              capture_output=True, text=True, timeout=60)
        if done.returncode != 2 or text not in done.stderr:
            raise Failure(f"{pattern}: status {done.returncode}: {done.stderr}")
    return "status 2, with the pattern"


if __name__ == "__main__":
    sys.exit(main())
