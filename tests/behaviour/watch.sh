#!/bin/bash
# inspect on the folder of a run and on its recipe, while it works and afterwards; no ranks are needed to look.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

must 0 create mlp --layers 64,128,10 --seed 1 --output teacher.onnx
cat >recipe.yaml <<END
dataset: $digits
output: out put
teachers:
  - {name: first, model: teacher.onnx}
student: {create: mlp, layers: [64, 512, 512, 10]}
distill: {epochs: 100000, batch: 64}
checkpoint: {every_seconds: 1}
END

run 0 inspect recipe.yaml
expect_error 'a recipe that never ran' 2 'out put' 'no run there'
run 0 inspect "$work"
expect_error 'a folder that is none of a run' 2 'no run there'

start 2 run recipe.yaml --quiet
for ((i = 0; i < 300; i++)); do
  grep -q -s '"progress"' 'out put/run.jsonl' && grep -q '"checkpoint"' 'out put/run.jsonl' && break
  sleep 0.1
done
sleep 1
run 0 inspect recipe.yaml --json
python_check 'while it trains: stage, ranks, epoch, loss, rate, time left, last checkpoint' <<'END'
import json
o = json.load(open("out"))
assert o["kind"] == "run" and o["state"] == "running" and o["stage"] == "distill", o
assert o["ranks"] == 2 and o["nodes"] == 1 and o["threads"] == 1 and len(o["hosts"]) == 1, o
assert o["epochs"] == 100000 and 0 < o["epoch"] < 100000 and 0 < o["loss"] < 10, o
assert o["samples_per_s"] > 0 and o["seconds_left"] > 0 and 0 <= o["seconds_ago"] < 30, o
assert 0 <= o["last_checkpoint"]["epoch"] <= o["epoch"], o
END

kill -USR1 "$job"
wait "$job"
check 'asked to stop: status 75' is_stopped $?
run 0 inspect 'out put'
check 'afterwards: stopped, for scripts one word' test "$(awk '$1 == "state" { print $2 }' out)" = stopped

must 2 run recipe.yaml --set distill.epochs=1 --restart --force --quiet
run 0 inspect 'out put'
check 'at the end: done' test "$(awk '$1 == "state" { print $2 }' out)" = 'done'
finish
