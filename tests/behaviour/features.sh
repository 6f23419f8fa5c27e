#!/bin/bash
# Losses between inner tensors: stored by teach --tap, read by distill, the same student on any number of ranks, stopped and resumed.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5
must 0 create cnn --input 1x8x8 --classes 10 --channels 8,12 --kernel 3 --hidden 24 --seed 1 --output fresh.onnx
must 0 create cnn --input 1x8x8 --classes 10 --channels 4,6 --kernel 3 --hidden 12 --seed 2 --output student.onnx
must 0 create mlp --layers 64,20,16,10 --seed 3 --output mlp.onnx
must 0 create mlp --layers 64,12,8,10 --seed 4 --output small.onnx
must 2 train --model fresh.onnx --dataset digits.h5 --epochs 2 --batch 128 --quiet --output teacher.onnx

# ---- taps ----
must 0 inspect teacher.onnx --json
python_check 'a model tells what a tap can name' <<'END'
import json
tensors = json.load(open("out"))["tensors"]
assert tensors["conv2"]["shape"] == ["N", 12, 4, 4] and tensors["hidden"]["shape"] == ["N", 24], tensors
END
teach() { run "$1" teach --dataset digits.h5 --dtype float32 --block 100 --output "$2" "${@:3}"; }
for n in 1 2 4; do
  teach "$n" "soft$n" --teacher teacher.onnx --tap conv1 --tap act1 --tap conv2 --tap hidden
  [ "$status" = 0 ] || fail "teach on $n ranks"
done
same 'the same taps on 1 and 2 ranks' soft1/teacher.h5 soft2/teacher.h5
same 'the same taps on 1 and 4 ranks' soft1/teacher.h5 soft4/teacher.h5
must 0 inspect soft1/teacher.h5 --verify --json
teach 2 both --teacher teacher.onnx --teacher mlp.onnx --tap teacher=conv2 --tap mlp=act1 --tap mlp=act2 --tap logits
python_check 'the tensors are those of the model' <<'END'
import h5py, torch, torch.nn.functional as F, checks
w = [torch.tensor(x) for x in checks.weights("teacher.onnx")]
x = torch.tensor(checks.inputs("digits.h5", "train"))
conv1 = F.conv2d(x, w[0], w[1], padding=1)
conv2 = F.conv2d(F.max_pool2d(F.relu(conv1), 2), w[2], w[3], padding=1)
hidden = F.linear(F.max_pool2d(F.relu(conv2), 2).flatten(1), w[4], w[5])
with h5py.File("soft1/teacher.h5") as f:
    assert sorted(f["features"]) == ["act1", "conv1", "conv2", "hidden"]
    for name, wanted in {"conv1": conv1, "act1": F.relu(conv1), "conv2": conv2, "hidden": hidden}.items():
        checks.close(f["features"][name][...], wanted.numpy(), 1e-5, name)
with h5py.File("both/teacher.h5") as f, h5py.File("both/mlp.h5") as g:
    assert sorted(f["features"]) == ["conv2", "logits"] and sorted(g["features"]) == ["act1", "act2", "logits"]
END
teach 2 none --teacher teacher.onnx --tap conv3
expect_error 'a tap that is not there' 2 "has no inner tensor 'conv3'" "did you mean 'conv"
teach 2 soft1 --teacher teacher.onnx --tap conv1
expect_error 'a file with other taps is not overwritten' 2 'another list of taps'
python_check 'a damaged tensor' <<'END'
import shutil, h5py
shutil.copy("soft1/teacher.h5", "damaged.h5")
with h5py.File("damaged.h5", "r+") as f:
    f["features/conv2"][700, 3, 2, 1] += 1
END
run 0 inspect damaged.h5 --verify
expect_error 'a damaged tensor is found' 2 'checksums of blocks 5'

# ---- every loss ----
# distil RANKS NAME OPTION...
distil() {
  rm -f "$2.jsonl"
  must "$1" distill --student student.onnx --dataset digits.h5 --soft-labels soft1/teacher.h5 --features-from both/teacher.h5 --loss kd:0.1 \
    --batch 300 --shards 4 --epochs 3 --quiet --log "$2.jsonl" --output "$2.onnx" "${@:3}"
}
kinds=$("$mpistill" distill --help-losses | sed -n 's/^--feature \([a-z-]*\)$/\1/p')
check 'the losses between tensors there are' test "$(echo "$kinds" | wc -l)" -ge 10
all=()
for kind in $kinds; do
  case $kind in
  attention-maps | nst | attention) feature=$kind:10:student=conv2:teacher=conv2 ;;
  relation) feature=$kind:10:student=conv2:teacher=conv2:heads=2 ;;
  gram) feature=$kind:10:student=logits:teacher=logits:student_to=logits:teacher_to=logits ;;
  similarity) feature=$kind:300:student=hidden:teacher=hidden ;;
  pkt) feature=$kind:1e5:student=hidden:teacher=hidden ;;
  *) feature=$kind:1:student=hidden:teacher=hidden ;;
  esac
  all+=(--feature "$feature")
  distil 1 "$kind" --feature "$feature" --learning-rate 0.02
  python_check "$kind: the loss falls" "$kind" <<'END'
