#!/bin/bash
# Failures that are nobody's fault: memory that runs out on one of two ranks, a disk that is full.
# MPISTILL_EVERY=1 tries every allocation, not a sample of them.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/lib/refuse.sh
. "$top/tests/lib/refuse.sh"
inputs datasets
inputs models
"$mpistill" inspect good.h5 >"$said/out" # leaves good.h5.hash
inputs softlabels
mkdir whole
train=(train --model good.onnx --dataset good.h5 --epochs 2 --batch 16 --shards 2 --quiet --output)
teach=(teach --dataset good.h5 --teacher good.onnx --block 8 --quiet --output)
aggregate=(aggregate soft.h5 soft2.h5 --dataset good.h5 --quiet --output)
accept train_whole "${train[@]}" whole/out.onnx
accept teach_whole "${teach[@]}" whole/soft
accept aggregate_whole "${aggregate[@]}" whole/out.h5

# try RANK N WHOLE FOLDER CALL...: what two ranks make of it when the N-th allocation of one of them fails: "ends", where both leave with
# status 1 and one message; "goes on", where it can be done without and the output is the same; else what is wrong.
try() {
  local rank=$1 n=$2 whole=$3 folder=$4 ended output
  shift 4
  said=$folder/said
  mkdir -p "$said"
  output=$folder/$(basename "$whole")
  export MPISTILL_FAIL_ALLOCATION=$rank:$n
  case $whole in
  */soft/*) call 2 "$@" "$folder" ;;
  *) call 2 "$@" "$output" ;;
  esac
  ended="$(cat "$said/status.0" 2>/dev/null || echo none) $(cat "$said/status.1" 2>/dev/null || echo none)"
  if [ "$ended" = '0 0' ]; then
    if cmp -s "$output" "$whole"; then echo 'goes on'; else echo "$n: no harm, but another output;"; fi
  elif [ "$ended" != '1 1' ]; then
    echo "$n: statuses $ended;"
  elif [ "$(grep -c '^mpistill: error: ' "$said/err.0")" != 1 ]; then
    echo "$n: $(grep -c '^mpistill: error: ' "$said/err.0") messages;"
  elif [ -e "$output" ] && ! cmp -s "$output" "$whole"; then
    echo "$n: another output;"
  else
    echo 'ends'
  fi
}

# sweep NAME WHOLE CALL...: for a sample of N on either rank, up to where nothing fails any more.
sweep() {
  local name=$1 whole=$2 rank n i end calm tried wrong result
  shift 2
  end=$((${MPISTILL_EVERY:-0} ? 12 : 4))
  for rank in 0 1; do
    n=1 calm=0 tried=0 wrong=''
    while [ "$calm" -lt "$end" ] && [ "$n" -lt 5000 ]; do
      rm -rf "$work/try"
      for i in 1 2 3 4; do
        mkdir -p "$work/try/$i"
        try "$rank" "$n" "$whole" "$work/try/$i" "$@" >"$work/try/$i/result" 2>&1 &
        n=$((n + ${MPISTILL_EVERY:-1 + n / 6}))
      done
      wait
      for i in 1 2 3 4; do
        result=$(cat "$work/try/$i/result")
        case $result in
        'goes on') calm=$((calm + 1)) ;;
        *) calm=0 tried=$((tried + 1)) ;;
        esac
        case $result in 'goes on' | ends) ;; *) wrong="$wrong $result" ;; esac
      done
    done
    if [ -z "$wrong" ] && [ "$tried" -ge 10 ]; then
      pass "${name}_memory_rank_$rank: $tried failures"
    else
      fail "${name}_memory_rank_$rank ($tried failures tried;$wrong)"
    fi
  done
}
sweep train whole/out.onnx "${train[@]}"
sweep teach whole/soft/good.h5 "${teach[@]}"
sweep aggregate whole/out.h5 "${aggregate[@]}"
check inputs_untouched test "$(folder_state)" = "$(cat "$work/before")"

# ---- a full disk, where mounting is permitted ----
mkdir small
if mount -t tmpfs -o size=256k none small 2>"$said/mount"; then
  trap 'umount "$work/in/small"; rm -rf "$work"' EXIT
  "$python" -c 'print("a,class"); [print(f"{i},{i % 3}") for i in range(200000)]' >long.csv
  cp good.onnx small/old.onnx
  mkdir small/soft
  head -c 1m /dev/zero >small/filler 2>"$said/filler"
  remember
  breaks full_train 'small/out.onnx|No space left on device' train --model good.onnx --dataset good.h5 --epochs 1 --quiet --output small/out.onnx
  breaks full_train_force 'small/old.onnx|No space left on device' \
    train --model good.onnx --dataset good.h5 --epochs 1 --quiet --force --output small/old.onnx
  breaks full_teach 'small/soft/good.h5|No space left on device' "${teach[@]}" small/soft
  breaks full_aggregate 'small/out.h5|No space left on device' "${aggregate[@]}" small/out.h5
  breaks full_create 'small/out.onnx|No space left on device' create mlp --layers 64,10 --output small/out.onnx
  breaks full_import 'small/out.h5|No space left on device' import csv train=long.csv --label-column class --quiet --output small/out.h5
  settle
  truncate -s 220k small/filler # a little room: it fills up on the way
  remember
  breaks filling_import 'small/out.h5|No space left on device' import csv train=long.csv --label-column class --quiet --output small/out.h5
  breaks filling_create 'small/out.onnx|No space left on device' create mlp --layers 64,500,10 --output small/out.onnx
  breaks filling_teach 'small/soft/good.h5|No space left on device' teach --dataset tall.h5 --teacher good.onnx --quiet --output small/soft
else
  for name in full_{train,train_force,teach,aggregate,create,import} filling_{import,create,teach}; do echo "skip $name mounting is not permitted here"; done
fi
finish
