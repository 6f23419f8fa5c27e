#!/bin/bash
# Losses that explode: back to the last good epoch at half the rate, told and logged, and at last an end. Losses that only look so are let be.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5
"$python" - <<'END' || exit 1
import checks, numpy as np
r = np.random.default_rng(1)
x = r.normal(size=(2000, 8)).astype("f4")
y = x @ r.normal(size=8)
def write(name, targets, test):
    checks.write_dataset(name, {"train": {"x": x[:1600], "target": targets[:1600, None].astype("f4")},
                                "test": {"x": test.astype("f4"), "target": targets[1600:, None].astype("f4")}})
write("large.h5", 40 + 10 * y, x[1600:])
write("rare.h5", np.where(r.random(2000) < 0.01, 300 * np.abs(y), 0), x[1600:])  # in most batches of 8 there is none
write("edge.h5", y, np.full((400, 8), 3e38))
END
must 0 create mlp --layers 64,10 --seed 1 --output digits.onnx
must 0 create mlp --layers 8,64,1 --seed 1 --output numbers.onnx
must 0 create mlp --layers 8,1 --seed 1 --output line.onnx
digits=(train --model digits.onnx --dataset digits.h5 --shards 4 --quiet)
regress=(train --model numbers.onnx --shards 4 --epochs 5 --loss mse:1 --quiet)
recovers=("${regress[@]}" --batch 64 --dataset large.h5 --learning-rate 0.0125)
# Slowly: some epochs end well above the first loss and well below what explodes.
slowly=(train --model line.onnx --dataset large.h5 --batch 400 --shards 4 --epochs 12 --schedule constant --momentum 0 --loss mse:1 --learning-rate 1 --quiet)
rollbacks() { grep -c '"event":"rollback"' "$1"; }
warned() { grep -c '^mpistill: warning: the loss became .*; epoch [0-9]* starts again at half the learning rate$' err; }

# ---- one that recovers ----
must 1 "${recovers[@]}" --log one.jsonl --output one.onnx
check 'told' test "$(warned)" -ge 1
python_check 'logged, and the rate is lower from there on' <<'END'
import json
lines = [json.loads(line) for line in open("one.jsonl")]
back = [line for line in lines if line["event"] == "rollback"]
epochs = [line for line in lines if line["event"] == "epoch"]
assert back and [b["rollbacks"] for b in back] == list(range(1, len(back) + 1)), back
assert all(b["learning_rate"] == 0.0125 / 2 ** b["rollbacks"] and b["loss"] > 1e5 and b["epoch"] == b["starts_again"] == 1 for b in back), back
assert [e["epoch"] for e in epochs] == [1, 2, 3, 4, 5] and epochs[0]["learning_rate"] < 0.00625 and epochs[-1]["loss"]["total"] < 100, epochs
END
for ranks in 2 4; do
  must "$ranks" "${recovers[@]}" --output "ranks-$ranks.onnx"
  same "the same student on $ranks ranks" one.onnx "ranks-$ranks.onnx"
done
start 2 "${recovers[@]}" --checkpoint-seconds 0 --log killed.jsonl --output killed.onnx
while [ -e "/proc/$job/exe" ] && ! grep -q -s '"rollback"' killed.jsonl; do sleep 0.01; done
kill_job
must 4 "${recovers[@]}" --output killed.onnx
same 'killed, and gone on with to the same bytes' one.onnx killed.onnx

# ---- back to an earlier epoch ----
must 1 "${slowly[@]}" --log slowly.jsonl --output slowly.onnx
python_check 'an epoch that ends in between is not gone back to' <<'END'
import checks
epochs, (back,) = checks.events("slowly.jsonl"), checks.events("slowly.jsonl", "rollback")
losses = [e["loss"]["total"] for e in epochs]
again = back["starts_again"] - 1
assert 1 <= again < back["epoch"] - 2 and [e["epoch"] for e in epochs] == [*range(1, back["epoch"]), *range(again + 1, 13)], epochs
assert losses[again] > 1.5 * losses[0] and losses[-1] < 1, losses
END
for ranks in 2 4; do
  must "$ranks" "${slowly[@]}" --output "slowly-$ranks.onnx"
  same "back to an earlier epoch: the same student on $ranks ranks" slowly.onnx "slowly-$ranks.onnx"
