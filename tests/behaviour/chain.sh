#!/bin/bash
# Students that teach the next: assistants and generations of a recipe give what the commands give one by one, on any number of ranks.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5

must 0 create mlp --layers 64,100,100,10 --seed 11 --output wide0.onnx
must 2 train --model wide0.onnx --dataset digits.h5 --epochs 6 --batch 64 --quiet --output wide.onnx
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
seed: 5
teachers:
  - {name: wide, model: wide.onnx}
student: {create: mlp, layers: [64, 16, 10]}
assistants:
  - {name: medium, create: mlp, layers: [64, 48, 10], epochs: 3}
  - {name: small, create: mlp, layers: [64, 24, 10]}
generations: 2
distill: {epochs: 4, batch: 128, shards: 4, temperature: 3}
END

# ---- as the commands do it ----
must 0 run recipe.yaml --dry-run
check '--dry-run: the students in their order' grep -q -z 'run/medium.onnx.*teach.*run/small.onnx.*teach.*run/generation-1.onnx.*teach.*run/student.onnx' out
must 2 run recipe.yaml
cp out table
check 'the table: a row for each of them' test "$(sed 1d table | cut -c1-14 | tr -d ' ' | tr '\n' ' ')" = "teacherwide ensemble medium small generation-1 student "
must 0 create mlp --layers 64,48,10 --seed 5 --output medium0.onnx
must 0 create mlp --layers 64,24,10 --seed 5 --output small0.onnx
must 0 create mlp --layers 64,16,10 --seed 5 --output first0.onnx
must 0 create mlp --layers 64,16,10 --seed 6 --output second0.onnx
teach() { must 1 teach --dataset digits.h5 --teacher "$1=$1.onnx" --output soft; }
learn() { # NAME FROM SEED EPOCHS
  must 2 distill --student "$1"0.onnx --dataset digits.h5 --soft-labels "$2" --epochs "$4" --batch 128 --shards 4 --temperature 3 --seed "$3" --quiet --output "$1.onnx"
}
teach wide
must 1 aggregate soft/wide.h5 --method probability-mean --temperature 3 --output ensemble.h5
learn medium ensemble.h5 5 3
teach medium
learn small soft/medium.h5 5 4
teach small
learn first soft/small.h5 5 4
teach first
learn second soft/first.h5 6 4
same 'an assistant learns from the teachers' medium.onnx run/medium.onnx
same 'the next one from it' small.onnx run/small.onnx
same 'the student from the last' first.onnx run/generation-1.onnx
same 'born again: from itself' second.onnx run/student.onnx

# ---- ranks, stops ----
must 4 run recipe.yaml --set output=run4 --quiet
start 2 run recipe.yaml --set output=run1 --quiet
while [ ! -s run1/small.onnx ] && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
kill_job
must 1 run recipe.yaml --set output=run1 --quiet
for n in 1 4; do
  for f in medium small generation-1 student; do same "$n ranks: $f" run/$f.onnx "run$n/$f.onnx"; done
done
must 2 run recipe.yaml
check 'again: nothing is trained' test "$(grep -c 'onnx: already done' err)" = 4

# ---- live, on images that move ----
sed -e 's/^output: run/output: live/' -e '/^distill/i teach: live' -e 's/temperature: 3/temperature: 3, augment: [{kind: shift, pixels: 1}, {kind: flip}]/' \
  recipe.yaml >live.yaml
must 2 run live.yaml --quiet
must 1 run live.yaml --set output=live1 --quiet
must 4 run live.yaml --set output=live4 --set teach.ranks=2 --quiet
for n in 1 4; do
  for f in medium small generation-1 student; do same "live, $n ranks: $f" live/$f.onnx "live$n/$f.onnx"; done
