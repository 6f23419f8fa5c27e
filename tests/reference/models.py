#!/usr/bin/env python3
"""Outputs of exported models (zoo.py) beside PyTorch's: models.py [--all] [--torchvision] [--results FILE] [WORD ...]

Every model gets random weights (its batch norms have seen data), is exported by torch.onnx, and run by tests/tools/run_model on random
inputs. Printed is a table; the deviation is the largest |got - expected| / (1e-5 + 1e-4 |expected|) over all numbers of all outputs, and
must not exceed 1. Where it does, all is compared with PyTorch in double precision, from which it must not deviate by more than 1 then.
With --all each model is exported at every opset of 9, 11, 13, 17 that torch.onnx can write it in, with and without constant folding,
with a fixed and a dynamic number of rows; otherwise once, the options taken in turn. --torchvision: not these models but every one of
torchvision that classifies or segments, with 2 rows. A WORD picks the models whose name holds it. --results keeps what came out, and
what FILE has already is not run again; table.py writes MODELS.md from such files."""
import sys

sys.dont_write_bytecode = True

import argparse
import copy
import os
import shutil
import tempfile
import time
import warnings
import zlib

import numpy as np
import torch
from torch import nn
from torchvision.models.inception import Inception3
from torchvision.models.regnet import ResBottleneckBlock
from torchvision.models.resnet import Bottleneck

from outputs import TOP, Result, check_telling, deviation, keep, kept, passes, run
from zoo import all_of_torchvision, models

OPSETS = (9, 11, 13, 17)
DYNAMO_OPSETS = (18, 20)
VERSIONS = f"PyTorch {torch.__version__}"
NEW = int(torch.__version__.split(".")[0]) > 1  # has two exporters


class Refused(Exception):
    """torch.onnx cannot write the model so."""


