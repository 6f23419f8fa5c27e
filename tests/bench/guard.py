"""Compares what callgrind counted with the committed figures.  guard.py FIGURES COMPILER --renew|'' NAME.out..."""
import json
import os
import re
import sys

MOST = 1.03  # of the committed figure


def count(path):
    """Instructions by whose code they are: the program's own, or the libraries' kernels, made at run time too."""
    objects, now, skip = {}, "", False
    sums = {"own": 0, "kernels": 0}
    with open(path) as file:
        for line in file:
            name = re.match(r"ob=\((\d+)\)(?: (.*))?", line)
            if name:
                if name[2]:
                    objects[name[1]] = name[2].strip()
                now = objects[name[1]]
            elif called := re.match(r"cob=\((\d+)\) (.*)", line):
                objects[called[1]] = called[2].strip()
            elif line.startswith("calls="):
                skip = True  # the next line is what the call cost: counted where it was spent
            elif re.match(r"[\d+*-]", line):
                if not skip:
                    kind = whose(now)
                    if kind:
                        sums[kind] += int(line.split()[1])
                skip = False
    return sums


def whose(path):
    if os.path.basename(path) == "mpistill":
        return "own"
    if "openblas" in path or "dnnl" in path or path == "???":
        return "kernels"
    return None  # how the C library copies is its own affair


def main():
    figures, compiler, renew, files = sys.argv[1], sys.argv[2], sys.argv[3] == "--renew", sys.argv[4:]
    counts = {os.path.basename(f).removesuffix(".out"): count(f) for f in files}
    if renew:
        with open(figures, "w") as file:
            json.dump({"compiler": compiler, "instructions": counts}, file, indent=1)
            file.write("\n")
        print(f"{figures}: written")
        return 0
    with open(figures) as file:
        committed = json.load(file)
    if committed["compiler"] != compiler:
        print(f"note: the figures are of {committed['compiler']}, this is {compiler}")
    print(f"{'instructions':16} {'committed':>14} {'now':>14} {'growth':>8}")
    grown = 0
    for name, now in counts.items():
        for kind, n in now.items():
            before = committed["instructions"][name][kind]
            bad = n > MOST * before
            grown += bad
            print(f"{name + ' ' + kind:16} {before:14,} {n:14,} {n / before - 1 if before else 0:8.2%}{' too much' if bad else ''}")
    print(f"{'not ok' if grown else 'ok'}: {grown} of {2 * len(counts)} grew by more than {MOST - 1:.0%}")
    return 1 if grown else 0


sys.exit(main())
