#!/bin/bash
# MPISTILL_PROFILE: each rank's times by phase and by operator.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

must 0 create mlp --layers 64,32,10 --seed 1 --output model.onnx
train=(train --model model.onnx --dataset "$digits" --epochs 2 --batch 64 --shards 4 --quiet)
must 2 "${train[@]}" --output plain.onnx
mkdir times
export MPISTILL_PROFILE=$work/times
must 2 "${train[@]}" --threads 2 --output timed.onnx
same 'the model is the same' plain.onnx timed.onnx
python_check 'phases add up to the whole, operators to what was computed' <<'END'
import json
for rank in range(2):
    t = json.load(open(f"times/{rank}.json"))
    p, whole = t["phases"], t["seconds"] * t["threads"]
    assert t["rank"] == rank and t["threads"] == 2, t
    assert abs(sum(p.values()) - whole) < 0.01 * whole, (p, whole)
    assert all(p[name] > 0 for name in ("read", "forward", "backward", "reduce", "update", "wait", "other")), p
    by_name = {}
    for o in t["operators"]:
        by_name.setdefault(o["name"], []).append(o)
    gemm = by_name["Gemm"]
    assert sum(o["calls"] for o in gemm) >= 2 * 2 * 2 * 23 and all(o["forward"] > 0 for o in gemm), gemm
    assert "losses" in by_name and "Relu" in by_name, by_name
    computed = sum(o["forward"] + o["backward"] for o in t["operators"])
    assert 0.5 < computed / (p["forward"] + p["backward"]) <= 1, (computed, p)
assert json.load(open("times/0.json"))["phases"]["write"] > 0
END

# Gradients of large weights are made when they are summed (stages/trainer_late.c), piece by piece, where a rank has several shards.
must 0 create mlp --layers 64,512,10 --seed 1 --output wide.onnx
train=(train --model wide.onnx --dataset "$digits" --epochs 1 --batch 64 --shards 4 --quiet)
for n in 1 4; do MPISTILL_PROFILE=$work/on$n must $n "${train[@]}" --output "wide$n.onnx"; done
same 'the bytes are those of one shard a rank' wide1.onnx wide4.onnx
if grep -q avx2 /proc/cpuinfo; then
  python_check 'several shards a rank: pieces are made beside the operators' <<'END'
import json
def calls(n):
    return sum(o["backward_calls"] for r in range(n) for o in json.load(open(f"on{n}/{r}.json"))["operators"] if o["name"] == "Gemm")
assert calls(4) == 23 * 4 * 2, calls(4)  # steps, shards, layers
assert calls(1) >= calls(4) + 23 * 4 * 2, calls(1)  # two pieces or more of 512 rows
END
fi

MPISTILL_PROFILE=$work/deep/folder must 2 "${train[@]}" --output other.onnx
check 'a folder is made' test -s deep/folder/1.json
echo >file
MPISTILL_PROFILE=$work/file run 2 "${train[@]}" --output third.onnx
expect_error 'a file is in its place' 2 'file: is a file, a folder is needed'
check 'nothing was computed' test ! -e third.onnx
finish