import sys, checks
values = [value for line in checks.events(sys.argv[1] + ".jsonl") for name, value in line["loss"].items() if name.startswith(sys.argv[1] + ":")]
assert len(values) == 3 and values[-1] < values[0], values
END
done
for ranks in 1 2 4; do
  distil "$ranks" "all-$ranks" "${all[@]}" --learning-rate 0.001
  [ "$ranks" = 1 ] || same "all of them: the same student on $ranks ranks" all-1.onnx "all-$ranks.onnx"
done
differ 'they make a difference' all-1.onnx hint.onnx
python_check 'what a loss learns is left out of the student' <<'END'
import json, onnx
got, had = onnx.load("hint.onnx").graph, onnx.load("student.onnx").graph
assert [t.name for t in got.initializer] == [t.name for t in had.initializer]
assert [list(t.dims) for t in got.initializer] == [list(t.dims) for t in had.initializer]
END

# ---- stopped after each step, gone on with on other ranks ----
both=(--feature hint:1:student=conv2:teacher=conv2 --feature vid:0.5:student=hidden:teacher=hidden --optimizer adamw)
slow=(--student student.onnx --dataset digits.h5 --soft-labels soft1/teacher.h5 "${both[@]}" --learning-rate 0.01 --batch 500
  --shards 4 --epochs 2 --quiet)
must 2 distill "${slow[@]}" --output whole.onnx
export MPISTILL_END_TIME=1
stops=0
for ranks in 1 2 4 2 1 4 2; do
  run "$ranks" distill "${slow[@]}" --stop-before 10 --output parts.onnx
  [ "$status" = 75 ] || break
  stops=$((stops + 1))
done
unset MPISTILL_END_TIME
check 'stopped in the middle of epochs' test "$stops" -ge 4
run 1 distill "${slow[@]}" --output parts.onnx
same 'resumed: the same student as in one go' whole.onnx parts.onnx

# ---- layers, two teachers, an ensemble ----
still() {
  rm -f "$1.jsonl"
  must 1 distill --student small.onnx --dataset digits.h5 --learning-rate 0 --batch 1437 --shards 1 --epochs 1 --quiet --log "$1.jsonl" \
    --output "$1.onnx" --force "${@:2}"
}
still layers --soft-labels both/mlp.h5 --feature 'similarity:1:student=act{}:teacher=act{}:layers=1-2,2-1' --feature \
  hint:1:student=logits:teacher=logits:projector=none
must 2 aggregate both/teacher.h5 both/mlp.h5 --method logit-mean --quiet --output ensemble.h5
still ensemble --soft-labels ensemble.h5 --features-from both/mlp.h5 --features-from both/teacher.h5 --feature \
  rkd:1:student=act2:teacher=logits:from=mlp
python_check 'losses of layers and of a named teacher' <<'END'
import h5py, numpy as np, torch, torch.nn.functional as F, checks
w = [torch.tensor(x) for x in checks.weights("small.onnx")]
x = torch.tensor(checks.inputs("digits.h5", "train")).flatten(1)
act1 = F.relu(F.linear(x, w[0], w[1]))
act2 = F.relu(F.linear(act1, w[2], w[3]))
logits = F.linear(act2, w[4], w[5])
with h5py.File("both/mlp.h5") as f:
    t = {k: torch.tensor(v[...].astype(float)) for k, v in f["features"].items()}
logged = checks.events("layers.jsonl")[0]["loss"]


def similarity(s, t):
    return ((F.normalize(s @ s.T) - F.normalize(t @ t.T)) ** 2).sum().item() / len(s) ** 2


