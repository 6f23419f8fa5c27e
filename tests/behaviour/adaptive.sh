#!/bin/bash
# Distillation that adapts: the rule against the log, teachers that are left out, the same bytes on any number of ranks and after a kill.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

"$python" - "$digits" <<'END'
import h5py, sys
with h5py.File(sys.argv[1]) as f, h5py.File("set.h5", "w") as out:
    out.attrs.update({"format": "mpistill-dataset", "version": 1})
    for name, source, begin, end in (("train", "train", 0, 1100), ("held-out", "train", 1100, 1437), ("test", "test", 0, 360)):
        for key in ("image", "label"): out[f"{name}/{key}"] = f[source][key][begin:end]
        out[f"{name}/image"].attrs.update(f["train/image"].attrs)
END
# A good teacher, and one that is soon overtaken.
for t in good:30 poor:1; do
  must 0 create mlp --layers 64,64,10 --seed 3 --output "${t%:*}0.onnx"
  must 2 train --model "${t%:*}0.onnx" --dataset set.h5 --epochs "${t#*:}" --batch 64 --learning-rate 0.03 --quiet --output "${t%:*}.onnx"
done
must 2 teach --dataset set.h5 --teacher good.onnx --teacher poor.onnx --dtype float32 --output soft
must 2 teach --dataset set.h5 --split held-out --teacher good.onnx --teacher poor.onnx --dtype float32 --output held
must 0 create mlp --layers 64,24,10 --seed 5 --output student.onnx
common=(--student student.onnx --dataset set.h5 --soft-labels soft/good.h5 --soft-labels soft/poor.h5 --adaptive-split held-out
  --adaptive-labels held/good.h5 --adaptive-labels held/poor.h5 --kd-weight 0.8 --temperature 5 --batch 64 --shards 4)
must 1 distill "${common[@]}" --epochs 5 --log log.jsonl --quiet --output one.onnx
python_check 'weight, temperature and teachers follow from the gap' <<'END'
import checks, numpy as np
y = checks.labels("set.h5", "held-out")
def nll(z): return -checks.log_softmax(z)[np.arange(len(y)), y].mean()
teachers = [nll(checks.logits(f"held/{t}.h5")) for t in ("good", "poor")]
epochs = [e["adaptive"] for e in checks.events("log.jsonl")]
assert abs(epochs[0]["nll"] - nll(checks.mlp("student.onnx", checks.inputs("set.h5", "held-out")))) < 1e-4
for e in epochs:
    r = max(1 - min(teachers) / e["nll"], 0.1)
    assert abs(e["kd_weight"] - 0.8 * r) < 1e-4 and abs(e["temperature"] - (1 + 4 * r)) < 1e-4, (e, r)
    wanted = [1, 0] if teachers[1] >= e["nll"] else [0.5, 0.5]
    assert e["weights"] == wanted, (e, teachers)
assert epochs[0]["weights"] == [0.5, 0.5] and epochs[-1]["weights"] == [1, 0], epochs
END
must 1 distill "${common[@]}" --weights 0,1 --epochs 2 --log poor.jsonl --quiet --output of-poor.onnx
python_check 'a teacher of weight 0 decides nothing' <<'END'
import checks, numpy as np
y = checks.labels("set.h5", "held-out")
poor = -checks.log_softmax(checks.logits("held/poor.h5"))[np.arange(len(y)), y].mean()
for e in (e["adaptive"] for e in checks.events("poor.jsonl")):
    assert e["weights"] == [0, 1] and abs(e["kd_weight"] - 0.8 * max(1 - poor / e["nll"], 0.1)) < 1e-4, (e, poor)
END
# A first epoch is one with the losses that it says.
must 1 distill "${common[@]}" --epochs 1 --log first.jsonl --quiet --output first.onnx
read -r kd temperature < <("$python" -c 'import checks; e = checks.events("first.jsonl")[0]["adaptive"]; print(repr(e["kd_weight"]), repr(e["temperature"]))')
must 1 distill --student student.onnx --dataset set.h5 --soft-labels soft/good.h5 --soft-labels soft/poor.h5 --loss "kd:$kd:temperature=$temperature" \
  --loss "cross-entropy:$("$python" -c "print(1 - $kd)")" --batch 64 --shards 4 --epochs 1 --quiet --output hand.onnx
python_check 'the first epoch is one with these losses' <<'END'
import checks
a, b = (checks.mlp(f, checks.inputs("set.h5", "test")) for f in ("first.onnx", "hand.onnx"))
assert abs(a - b).max() < 1e-4
END

# ---- ranks, kill ----
for n in 2 4; do
  must $n distill "${common[@]}" --epochs 5 --quiet --output "on$n.onnx"
  same "the same student on $n ranks" one.onnx "on$n.onnx"
done
must 1 distill "${common[@]}" --epochs 30 --quiet --output whole.onnx
start 2 distill "${common[@]}" --epochs 30 --checkpoint-seconds 0.02 --quiet --output again.onnx
for ((waited = 0; waited < 200; waited++)); do [ ! -e again.onnx.ckpt/1.h5 ] || break; sleep 0.02; done
kill_job
must 4 distill "${common[@]}" --epochs 30 --quiet --output again.onnx
same 'killed, and gone on with on 4 ranks' whole.onnx again.onnx
cat >recipe.yaml <<'END'
dataset: set.h5
output: run
teachers:
  - {name: good, model: good.onnx}
  - {name: poor, model: poor.onnx}
teach: {dtype: float32}
student: {model: student.onnx}
distill: {adaptive_split: held-out, kd_weight: 0.8, temperature: 5, epochs: 5, batch: 64, shards: 4}
END
must 2 run recipe.yaml --quiet
same 'in a recipe' one.onnx run/student.onnx

# ---- bad input ----
refuse() { # WHAT MESSAGE OPTION...
  run 2 distill --student student.onnx --dataset set.h5 --soft-labels soft/good.h5 --soft-labels soft/poor.h5 --output never.onnx "${@:3}"
  expect_error "$1" 2 "$2"
  check "$1: nothing is written" test ! -e never.onnx
}
both=(--adaptive-labels held/good.h5 --adaptive-labels held/poor.h5)
refuse 'too few files' 'needed is one for each' --adaptive-split held-out --adaptive-labels held/good.h5
refuse 'files of another split' "is of split 'train'" --adaptive-split held-out --adaptive-labels soft/good.h5 --adaptive-labels soft/poor.h5
refuse 'the test split' 'what is chosen there cannot be tested there' --adaptive-split test "${both[@]}"
refuse 'the split to learn from' 'is the split to learn from' --adaptive-split train "${both[@]}"
refuse 'a split that is not there' 'nowhere' --adaptive-split nowhere "${both[@]}"
refuse "losses of one's own" 'leave out losses' --adaptive-split held-out "${both[@]}" --loss kd:1
refuse 'a rule without weights' 'has no weights' --adaptive-split held-out "${both[@]}" --method aekd
refuse 'files for nothing' 'adaptive-split names the rows' "${both[@]}"
run 2 run recipe.yaml --set output=never --set distill.adaptive_split=train
expect_error 'a recipe with the split to learn from' 2 'is the split to learn from'
check 'a recipe with the split to learn from: before anything is made' test ! -e never
finish
