#!/bin/bash
# The last part of make torture: what else is injected, how it was answered, and what safety costs. Every call, not a sample, with MPISTILL_EVERY=1.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/lib/behaviour.sh"
logs=$(realpath -m "$top/${BUILD:-build}/torture")
fuzz=$(realpath -m "$top/${BUILD:-build}/fuzz")
mkdir -p "$logs"
for name in disk faults stall; do
  "$top/tests/behaviour/$name.sh" >"$logs/$name.log" 2>&1 || fail "tests/behaviour/$name.sh (see $logs/$name.log)"
done

must 0 create mlp --layers 784,800,800,10 --seed 1 --output model.onnx
"$python" - <<'END' || exit 1
import checks, numpy as np
rng = np.random.default_rng(1)
checks.write_dataset("data.h5", {"train": {"image": rng.integers(0, 255, (20000, 784), np.uint8), "label": rng.integers(0, 10, 20000).astype(np.int32)}},
                     scale={"image": (1 / 255, 0)})
END
must 2 train --model model.onnx --dataset data.h5 --epochs 6 --checkpoint-seconds 1 --log run.jsonl --output student.onnx

"$python" - "$logs" "$fuzz" "$work/run.jsonl" <<'END'
import glob, json, os, re, sys
logs, fuzz, run = sys.argv[1:]
text = {name: open(f"{logs}/{name}.log").read() for name in ("disk", "faults", "stall")}
def show(what, value):
    print(f"{what:<58} {value}")
for action, words in ("ENOSPC", "full disk"), ("EIO", "I/O error"):
    tried = [int(n) for n in re.findall(rf"^ok .*: {action}\+? at (\d+) of \d+ calls", text["disk"], re.M)]
    bad = len(re.findall(rf"^not ok .*: {action}", text["disk"], re.M))
    show(f"{words}: injected / reported clearly, resumed to the same bytes", f"{sum(tried) + bad} / {sum(tried)}")
memory = [int(n) for n in re.findall(r"^ok \w+_memory_rank_\d: (\d+) failures", text["faults"], re.M)]
show("allocation that fails on one rank: injected / left by all", f"{sum(memory) + len(re.findall('^not ok .*_memory_', text['faults'], re.M))} / {sum(memory)}")
noticed = [int(n) for n in re.findall(r"^ok .*noticed in (\d+) ms", text["stall"], re.M)]
show("hung rank, --stall-timeout 2: noticed after", f"{min(noticed) / 1000:.1f} to {max(noticed) / 1000:.1f} s ({len(noticed)} times)" if noticed else "never")
for log in sorted(glob.glob(f"{fuzz}/*.log")):
    runs = re.findall(r"^stat::number_of_executed_units: *(\d+)", open(log, errors="replace").read(), re.M)
    name = os.path.basename(log)[:-4]
    show(f"fuzzing {name}: executions / findings", f"{runs[-1] if runs else '?'} / {len(os.listdir(f'{fuzz}/found/{name}'))}")
written = [r["seconds"] for r in map(json.loads, open(run)) if r.get("event") == "checkpoint"]
mean = sum(written) / len(written)
show("a checkpoint of 1.3 M parameters with momentum", f"{1000 * mean:.0f} ms, {100 * mean / 600:.4f} % of the run at the default of 600 s")
END
finish
