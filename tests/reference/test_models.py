#!/usr/bin/env python3
"""The smaller models of zoo.py, each exported once and run beside PyTorch: `ok NAME: ...`. models.py --all runs all of them in all ways."""
import sys

sys.dont_write_bytecode = True

import os

from models import Refused, models, rows
from outputs import TOOL, passes

LARGE = ("alexnet vgg11 vgg11_bn resnet50 resnext50_32x4d wide_resnet50_2 densenet121 mobilenet_v3_large mnasnet1_0 shufflenet_v2_x1_0 "
         "efficientnet_b0 efficientnet_v2_s regnet_x_400mf convnext_tiny googlenet inception_v3 swin_t fcn_resnet50 deeplabv3_mobilenet").split()


def main():
    if not os.access(TOOL, os.X_OK):
        print(f"not ok {TOOL} is missing: make tools")
        return 1
    failures = 0
    for name, opset, folding, dynamic, result, _ in rows([(turn, m) for turn, m in enumerate(models.values()) if m.name not in LARGE]):
        how = f"{name}, opset {opset}{', folded' if folding else ''}{', any number of rows' if dynamic else ''}"
        if passes(result):
            print(f"ok {how}: largest error {result} of 1e-5 + 1e-4 |expected|", flush=True)
        elif isinstance(result, Refused):
            print(f"skip {how}: torch.onnx: {result}", flush=True)
        else:
            failures += 1
            print(f"not ok {how}: {result}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