done
export MPISTILL_END_TIME=1
for ((i = 0; i < 36; i++)); do run $((i % 2 * 2)) "${slowly[@]}" --stop-before 10 --log parts.jsonl --output parts.onnx; done
unset MPISTILL_END_TIME
check 'stopped after each of 36 steps, one of them a rollback' test "$status" = 75 -a "$(rollbacks parts.jsonl)" = 1
check 'each stop is logged' test "$(grep -c '"event":"stopped"' parts.jsonl)" = 36
must 2 "${slowly[@]}" --log parts.jsonl --output parts.onnx
same 'back to an earlier epoch: gone on with to the same bytes' slowly.onnx parts.onnx

# ---- those that do not ----
cp digits.h5 kept.onnx
for ranks in 1 4; do
  rm -f never.jsonl
  run "$ranks" "${digits[@]}" --batch 32 --epochs 4 --optimizer adamw --learning-rate 1000 --log never.jsonl --force --output kept.onnx
  expect_error "the fourth time it ends, on $ranks ranks" 1 'the loss became' 'after 3 restarts' 'lower --learning-rate or set --clip-norm'
  check "three times told and logged, on $ranks ranks" test "$(warned)$(rollbacks never.jsonl)" = 33
  check "and the log ends with why, on $ranks ranks" test "$(tail -n 1 never.jsonl | grep -c '^{"event":"failed",.*"message":"the loss became .* after 3 restarts')" = 1
  same "what was there is kept, on $ranks ranks" digits.h5 kept.onnx
done
run 2 "${regress[@]}" --dataset edge.h5 --learning-rate 0.001 --output never.onnx
expect_error 'a student that is no good on the test rows' 1 "split 'test' are not finite" '--learning-rate' '--clip-norm'
check 'not finite: nothing written' test ! -e never.onnx -a ! -e never.onnx.inputs

# ---- those that only look so ----
must 0 create resnet --depth 8 --width 8 --input 1x8x8 --classes 10 --seed 1 --output resnet.onnx
must 2 train --model resnet.onnx --dataset digits.h5 --epochs 2 --batch 32 --learning-rate 1 --quiet --log high.jsonl --output high.onnx
check 'a high rate that works' test "$(rollbacks high.jsonl)" = 0
for ranks in 1 4; do
  must "$ranks" "${regress[@]}" --batch 8 --dataset rare.h5 --optimizer adamw --learning-rate 0.1 --log "rare-$ranks.jsonl" --output "rare-$ranks.onnx"
  check "targets that are rare and large, on $ranks ranks" test "$(rollbacks "rare-$ranks.jsonl")" = 0
done
same 'targets that are rare and large: the same student' rare-1.onnx rare-4.onnx
python_check 'their loss is far over that of the first step' <<'END'
import checks
assert all(e["loss"]["total"] > 1000 for e in checks.events("rare-1.jsonl"))
END

# ---- a recipe ----
cat >recipe.yaml <<'END'
dataset: large.h5
output: run
teachers: [{name: teacher, model: one.onnx}]
student: {model: numbers.onnx}
distill: {epochs: 5, batch: 64, shards: 4, optimizer: {learning_rate: 0.0125}, losses: [{kind: soft-mse, weight: 0.5}, {kind: mse, weight: 0.5}]}
END
must 2 run recipe.yaml --quiet
run 0 inspect run --json
python_check 'inspect tells of them' <<'END'
import json
assert json.load(open("out"))["rollbacks"] == sum('"event":"rollback"' in line for line in open("run/run.jsonl")) >= 1
END
finish
