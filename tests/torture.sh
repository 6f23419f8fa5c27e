#!/bin/bash
# make torture: SIGKILL at random instants of every stage, for one rank, all ranks or mpirun, on 1 to 4 ranks; then the same command to its end.
# Passed when it ends with status 0 in the bytes of an undisturbed run, and no file under its final name was ever another one.
# Usage: tests/torture.sh seconds N | kills N      SEED=N repeats a series (its instants are still the machine's)
# Appends a line a round to $TORTURE_RESULTS (build/torture.jsonl), ends with the table of all of them.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/lib/behaviour.sh"
limit=${1:?seconds or kills}
amount=${2:?how many}
results=$(realpath -m "${TORTURE_RESULTS:-$top/${BUILD:-build}/torture.jsonl}")
seed=${SEED:-$(($(date +%s%N) / 1000 % 32768))}
RANDOM=$seed
echo "seed $seed, results in $results"

"$python" - "$digits" <<'END' || exit 1
import sys, checks, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    x, y = f["train/image"][...], f["train/label"][...]
    splits = {"train": {"image": np.tile(x, (4, 1, 1, 1)), "label": np.tile(y, 4)}, "test": {"image": f["test/image"][...], "label": f["test/label"][...]}}
checks.write_dataset("data.h5", splits, scale={"image": (1 / 16, 0)})
with open("table.csv", "w") as f:
    f.write("a,b,c,class\n" + "".join(f"{i},{i % 7},0.5,{i % 3}\n" for i in range(150000)))
END
must 0 create resnet --depth 8 --width 8 --input 1x8x8 --classes 10 --seed 1 --output slow.onnx
must 0 create mlp --layers 64,100,10 --dropout 0.2 --seed 2 --output fast.onnx
must 2 teach --dataset data.h5 --teacher slow.onnx --teacher fast.onnx --output soft
cat >recipe.yaml <<'END'
dataset: data.h5
output: run
baseline: true
teachers: [{name: slow, model: slow.onnx}, {name: fast, model: fast.onnx}]
student: {create: mlp, layers: [64, 32, 10], dropout: 0.1}
distill: {epochs: 4, batch: 64, optimizer: {kind: adamw, learning_rate: 0.003}}
checkpoint: {every_seconds: 0.05}
END

# What each stage is: its command, and the files it makes.
training=(--dataset data.h5 --batch 64 --shards 4 --checkpoint-seconds 0.05)
declare -A command files duration_ms
stages=(train teach aggregate distill run import)
command[import]='import csv train=table.csv --label-column class --output result.h5'
command[train]="train --model fast.onnx ${training[*]} --epochs 15 --output student.onnx"
command[teach]='teach --dataset data.h5 --teacher slow.onnx --teacher fast.onnx --block 50 --output made'
command[aggregate]='aggregate soft/slow.h5 soft/fast.h5 --dataset data.h5 --output result.h5'
command[distill]="distill --student fast.onnx --soft-labels soft/slow.h5 ${training[*]} --optimizer adamw --learning-rate 0.003 --epochs 10 --output student.onnx"
command[run]='run recipe.yaml'
files[import]=result.h5
files[train]=student.onnx
files[teach]='made/slow.h5 made/fast.h5'
files[aggregate]=result.h5
files[distill]=student.onnx
files[run]='run/soft/slow.h5 run/soft/fast.h5 run/soft/test/slow.h5 run/ensemble.h5 run/baseline.onnx run/student.onnx'

inputs=(data.h5 table.csv slow.onnx fast.onnx soft recipe.yaml)
fresh() { # FOLDER: with the inputs
  rm -rf "${work:?}/$1"
  mkdir "$work/$1"
  cd "$work/$1" || exit 1
  ln -s "${inputs[@]/#/$work/}" .
}
for stage in "${stages[@]}"; do
  fresh "whole-$stage"
  begun=$(date +%s%N)
  # shellcheck disable=SC2086 # a list of words
  must 2 ${command[$stage]}
  duration_ms[$stage]=$((($(date +%s%N) - begun) / 1000000))
done
[ "$failures" = 0 ] || exit 1

# partial STAGE: names the files under their final names that are not those of the undisturbed run.
partial() {
  local file
  for file in ${files[$1]}; do
    [ ! -e "$file" ] || cmp -s "$work/whole-$1/$file" "$file" || echo "$file is partial;"
  done
}