done
ask() { # NAME TEACHER SEED EPOCHS
  must 2 distill --student "$1"0.onnx --dataset digits.h5 --live-teacher "$2" --augment shift:pixels=1 --augment flip --epochs "$4" --batch 128 --shards 4 \
    --temperature 3 --seed "$3" --quiet --output "asked-$1.onnx"
}
ask medium wide.onnx 5 3
ask small asked-medium.onnx 5 4
ask first asked-small.onnx 5 4
ask second asked-first.onnx 6 4
same 'live: an assistant asks the teachers' asked-medium.onnx live/medium.onnx
same 'live: the next one asks it' asked-small.onnx live/small.onnx
same 'live: the student asks the last' asked-first.onnx live/generation-1.onnx
same 'live: born again' asked-second.onnx live/student.onnx

# ---- without teachers ----
sed -i '/^teachers/,/wide/d;/^assistants/,/small/d' recipe.yaml
must 2 run recipe.yaml --set output=alone --set generations=3 --json
python_check 'self-distillation: three generations' <<'END'
import json
rows = json.load(open("out"))["models"]
assert [r["name"] for r in rows] == ["generation-1", "generation-2", "student"], rows
assert all(r["accuracy"] > 0.5 for r in rows), rows
assert len({r["nll"] for r in rows}) == 3, rows
END
must 2 train --model first0.onnx --dataset digits.h5 --epochs 4 --batch 128 --shards 4 --seed 5 --quiet --output hard.onnx
same 'the first is trained on hard labels' hard.onnx alone/generation-1.onnx

sed -e '/^distill/i teach: live' -e 's/temperature: 3/temperature: 3, augment: [{kind: shift, pixels: 1}]/' recipe.yaml >asked.yaml
for n in 1 3; do must $n run asked.yaml --set output=asked$n --quiet; done
same 'self-distillation, asked: the same student on 3 ranks' asked1/student.onnx asked3/student.onnx
must 2 distill --student second0.onnx --dataset digits.h5 --live-teacher asked1/generation-1.onnx --augment shift:pixels=1 --epochs 4 --batch 128 --shards 4 \
  --temperature 3 --seed 6 --quiet --output asked-alone.onnx
same 'self-distillation, asked: as the command does it' asked-alone.onnx asked1/student.onnx

# ---- bad input ----
refuse() { # WHAT MESSAGE SETTING...
  local what=$1 message=$2
  shift 2
  run 2 run recipe.yaml --set output=nowhere "$@"
  expect_error "$what" 2 "$message"
  check "$what: nothing is written" test ! -e nowhere
}
small='create: mlp, layers: [64, 24, 10]'
refuse 'an assistant without a model' "assistant 'a': give either model or create" --set 'assistants=[{name: a}]'
refuse 'a name twice' "assistant 'a': another model" --set "assistants=[{name: a, $small}, {name: a, $small}]"
refuse 'a name of the run' "assistant 'student': another model" --set "assistants=[{name: student, $small}]"
refuse 'a name that is a path' "assistant '../a': the name becomes a file's name" --set "assistants=[{name: ../a, $small}]"
refuse 'other classes' 'medium: gives 9 classes' --set 'assistants=[{name: medium, create: mlp, layers: [64, 24, 9]}]'
refuse 'other data' 'missing.onnx' --set 'assistants=[{name: medium, model: missing.onnx}]'
moves='distill={epochs: 4, augment: [{kind: shift, pixels: 1}]}' sees='distill.augment: students that teach the next one must see what the student sees'
refuse 'generations that label the rows as they are' "$sees" --set "$moves"
refuse 'an assistant that labels the rows as they are' "$sees" --set generations=1 --set "assistants=[{name: a, $small}]" --set "$moves"
run 0 plan recipe.yaml --set "$moves"
expect_error 'plan: generations that label the rows as they are' 2 "$sees"
refuse 'nobody to ask' 'teach: live: there are no teachers' --set generations=1 --set teach=live
refuse 'no generation' 'generations' --set generations=0
refuse 'an option of another kind' "not an option of 'mlp'" --set 'assistants=[{name: a, create: mlp, layers: [64, 10], depth: 3}]'
finish
