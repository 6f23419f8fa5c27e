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
accept train_whole "${train[@]}" whole/out
accept teach_whole "${teach[@]}" whole/soft
accept aggregate_whole "${aggregate[@]}" whole/out.h5
remember

# Status of both ranks after the N-th allocation of one failed: "1 1", or "0 0" when there are fewer.
fail_allocation() {
  local rank=$1 n=$2
  shift 2
  rm -rf out out.* soft
  export MPISTILL_FAIL_ALLOCATION=$rank:$n
  call 2 "$@"
  unset MPISTILL_FAIL_ALLOCATION
  echo "$(cat "$said/status.0" 2>/dev/null || echo none) $(cat "$said/status.1" 2>/dev/null || echo none)"
}

# sweep NAME WHOLE OUTPUT CALL...: for a sample of N on either rank.
sweep() {
  local name=$1 whole=$2 output=$3 rank n tried calm ended wrong
  shift 3
  for rank in 0 1; do
    tried=0 calm=0 wrong=''
    # Some allocations can be done without: the end is where several in a row do no harm.
    for ((n = 1; n < 5000 && calm < (${MPISTILL_EVERY:-0} ? 9 : 3); n += ${MPISTILL_EVERY:-1 + n / 6})); do
      ended=$(fail_allocation "$rank" "$n" "$@")
      tried=$((tried + 1))
      calm=$((calm + 1))
      if [ "$ended" = '0 0' ]; then
        cmp -s "$output" "$whole" || wrong="$wrong $n: no harm, but another output;"
        continue
      fi
      calm=0
      if [ "$ended" != '1 1' ]; then
        wrong="$wrong $n: statuses $ended;"
      elif [ "$(grep -c '^mpistill: error: ' "$said/err.0")" != 1 ]; then
        wrong="$wrong $n: $(grep -c '^mpistill: error: ' "$said/err.0") messages;"
      elif [ -e "$output" ] && ! cmp -s "$output" "$whole"; then
        wrong="$wrong $n: another output;"
      fi
      [ -z "$wrong" ] || [ -n "${MPISTILL_EVERY:-}" ] || break
    done
    if [ -z "$wrong" ] && [ "$tried" -ge 10 ] && [ "$calm" -ge 3 ]; then
      pass "${name}_memory_rank_$rank"
    else
      fail "${name}_memory_rank_$rank ($tried tried;$wrong)"
    fi
  done
  rm -rf out out.* soft
}
sweep train whole/out out "${train[@]}" out
sweep teach whole/soft/good.h5 soft/good.h5 "${teach[@]}" soft
sweep aggregate whole/out.h5 out.h5 "${aggregate[@]}" out.h5
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
  truncate -s 220k small/filler # a little room: it fills up on the way
  remember
  breaks filling_import 'small/out.h5|No space left on device' import csv train=long.csv --label-column class --quiet --output small/out.h5
  breaks filling_create 'small/out.onnx|No space left on device' create mlp --layers 64,500,10 --output small/out.onnx
  breaks filling_teach 'small/soft/good.h5|No space left on device' teach --dataset tall.h5 --teacher good.onnx --quiet --output small/soft
else
  for name in full_{train,train_force,teach,aggregate,create,import} filling_{import,create,teach}; do echo "skip $name mounting is not permitted here"; done
fi
finish