# strike STAGE: starts it, kills it at a random instant; victim is who was killed, empty when it was over before.
strike() {
  local stage=$1 ranks at all who pid
  ranks=$((1 + RANDOM % 4))
  at=$((RANDOM * duration_ms[$stage] / 32768))
  # shellcheck disable=SC2086 # a list of words
  start "$ranks" ${command[$stage]}
  sleep "$(printf '%d.%03d' $((at / 1000)) $((at % 1000)))"
  victim=''
  readarray -t all < <(ranks_of "$job")
  who=$((RANDOM % 3))
  [ ${#all[@]} -gt 0 ] || who=2
  case $who in
    0) kill -KILL "${all[RANDOM % ${#all[@]}]}" 2>/dev/null && victim=one ;;
    1) kill -KILL "${all[@]}" 2>/dev/null && victim=all ;;
    2) kill -KILL "$job" 2>/dev/null && victim=mpirun ;;
  esac
  wait_job
  status=$?
  [ "$status" != 0 ] || victim=''
  # Half of the time the next one starts while ranks of this one are still there.
  if [ "$who" = 2 ] && [ $((RANDOM % 2)) = 0 ]; then
    for pid in "${all[@]}"; do
      while grep -q -s '^State:.[^Z]' "/proc/$pid/status"; do sleep 0.02; done
    done
  fi
}

# The table of all rounds so far.
table() {
  "$python" - "$results" <<'END'
import collections, json, sys
rounds = [json.loads(line) for line in open(sys.argv[1])]
tried, survived, compared, bad = (collections.Counter() for _ in range(4))
for r in rounds:
    for victim in r["kills"]:
        for key in (r["stage"], victim), (r["stage"], "all kinds"), ("together", victim), ("together", "all kinds"):
            tried[key] += 1
            survived[key] += not r["wrong"]
    for key in r["stage"], "together":
        compared[key] += r["bytes"]
        bad[key] += bool(r["wrong"])
kinds = ["one", "all", "mpirun", "all kinds"]
print("kills survived/tried" + "".join(f"{k:>14}" for k in ("one rank", "all ranks", "mpirun", "together")) + "  bytes compared  rounds that failed")
for stage in dict.fromkeys([r["stage"] for r in rounds] + ["together"]):
    cells = "".join(f"{survived[stage, k]:>8}/{tried[stage, k]:<5}" for k in kinds)
    print(f"{stage:<20}{cells}{compared[stage]:>16}{bad[stage]:>20}")
END
}

n_kills=0
round=0
over() { if [ "$limit" = kills ]; then [ $n_kills -ge "$amount" ]; else [ $SECONDS -ge "$amount" ]; fi; }
while ! over; do
  stage=${stages[round % ${#stages[@]}]}
  round=$((round + 1))
  fresh broken
  kills='' wrong='' bytes=0
  for ((k = 1 + RANDOM % 3; k > 0; k--)); do
    strike "$stage"
    [ -n "$victim" ] || break
    n_kills=$((n_kills + 1))
    kills="$kills${kills:+, }\"$victim\""
    wrong="$wrong$(partial "$stage")"
  done
  # shellcheck disable=SC2086 # a list of words
  run $((1 + RANDOM % 4)) ${command[$stage]}
  [ "$status" = 0 ] || wrong="${wrong}status $status: $(grep '^mpistill: error' err | tr -d '"\\');"
  for file in ${files[$stage]}; do
    if cmp -s "$work/whole-$stage/$file" "$file"; then
      bytes=$((bytes + $(stat -c %s "$file")))
    else
      wrong="$wrong$file differs;"
    fi
  done
  printf '{"stage": "%s", "seed": %d, "kills": [%s], "bytes": %d, "wrong": "%s"}\n' "$stage" "$seed" "$kills" "$bytes" "$wrong" >>"$results"
  if [ -n "$wrong" ]; then
    fail "$stage, killed:${kills:- never}: $wrong"
    cp -r "$work/broken" "$(dirname "$results")/torture-$seed-$round"
  fi
done
cd "$work" || exit 1
table
check "$n_kills kills in $round rounds, and every command ended as if there had been none" test "$failures" = 0
finish
