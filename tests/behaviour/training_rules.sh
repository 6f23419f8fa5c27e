#!/bin/bash
# What depends on the student: a temperature that is learned, rules that combine teachers step by step.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5
must 0 create mlp --layers 64,24,10 --seed 1 --output student.onnx
for seed in 2 3 4; do
  must 0 create mlp --layers 64,40,10 --seed "$seed" --output "fresh$seed.onnx"
  must 2 train --model "fresh$seed.onnx" --dataset digits.h5 --epochs $((seed - 1)) --batch 100 --seed "$seed" --quiet --output "t$seed.onnx"
done
must 2 teach --dataset digits.h5 --teacher t2.onnx --teacher t3.onnx --teacher t4.onnx --dtype float32 --output soft
teachers=(--soft-labels soft/t2.h5 --soft-labels soft/t3.h5 --soft-labels soft/t4.h5)
# distil RANKS NAME OPTION...
distil() {
  rm -f "$2.jsonl"
  run "$1" distill --student student.onnx --dataset digits.h5 --batch "${batch:-300}" --shards "${shards:-4}" --epochs "${epochs:-3}" --quiet --log "$2.jsonl" --output "$2.onnx" \
    "${@:3}"
}

# ---- a temperature that is learned ----
learned=(--soft-labels soft/t4.h5 --loss kd:1:temperature=4:learn_temperature=true)
for ranks in 1 2 4; do distil "$ranks" "t-$ranks" "${learned[@]}"; done
same 'learned temperature: the same student on 2 ranks' t-1.onnx t-2.onnx
same 'learned temperature: the same student on 4 ranks' t-1.onnx t-4.onnx
distil 2 fixed --soft-labels soft/t4.h5 --loss kd:1:temperature=4
differ 'it is another student than with the first temperature' t-1.onnx fixed.onnx
python_check 'the temperature is told, and moves' <<'END'
import checks
spans = [e["temperature"]["kd"] for e in checks.events("t-1.jsonl")]
got = [s["next"] for s in spans]
assert len(got) == 3 and all(1 < t < 21 for t in got) and got[0] != 4 and got[2] != got[0], got
assert all(s["least"] <= s["mean"] <= s["most"] and s["least"] < s["most"] for s in spans), spans
assert all(s["least"] - 1e-6 <= before <= s["most"] + 1e-6 for s, before in zip(spans, [4, *got])), spans
assert not any("temperature" in e for e in checks.events("fixed.jsonl"))
END
export MPISTILL_END_TIME=1
for ranks in 2 1 4; do distil "$ranks" parts "${learned[@]}" --stop-before 10; done
check 'stopped' test "$status" = 75
unset MPISTILL_END_TIME
distil 2 parts "${learned[@]}"
same 'resumed: the same student as in one go' t-1.onnx parts.onnx
# From 8 down to 2 over ten steps, one in the middle of a second epoch that is stopped and gone on with.
moving=(--soft-labels soft/t4.h5 --loss kd:1:temperature=8:temperature_end=2)
epochs=2 distil 1 moving "${moving[@]}" --json
cp out moving.json
export MPISTILL_END_TIME=1
for ranks in 2 1 4; do epochs=2 distil "$ranks" halves "${moving[@]}" --stop-before 10; done
unset MPISTILL_END_TIME
cp halves.jsonl halves-1.jsonl
epochs=2 distil 2 halves "${moving[@]}"
cat halves.jsonl >>halves-1.jsonl
python_check 'a temperature that is scheduled is told as well, of all steps of an epoch that was stopped' <<'END'
import json, numpy as np, checks
steps = 8 - 6 * np.arange(10) / 9
wanted = [dict(least=s.min(), mean=s.mean(), most=s.max()) for s in (steps[:5], steps[5:])]
for name in ("moving", "halves-1"):
    told = [e["temperature"]["kd"] for e in checks.events(name + ".jsonl")]
    assert len(told) == 2, told
    for s, w in zip(told, wanted):
        checks.close([s[k] for k in w], list(w.values()), 1e-7, name)
    checks.close([s["next"] for s in told], [steps[5], 2], 1e-7, "next")
