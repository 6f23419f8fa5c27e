#!/usr/bin/env python3
"""MODELS.md from what models.py and frameworks.py kept: table.py FILE... >tests/reference/MODELS.md"""
import sys

sys.dont_write_bytecode = True

import collections
import re

from outputs import Result, kept

HEAD = """# Models of other frameworks, run by mpistill

How far mpistill's outputs are from those of the framework that the model comes from: the largest |got - expected| / (1e-5 + 1e-4 |expected|)
over all numbers of all outputs, so that 1 is the bound. Weights are random, of ml they are learnt. Written by

    tests/reference/models.py --torchvision --results models.jsonl      # Debian's python3-torchvision; goes on where it was cut off
    tests/reference/models.py --all --results models.jsonl
    tests/reference/models.py --dynamo --results dynamo.jsonl           # these two with packages from PyPI: their heads tell which
    tests/reference/frameworks.py paddle --results frameworks.jsonl     # and keras, tensorflow, ml
    tests/reference/table.py *.jsonl >tests/reference/MODELS.md

Rows stand as they were measured last, not all of them with the same kernels.
"""


def outcome(r):
    if r.get("failed", "").startswith("the outputs say nothing"):
        return "not compared: with random weights " + r["failed"].split(",")[0]
    if "failed" in r:
        return "**fails**: " + r["failed"].replace("|", "/")
    if "refused" in r:
        why = re.sub("\x1b\\[[0-9;]*m", "", r["refused"])  # coloured
        return "not written by its converter: " + " ".join(why.split())[:70].replace("|", "/")
    return str(Result(r["deviation"], r["exact"], r["peer"]))


def head(title, first, columns):
    print(f"\n## {title}\n\n{first}\n")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))


def once(rows, title, first):
    """An export a model, the last that was written."""
    best = {}
    for r in rows:
        if "refused" not in r or r["name"] not in best:
            best[r["name"]] = r
    if not best:
        return
    done = [r for r in best.values() if "refused" not in r]
    head(title, f"{first} {len(done)} models.", ["model", "opset", "constant folding", "rows", "deviation"])
    for name in sorted(best):
        r = best[name]
        print(f"| {name} | {r['opset']} | {'yes' if r['folding'] else 'no'} | {'any' if r['dynamic'] else 'fixed'} | {outcome(r)} |")


def often(rows, title, first):
    """Several exports a model: the largest deviation."""
    names = collections.defaultdict(list)
    for r in rows:
        names[r["name"]].append(r)
    if not names:
        return
    good = [r for r in rows if "refused" not in r]
    head(title, f"{first} {len(good)} exports of {len(names)} models; torch.onnx refused {len(rows) - len(good)} more.",
         ["model", "exports", "opsets", "largest deviation"])
    for name, of in names.items():
        done = [r for r in of if "refused" not in r]
        worst = max(done, key=lambda r: r["deviation"], default=of[0])
        print(f"| {name} | {len(done)} | {', '.join(str(o) for o in sorted({r['opset'] for r in done}))} | {outcome(worst)} |")


def main():
    rows = [r for path in sys.argv[1:] for r in kept(path)]
    ours, others = [r for r in rows if "kind" not in r], [r for r in rows if "kind" in r]
    print(HEAD, end="")
    for version in sorted({r["from"] for r in ours}):
        mine = [r for r in ours if r["from"] == version]
        classic = [r for r in mine if not r["dynamo"]]
        once([r for r in classic if r["torchvision"]], f"torchvision, exported by {version}",
             "Every model that classifies or segments images, an export each, the options in turn.")
        often([r for r in classic if not r["torchvision"]], f"Kinds of nets, exported by {version}",
              "The nets of zoo.py at opsets 9, 11, 13 and 17, as far as torch.onnx can write them, with and without constant folding.")
        once([r for r in mine if r["dynamo"]], f"The newer exporter of {version}", "`torch.onnx.export(..., dynamo=True)`.")
    for kind, version in dict.fromkeys((r["kind"], r["from"]) for r in others):
        mine = [r for r in others if (r["kind"], r["from"]) == (kind, version)]
        latest = {r["name"]: r for r in mine}
        head(f"{kind}: {version}", f"{sum('deviation' in r for r in latest.values())} models.", ["model", "opset", "deviation"])
        for name, r in latest.items():
            print(f"| {name} | {r['opset']} | {outcome(r)} |")


if __name__ == "__main__":
    main()
