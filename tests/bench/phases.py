"""Sums up what the ranks of a run wrote with MPISTILL_PROFILE=FOLDER.  phases.py FOLDER [JSON]"""
import glob
import json
import sys

SHOWN = 20  # operators


def read(folder):
    ranks = []
    for path in sorted(glob.glob(f"{folder}/*.json")):
        with open(path) as file:
            ranks.append(json.load(file))
    if not ranks:
        sys.exit(f"profile: {folder}: no rank has written anything there")
    return ranks


def add_up(ranks):
    """Seconds of all threads of all ranks together."""
    phases, operators = {}, {}
    for rank in ranks:
        for name, s in rank["phases"].items():
            phases[name] = phases.get(name, 0) + s
        for o in rank["operators"]:
            sum_of = operators.setdefault(o["name"], {"forward": 0, "backward": 0, "calls": 0, "backward_calls": 0})
            for key in sum_of:
                sum_of[key] += o[key]
    return {"ranks": len(ranks), "threads": sum(r["threads"] for r in ranks), "seconds": max(r["seconds"] for r in ranks),
            "thread_seconds": sum(r["seconds"] * r["threads"] for r in ranks), "phases": phases, "operators": operators}


def show(p):
    whole = p["thread_seconds"]
    print(f"{p['ranks']} ranks, {p['threads']} threads in all, {p['seconds']:.2f} s; all threads together:")
    for name in ("read", "forward", "backward", "reduce", "update", "write", "wait", "other"):
        print(f"  {name:10} {p['phases'][name]:9.3f} s {p['phases'][name] / whole:7.1%}")
    print(f"  {'sum':10} {sum(p['phases'].values()):9.3f} s {sum(p['phases'].values()) / whole:7.1%}")
    print(f"\n{'operator':26} {'forward s':>10} {'backward s':>11} {'calls':>9} {'of all':>7}")
    rows = sorted(p["operators"].items(), key=lambda item: -item[1]["forward"] - item[1]["backward"])
    for name, o in rows[:SHOWN]:
        print(f"{name:26} {o['forward']:10.3f} {o['backward']:11.3f} {o['calls'] + o['backward_calls']:9} "
              f"{(o['forward'] + o['backward']) / whole:7.1%}")
    if len(rows) > SHOWN:
        rest = sum(o["forward"] + o["backward"] for _, o in rows[SHOWN:])
        print(f"{len(rows) - SHOWN} others {rest:.3f} s")


profile = add_up(read(sys.argv[1]))
show(profile)
if len(sys.argv) > 2:
    with open(sys.argv[2], "w") as file:
        json.dump(profile, file, indent=1)