final = json.load(open("moving.json"))["temperature"]["kd"]
checks.close([final[k] for k in told[1]], list(told[1].values()), 1e-7, "the result")
END
must 2 aggregate soft/t2.h5 soft/t3.h5 --temperature 4 --quiet --output ensemble.h5
distil 1 never --soft-labels ensemble.h5 --loss kd:1:temperature=4:learn_temperature=true
expect_error 'an ensemble made for one temperature' 2 'made for temperature 4' "that of loss 'kd' moves"
distil 1 never --soft-labels soft/t4.h5 --loss kd:1:temperature=30:learn_temperature=true
expect_error 'a temperature out of its range' 2 'begins above 1 and below 21'
distil 1 never --soft-labels soft/t4.h5 --loss reverse-kl:1:learn_temperature=true
expect_error 'a loss that learns none' 2 "'reverse-kl' has no learn_temperature"
# Two steps, beside PyTorch: at the first the slope does not count yet, at the last it does fully.
batch=1437 shards=2 epochs=2 distil 1 two "${learned[@]}" --learning-rate 0.5 --momentum 0 --schedule constant
python_check 'the temperature moves up the slope' <<'END'
import numpy as np, torch, torch.nn.functional as F, checks
w = [torch.tensor(x, requires_grad=True) for x in checks.weights("student.onnx")]
x = torch.tensor(checks.inputs("digits.h5", "train")).flatten(1)
t = torch.tensor(checks.logits("soft/t4.h5").astype(float))
at = torch.tensor(float(np.log(3 / 17)), requires_grad=True)
temperatures = []
for progress in (0, 1):
    T = 1 + 20 * torch.sigmoid(at)
    z = F.linear(F.relu(F.linear(x, w[0], w[1])), w[2], w[3])
    loss = T**2 * F.kl_div(F.log_softmax(z / T, 1), F.log_softmax(t / T, 1), log_target=True, reduction="batchmean")
    grads = torch.autograd.grad(loss, [at, *w])
    with torch.no_grad():
        at += 0.5 * (1 - np.cos(np.pi * progress)) / 2 * grads[0]
        for p, g in zip(w, grads[1:]):
            p -= 0.5 * g
    temperatures.append(1 + 20 / (1 + np.exp(-at.item())))
spans = [e["temperature"]["kd"] for e in checks.events("two.jsonl")]
checks.close([s["next"] for s in spans], temperatures, 1e-4, "temperatures")
checks.close([s[k] for s in spans for k in ("least", "mean", "most")], np.repeat([4, temperatures[0]], 3), 1e-4, "one step an epoch")
END

# ---- only rows that the teachers are sure of ----
batch=1437 shards=1 epochs=1 distil 1 sure --soft-labels soft/t4.h5 --loss kd:1:temperature=2 --confidence 0.9 --learning-rate 0
batch=1437 shards=1 epochs=1 distil 1 sure2 --soft-labels soft/t4.h5 --soft-labels soft/t3.h5 --method logit-mean --loss kd:1:temperature=2 \
  --loss reverse-kl:1:temperature=1 --confidence 0.9 --learning-rate 0
python_check 'rows below the confidence have no soft loss' <<'END'
import numpy as np, checks
z = checks.mlp("student.onnx", checks.inputs("digits.h5", "train"))
one = checks.logits("soft/t4.h5").astype(float)
both = (one + checks.logits("soft/t3.h5")) / 2
for name, t in {"sure": one, "sure2": both}.items():
    sure = np.exp(checks.log_softmax(t)).max(1) >= 0.9
    assert 0.1 < sure.mean() < 0.99, sure.mean()
    logged = checks.events(name + ".jsonl")[0]["loss"]
    checks.close(logged["kd"], (checks.kd(t, z, 2) * sure).mean(), 1e-5, name)
    if name == "sure2":
        checks.close(logged["reverse-kl"], (checks.kd(z, t, 1) * sure).mean(), 1e-5, "reverse")
END

# ---- rules of training ----
tensor=()
for method in aekd random-batch amtml; do
  [ $method != amtml ] || tensor=(--method-tensor act1)
  for ranks in 1 2 4; do distil "$ranks" "$method-$ranks" "${teachers[@]}" --method "$method" "${tensor[@]}" --temperature 3; done
  same "$method: the same student on 2 ranks" "$method-1.onnx" "$method-2.onnx"
  same "$method: the same student on 4 ranks" "$method-1.onnx" "$method-4.onnx"
  run 1 aggregate soft/t2.h5 soft/t3.h5 --method "$method" --output never.h5
  expect_error "$method is none of aggregate" 2 "method '$method' is one of distill"