checks.close(logged["similarity:act1"], similarity(act1, t["act2"]), 1e-4, "layers 1-2")
checks.close(logged["similarity:act2"], similarity(act2, t["act1"]), 1e-4, "layers 2-1")
checks.close(logged["hint:logits"], F.mse_loss(logits, t["logits"]).item(), 1e-5, "hint without a projector")
checks.close(logged["total"], sum(v for k, v in logged.items() if ":" in k) + 0.9 * logged["kd"] + 0.1 * logged["cross-entropy"], 1e-6, "sum")
assert "rkd:act2" in checks.events("ensemble.jsonl")[0]["loss"]
END

# ---- one step of SGD beside PyTorch: the gradient through inner tensors ----
must 2 distill --student student.onnx --dataset digits.h5 --soft-labels soft1/teacher.h5 --loss kd:0.5:temperature=2 --feature \
  attention:3:student=conv2:teacher=conv2 --feature hint:0.7:student=conv1:teacher=logits:projector=mean --features-from both/teacher.h5 \
  --feature gram:0.2:student=logits:teacher=logits --learning-rate 0.1 --momentum 0 --schedule constant --batch 1437 --shards 2 --epochs 1 \
  --quiet --log step.jsonl --output step.onnx
python_check 'a step beside PyTorch' <<'END'
import h5py, numpy as np, torch, torch.nn.functional as F, checks
w = [torch.tensor(x, requires_grad=True) for x in checks.weights("student.onnx")]
after = checks.weights("step.onnx")
x = torch.tensor(checks.inputs("digits.h5", "train"))
with h5py.File("soft1/teacher.h5") as f:
    t_conv2, soft = (torch.tensor(f[k][...].astype(float)) for k in ("features/conv2", "logits"))
conv1 = F.conv2d(x, w[0], w[1], padding=1)
conv2 = F.conv2d(F.max_pool2d(F.relu(conv1), 2), w[2], w[3], padding=1)
hidden = F.linear(F.max_pool2d(F.relu(conv2), 2).flatten(1), w[4], w[5])
z = F.linear(F.relu(hidden), w[6], w[7])
a, b = (F.normalize((m**2).mean(1).flatten(1)) for m in (conv2, t_conv2))
loss = 0.5 * 4 * F.kl_div(F.log_softmax(z / 2, 1), F.log_softmax(soft / 2, 1), log_target=True, reduction="batchmean")
loss = loss + 3 * ((a - b) ** 2).sum(1).mean()
loss = loss + 0.2 * ((z[:, :, None] * z[:, None] - soft[:, :, None] * soft[:, None]) ** 2).mean()
grads = torch.autograd.grad(loss, w, retain_graph=True)
# The learned projector is not in any file: conv1 gets, beside that, what 0.7 * its loss says, in the bias and weights of conv1 alone.
for i in range(2, 8):
    step = (w[i].detach().numpy() - after[i]) / 0.1
    off = np.linalg.norm(step - grads[i].numpy()) / np.linalg.norm(grads[i])
    assert off < 1e-4, f"parameter {i} is off by {off}"
moved = np.linalg.norm((w[0].detach().numpy() - after[0]) / 0.1 - grads[0].numpy()) / np.linalg.norm(grads[0])
assert moved > 1e-3, "no gradient came through the projector"
END

# ---- features alone: FitNets' first stage ----
must 2 distill --student student.onnx --dataset digits.h5 --soft-labels soft1/teacher.h5 --loss kd:0 --feature hint:1:student=conv2:teacher=conv2 \
  --epochs 2 --quiet --log alone.jsonl --output alone.onnx
python_check 'features alone train what lies before the tensor' <<'END'
import numpy as np, checks
moved = [not np.array_equal(a, b) for a, b in zip(checks.weights("student.onnx"), checks.weights("alone.onnx"))]
assert moved == [True] * 4 + [False] * 4, moved
first, last = (e["loss"] for e in checks.events("alone.jsonl"))
assert last["hint:conv2"] < first["hint:conv2"] and abs(last["total"] - last["hint:conv2"]) < 1e-6, last
END
run 1 distill --student student.onnx --dataset digits.h5 --soft-labels soft1/teacher.h5 --loss kd:0 --feature hint:0:student=conv2:teacher=conv2 \
  --output never.onnx
expect_error 'no loss with a weight' 2 'all weights are 0'

# ---- a recipe: teachers store what the losses read ----
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
seed: 3
teachers:
  - {name: conv, model: teacher.onnx}
  - {name: flat, model: mlp.onnx, taps: [act2]}
