#!/bin/bash
# plan: what it says of disk and memory against runs on 1, 2 and 4 ranks, within a tenth; the counts, the warnings, the line for Slurm.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

"$python" - <<'END'
import numpy as np
r = np.random.default_rng(1)
for n, name in ((20000, "train"), (2000, "test")):
    np.save(f"{name}-x.npy", r.integers(0, 255, (n, 1, 16, 16), dtype=np.uint8))
    np.save(f"{name}-y.npy", r.integers(0, 10, n).astype(np.int32))
END
must 0 import npy train=train-x.npy,train-y.npy test=test-x.npy,test-y.npy --output set.h5
must 0 create mlp --layers 256,1500,1500,10 --seed 1 --output wide.onnx
must 0 create cnn --input 1x16x16 --channels 8,16 --hidden 64 --classes 10 --seed 2 --output conv.onnx
cat >'my recipe.yaml' <<'END'
dataset: set.h5
output: made
baseline: true
teachers:
  - {name: wide, model: wide.onnx}
  - {name: conv, model: conv.onnx}
student: {create: mlp, layers: [256, 1000, 1000, 10]}
distill: {epochs: 1, batch: 256, optimizer: {learning_rate: 1.0e-6}} # its inputs are not scaled
checkpoint: {every_seconds: 0.2}
END

# compare RECIPE NODE'S RANKS...: what plan says of memory, and what a run holds.
compare() {
  local recipe=$1 n held
  for n in "${@:2}"; do
    rm -rf made
    run 0 plan "$recipe" --ranks "$n" --json
    mv out plan.json
    start "$n" run "$recipe" --quiet
    held=$("$python" -m memory "$job")
    wait "$job" || fail "$recipe: the run on $n ranks"
    python_check "$recipe: memory of a node with $n ranks" "$held" <<'END'
import json, sys
foreseen, held = json.load(open("plan.json"))["memory"]["node"], int(sys.argv[1])
assert abs(foreseen - held) <= 0.1 * held, f"foreseen {foreseen}, held {held}"
END
  done
}
files() { # RECIPE: of the last run
  python_check "$1: every file that lies there is foreseen, its size within a tenth" <<'END'
import json, os
files = {f["file"]: f["bytes"] for f in json.load(open("plan.json"))["files"]}
small = {"recipe.yaml", "state.json", "result.json", "run.jsonl", "mpistill.lock"}
for folder, _, names in os.walk("made"):
    for name in names:
        path = os.path.relpath(os.path.join(folder, name), "made")
        if path in small or path.endswith(".inputs"): continue
        size = os.path.getsize(os.path.join("made", path))
        assert path in files, f"{path} is not foreseen"
        assert abs(files.pop(path) - size) <= 0.1 * size, f"{path} is {size}"
assert set(files) == {"run.jsonl", "checkpoint/ (while it trains)"}, f"foreseen, but not there: {files}"
END
}
compare 'my recipe.yaml' 1 2 4
files 'my recipe.yaml'

sed -e 's/^student:.*/student: {create: mlp, layers: [256, 200, 10]}/' -e '/^baseline/d' -e '/^distill/i teach: live' 'my recipe.yaml' >live.yaml
compare live.yaml 1 2 4
files live.yaml

# Inner tensors, the largest logits, tasks, a student of fewer bytes; on the rows of the test.
cat >more.yaml <<'END'
dataset: set.h5
output: made
teachers:
  - {name: wide, model: wide.onnx, task: one}
  - {name: conv, model: conv.onnx, task: two}
teach: {split: test, top_k: 3}
student: {create: mlp, layers: [256, 100], tasks: ["one:10", "two:10"]}
distill:
  split: test
  precision: float16
  tasks: [{name: one, labels: label}, {name: two, labels: label}]
  optimizer: {learning_rate: 1.0e-6}
  features: [{kind: hint, weight: 1.0e-9, student: act1, teacher: act1, from: wide, projector: linear}]
  epochs: 1
  batch: 256
END
compare more.yaml 2
files more.yaml

run 0 plan 'my recipe.yaml' --json
mv out plan.json
run 0 plan 'my recipe.yaml' --json --set generations=3 --set 'assistants=[{name: tall, create: mlp, layers: [256, 3000, 10], epochs: 2}]'
python_check 'students on the way: their files, their time, their memory' <<'END'
import json
alone, chain = json.load(open("plan.json")), json.load(open("out"))
files = {f["file"] for f in chain["files"]} - {f["file"] for f in alone["files"]}
names = ("tall", "generation-1", "generation-2")
assert files == {f"{n}.onnx" for n in names} | {f"soft/{n}.h5" for n in names}, files
seconds = [{s["stage"]: s["seconds"] for s in p["stages"]}["distill"] for p in (alone, chain)]
assert seconds[1] > 2.5 * seconds[0], seconds
assert chain["memory"]["rank"] > alone["memory"]["rank"], chain["memory"]
END

run 0 plan 'my recipe.yaml' --ranks 64 --ranks-per-node 16 --link 100 --memory 0.05 --json
python_check 'time by stage, messages, counts without waste, warnings' <<'END'
import json
p = json.load(open("out"))
assert p["nodes"] == 4 and p["ranks"] == 64
assert [s["stage"] for s in p["stages"]] == ["teach", "aggregate", "baseline", "distill", "evaluate"], p["stages"]
assert all(s["seconds"] > 0 and s["bound"] in ("compute", "memory", "network", "disk") for s in p["stages"])
assert abs(sum(s["seconds"] for s in p["stages"]) + 1 - p["seconds"]) < 0.01
assert p["shards"]["count"] == 8 and p["shards"]["ranks_without_waste"] == [1, 2, 4, 8], p["shards"]
assert p["shards"]["efficiency"] == 0.125
floats = 256 * 1000 + 1000 + 1000 * 1000 + 1000 + 1000 * 10 + 10
assert 0.95 * 4 * floats * 0.75 * 2 < p["step"]["bytes"] < 1.05 * 4 * floats * 0.75 * 2, p["step"]
assert p["step"]["messages"] == 2 * 4 * 16 * 3, p["step"]  # there and back, in 4 pieces, on 16 lanes, to 3 nodes
assert 1 <= p["enough_ranks"] <= 64
assert len(p["warnings"]) == 2 and "56 of 64 ranks" in p["warnings"][0] and "GiB" in p["warnings"][1], p["warnings"]
END
run 0 plan 'my recipe.yaml' --ranks 8 --ranks-per-node 1 --set distill.epochs=2 --slurm
check 'one line for Slurm, quoted' grep -q -x \
  "PLACE=node sbatch --nodes=8 --time=[0-9]*:[0-9][0-9]:00 --mem=[0-9]*M slurm.sh 'my recipe.yaml' --set distill.epochs=2" out
run 0 plan 'my recipe.yaml'
check 'as lines for people' grep -q 'bound by compute' out
run 0 plan nowhere.yaml
expect_error 'a recipe that is not there' 2 'nowhere.yaml'
run 0 plan 'my recipe.yaml' --slurm --json
expect_error 'one way of printing' 2 '--slurm' '--json'
OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=0 run 0 plan 'my recipe.yaml' --json
check 'no ranks are needed, nor MPI' test "$status" = 0
finish