def settle(net, inputs):
    """Random weights with which every layer matters, and which are not so sensitive that PyTorch does not agree with itself: residual
    branches are small next to what they are added to, as training leaves them."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in net.modules():
        if isinstance(m, nn.Linear) or (isinstance(m, nn.modules.conv._ConvNd) and not norms):
            nn.init.kaiming_normal_(m.weight)
    spread = 0.3 if isinstance(net, Inception3) else 0.1  # it has no residual branches
    for m in norms:
        m.momentum = 1.0
        nn.init.uniform_(m.weight, 0.1, 0.3)
        nn.init.uniform_(m.bias, -spread, spread)
    for block in net.modules():
        if isinstance(block, Bottleneck):
            nn.init.uniform_(block.bn3.weight, 0.02, 0.1)
        if isinstance(block, ResBottleneckBlock):
            nn.init.uniform_(block.f.c[1].weight, 0.02, 0.1)
    if norms:  # their statistics as after training
        with torch.no_grad():
            net.train()(*inputs)


def settled(model):
    seed = zlib.crc32(model.name.encode())
    torch.manual_seed(seed)
    inputs = [torch.from_numpy(np.asarray(x)) for x in model.inputs(np.random.default_rng(seed))]
    net = model.make()
    settle(net, inputs)
    return net.eval(), inputs


def flat(outputs):
    return [outputs] if torch.is_tensor(outputs) else [t for part in outputs for t in flat(part)]


def export(net, inputs, n_outputs, opset, folding, dynamic, dynamo, path):
    """Into a file, beside which torch.onnx puts the weights of what has more than 2 GiB."""
    names, ends = [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(n_outputs)]
    axes = {name: {0: "rows"} for name in names + ends} if dynamic else None
    how = {"do_constant_folding": folding, "input_names": names, "output_names": ends, "dynamic_axes": axes, **({"dynamo": False} if NEW else {})}
    if dynamo:
        how = {"dynamo": True, "dynamic_shapes": tuple({0: torch.export.Dim("rows")} for _ in inputs) if dynamic else None, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(net, tuple(inputs), path, opset_version=opset, **how)
        except Exception as error:
            raise Refused(str(error).splitlines()[0]) from error


class Net:
    """A model that is built once for all of its exports."""

    def __init__(self, model, dynamo=False):
        self.model, self.dynamo = model, dynamo
        self.net, self.inputs = settled(model)
        with torch.no_grad():
            self.expected = [t.numpy() for t in flat(self.net(*self.inputs))]
        self.exact = None
        check_telling(self.expected)

    def in_double(self):
        if self.exact is None:
            net, inputs = copy.deepcopy(self.net).double(), [x.double() if x.is_floating_point() else x for x in self.inputs]
            with torch.no_grad():
                self.exact = [t.numpy() for t in flat(net(*inputs))]
        return self.exact

    def compare(self, opset, folding, dynamic):
        folder = tempfile.mkdtemp(dir=".")
        path = os.path.join(folder, "model.onnx")
        try:
            export(self.net, self.inputs, len(self.expected), opset, folding, dynamic, self.dynamo, path)
            got = run(path, [x.numpy() for x in self.inputs], self.expected)
        finally:
            shutil.rmtree(folder)
        result = Result(deviation(got, self.expected))
        if not result.passes():
            result = Result(result.deviation, deviation(got, self.in_double()), deviation(self.expected, self.in_double()))
        return result


def variants(model, everything, turn, dynamo=False):
    """(opset, folding, dynamic) of the exports to try; not everything: until torch.onnx can write one."""
    if dynamo:
        tries = [(o, True, d) for o in DYNAMO_OPSETS for d in (model.dynamic, False)]
        return tries if everything else [tries[0], tries[-1]][::1 if turn % 2 else -1]
    opsets = [o for o in OPSETS if o >= model.first]
    if everything:
        return [(o, f, f == (i % 2 == 0) and model.dynamic) for i, o in enumerate(opsets) for f in (True, False)]
    return [(opsets[t % len(opsets)], t // 2 % 2 == 0, t % 2 == 0 and model.dynamic) for t in range(turn, turn + 4)]


def rows(chosen, everything=False, known=(), dynamo=False):
    """(name, opset, folding, dynamic, a Result or an exception, seconds) of every export that was tried: not of those in `known`. `chosen`
    are (turn, model)."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="mpistill-models.") as folder:
        os.chdir(folder)
        for turn, model in chosen:
            wanted, net = variants(model, everything, turn, dynamo), None
            if everything:
                wanted = [v for v in wanted if (model.name, *v) not in known]
            elif any((model.name, *v) in known for v in wanted):
                continue
            for variant in wanted:
                started = time.monotonic()
                try:
                    net = net or Net(model, dynamo)
                    result = net.compare(*variant)
                except Exception as error:  # one model's failure must not hide the others' results
                    result = error
                yield (model.name, *variant, result, time.monotonic() - started)
                if not everything and not isinstance(result, Refused):
                    break
        os.chdir(TOP)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every opset, with and without folding")
    parser.add_argument("--torchvision", action="store_true", help="all models of torchvision instead of the usual ones of each kind")
    parser.add_argument("--dynamo", action="store_true", help="the exporter that newer versions of PyTorch have, opsets 18 and 20")
    parser.add_argument("--results", metavar="FILE", help="keep results there, go on where they end")
    parser.add_argument("words", nargs="*", metavar="WORD")
    options = parser.parse_args()
    results = os.path.abspath(options.results) if options.results else None
    known = {(r["name"], r["opset"], r["folding"], r["dynamic"]) for r in (kept(results) if results else [])
             if (r["torchvision"], r["dynamo"]) == (options.torchvision, options.dynamo) and (options.all or "refused" not in r)}
    failed = refused = count = 0
    print(f"{'model':28} {'opset':>5} {'folding':>7} {'rows':>8} {'s':>6} deviation")
    names = all_of_torchvision() if options.torchvision else list(models)
    chosen = [(turn, models[name]) for turn, name in enumerate(names) if not options.words or any(word in name for word in options.words)]
    for name, opset, folding, dynamic, result, seconds in rows(chosen, options.all, known, options.dynamo):
        count += 1
        refused += isinstance(result, Refused)
        failed += not passes(result) and not isinstance(result, Refused)
        text = "refused" if isinstance(result, Refused) else "FAILED" if isinstance(result, Exception) else str(result)
        print(f"{name:28} {opset:5} {'yes' if folding else 'no':>7} {'any' if dynamic else 'fixed':>8} {seconds:6.1f} {text}", flush=True)
        if isinstance(result, Exception):
            print("    " + "\n    ".join(str(result).splitlines()[:6]))
        if results and (passes(result) or isinstance(result, Refused)):
            made = {"refused": str(result).splitlines()[0][:160]} if isinstance(result, Refused) else vars(result)
            row = {"from": VERSIONS, "torchvision": options.torchvision, "dynamo": options.dynamo, "name": name, "opset": opset,
                   "folding": folding, "dynamic": dynamic}
            keep(results, {**row, **made})
    print(f"{count} exports, {failed} failed, {refused} refused by torch.onnx")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