student: {create: mlp, layers: [64, 16, 10]}
distill:
  losses: [{kind: kd, weight: 1, temperature: 4}]
  features:
    - {kind: hint, weight: 0.5, student: act1, teacher: hidden, from: conv}
    - {kind: similarity, weight: 100, student: act1, teacher: 'act{}', from: flat, layers: 1-1}
  epochs: 2
  batch: 256
END
must 2 run recipe.yaml --quiet
python_check 'a recipe with losses between tensors' <<'END'
import h5py, checks
names = {k: sorted(h5py.File(f"run/soft/{k}.h5").get("features", {})) for k in ("conv", "flat", "test/conv")}
assert names == {"conv": ["hidden"], "flat": ["act1", "act2"], "test/conv": []}, names
losses = [e["loss"] for e in checks.events("run/run.jsonl") if "loss" in e]
assert "hint:act1" in losses[-1] and "similarity:act1" in losses[-1], losses
END
cp run/student.onnx first.onnx
sed 's/^output: run$/output: again/' recipe.yaml >again.yaml
must 1 run again.yaml --quiet
same 'the recipe gives the same student on 1 rank' first.onnx again/student.onnx
refuse_recipe() { # NAME SED TEXT...
  sed "$2" recipe.yaml >bad.yaml
  run 1 run bad.yaml --dry-run
  expect_error "$1" 2 "${@:3}"
}
refuse_recipe 'a recipe that names no teacher' 's/, from: conv//' "feature 'hint': from names one of the teachers"
refuse_recipe "a tensor that the teacher has not" 's/teacher: hidden/teacher: hiden/' "has no inner tensor 'hiden'" "did you mean 'hidden'"
refuse_recipe "a tensor that the student has not" 's/student: act1, teacher: hidden/student: act9, teacher: hidden/' "has no inner tensor 'act9'"
refuse_recipe 'an option of another loss' 's/from: conv}/from: conv, heads: 2}/' "feature 'hint' has no heads"
refuse_recipe 'an assistant that would learn nothing' 's/kind: kd, weight: 1/kind: kd, weight: 0/
/^student/a assistants: [{name: mid, create: mlp, layers: [64, 20, 10]}]' 'assistants: learn from losses alone'
refuse_recipe 'shapes that do not go together' 's/student: act1, teacher: hidden/student: act1, teacher: conv2/' \
  "feature 'hint': the student's 'act1' is [?, 16], the teacher's 'conv2' is [?, 12, 4, 4]"
refuse_recipe 'layers that are no pairs' 's/layers: 1-1/layers: 1/' 'pairs were expected'

# ---- refused before the first step ----
# refuse NAME FEATURE TEXT... of a distillation with both teachers' files
refuse() {
  run 1 distill --student student.onnx --dataset digits.h5 --soft-labels both/teacher.h5 --soft-labels both/mlp.h5 --feature "$2" --epochs 1 \
    --batch "${batch:-128}" --shards 4 --quiet --output never.onnx
  expect_error "$1" 2 "${@:3}"
}
refuse 'two teachers have such a tensor' hint:1:student=hidden:teacher=logits "teachers 'teacher' and 'mlp' have a tensor 'logits'" 'from'
refuse 'no file has such a tensor' hint:1:student=hidden:teacher=conv1 "has a tensor 'conv1'" 'teach --tap'
refuse 'a teacher without that tensor' hint:1:student=hidden:teacher=conv2:from=mlp "of teacher mlp"
refuse 'shapes that do not go together' hint:1:student=conv1:teacher=conv2 '[?, 4, 8, 8]' '[?, 12, 4, 4]' 'position by position'
refuse 'an input is no inner tensor' hint:1:student=input:teacher=conv2 "has no inner tensor 'input'; 'mpistill inspect'"
refuse 'a loss without projectors names none' vid:1:student=conv1:teacher=conv2 'position by position'
check 'a loss without projectors names none: nor in its message' bash -c '! grep -q projector err'
batch=5 refuse 'a shard of one row' rkd:1:student=hidden:teacher=conv2 'compares the rows of a shard'
refuse 'an option that the loss does not read' rkd:1:student=hidden:teacher=conv2:heads=2 "'rkd' has no heads"
refuse 'a loss that is not known' hinge:1:student=a:teacher=b 'hinge'
refuse 'no tensors' hint:1 'student=TENSOR'
refuse 'one second tensor alone' gram:1:student=conv2:teacher=conv2:student_to=conv1 'go together'
run 1 distill --student student.onnx --dataset digits.h5 --soft-labels both/mlp.h5 --features-from both/teacher.h5 --output never.onnx
expect_error 'files for no loss' 2 '--features-from'
finish
