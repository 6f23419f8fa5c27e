"""What the parts of the bench share: how programs are run, how turns are summed up."""
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
build = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ""
program = f"{build}/mpistill"
repeats = int(os.environ.get("BENCH_REPEATS", "5"))
ranks = int(os.environ.get("BENCH_RANKS", "2"))
mpirun = os.environ.get("MPIRUN", "mpirun")


def on(n, threads=1):
    """mpirun with n ranks, each bound to as many cores as it has threads."""
    return [mpirun, "-n", str(n), "--map-by", f"slot:PE={threads}", "--bind-to", "core"]


bound = on(ranks)


def run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, **more)
    if done.returncode:
        sys.exit(f"bench: {' '.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def create(path, *arguments):
    run([program, "create", *arguments, "--output", path, "--force"])


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def text(s, digits=0):
    return f"{s['median']:,.{digits}f} ({s['min']:,.{digits}f}–{s['max']:,.{digits}f})"


def verdict(good):
    return "" if good else " missed"


def profile_of(folder):
    """Seconds by phase of all ranks and threads together, as `make profile` sums them up."""
    phases, whole = {}, 0
    for name in os.listdir(folder):
        with open(f"{folder}/{name}") as file:
            rank = json.load(file)
        whole += rank["seconds"] * rank["threads"]
        for phase, s in rank["phases"].items():
            phases[phase] = phases.get(phase, 0) + s
    return phases, whole