done
start 2 distill --student student.onnx --dataset digits.h5 "${teachers[@]}" --method amtml --method-tensor act1 --temperature 3 --epochs 40 --batch 64 \
  --checkpoint-seconds 0.05 --quiet --output again.onnx
for ((waited = 0; waited < 200; waited++)); do [ ! -d again.onnx.ckpt ] || break; sleep 0.05; done
kill_job
must 4 distill --student student.onnx --dataset digits.h5 "${teachers[@]}" --method amtml --method-tensor act1 --temperature 3 --epochs 40 --batch 64 --quiet \
  --output again.onnx
must 1 distill --student student.onnx --dataset digits.h5 "${teachers[@]}" --method amtml --method-tensor act1 --temperature 3 --epochs 40 --batch 64 --quiet \
  --output whole.onnx
same 'amtml: killed, and gone on with on 4 ranks' whole.onnx again.onnx
refuse_amtml() { # WHAT MESSAGE OPTION...
  run 2 distill --student student.onnx --dataset digits.h5 "${teachers[@]}" --method amtml --output never.onnx "${@:3}"
  expect_error "$1" 2 "$2"
}
refuse_amtml 'amtml without a tensor' "method-tensor names the student's tensor"
refuse_amtml 'amtml of a tensor that is not there' "has no inner tensor 'act9'" --method-tensor act9
refuse_amtml 'amtml with another loss' "learns from one loss 'kd' alone" --method-tensor act1 --loss jsd:1:temperature=2
refuse_amtml 'amtml of sure rows' "learns from one loss 'kd' alone" --method-tensor act1 --confidence 0.5
refuse_amtml 'amtml of mixed rows' 'gives weights to rows' --method-tensor act1 --augment mixup --fixed-labels
run 2 distill --student student.onnx --dataset digits.h5 "${teachers[@]}" --method aekd --method-tensor act1 --output never.onnx
expect_error 'a tensor for another method' 2 "is for method 'amtml'"
distil 2 mean "${teachers[@]}" --temperature 3
differ 'aekd is not the mean' aekd-1.onnx mean.onnx
differ 'amtml is not the mean' amtml-1.onnx mean.onnx
batch=48 shards=1 epochs=1 distil 1 lots "${teachers[@]}" --method random-batch --loss kd:1:temperature=1 --learning-rate 0
python_check 'every batch has one teacher: the mean of their losses, as often as they were drawn' <<'END'
import itertools, numpy as np, checks
z = checks.mlp("student.onnx", checks.inputs("digits.h5", "train"))
losses = [checks.kd(checks.logits(f"soft/t{k}.h5"), z, 1).mean() for k in (2, 3, 4)]
got = checks.events("lots.jsonl")[0]["loss"]["kd"]
assert min(losses) < got < max(losses), (losses, got)
shares = [np.dot(n, losses) / 30 for n in itertools.product(range(31), repeat=3) if sum(n) == 30]
assert min(abs(s - got) for s in shares) < 0.05, got
END
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
teachers:
  - {name: a, model: t2.onnx}
  - {name: b, model: t3.onnx}
  - {name: c, model: t4.onnx}
aggregate: {method: aekd}
student: {model: student.onnx}
distill: {losses: [{kind: kd, weight: 1, temperature: 3}], epochs: 2, batch: 256}
END
must 2 run recipe.yaml --quiet
check 'a recipe needs no ensemble for them' test -s run/student.onnx -a ! -e run/ensemble.h5
must 1 distill --student student.onnx --dataset digits.h5 --soft-labels run/soft/a.h5 --soft-labels run/soft/b.h5 --soft-labels run/soft/c.h5 \
  --method aekd --loss kd:1:temperature=3 --epochs 2 --batch 256 --quiet --output hand.onnx
same 'a recipe gives what distill gives' hand.onnx run/student.onnx
must 2 run recipe.yaml --set aggregate='{method: amtml, tensor: act1}' --set output=amtml --quiet
must 1 distill --student student.onnx --dataset digits.h5 --soft-labels run/soft/a.h5 --soft-labels run/soft/b.h5 --soft-labels run/soft/c.h5 \
  --method amtml --method-tensor act1 --loss kd:1:temperature=3 --epochs 2 --batch 256 --quiet --output hand2.onnx
same 'amtml in a recipe' hand2.onnx amtml/student.onnx
run 0 plan recipe.yaml --json
check 'plan of a rule of training' test "$status" = 0
finish
