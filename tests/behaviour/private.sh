#!/bin/bash
# Private teachers: no rank opens the model or the data of another group, as strace sees it; the labels are those of any other run.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5
for owner in anna ben; do mkdir "$owner"; done
"$python" - <<'END' || exit 1
import checks, h5py
with h5py.File("digits.h5") as f:
    x, y = f["test/image"][...], f["test/label"][...]
for i, owner in enumerate(("anna", "ben")):
    checks.write_dataset(f"{owner}/shard.h5", {"train": {"image": x[i::2], "label": y[i::2]}}, scale={"image": (1 / 16, 0)})
END
must 0 create mlp --layers 64,32,10 --seed 1 --output anna/model.onnx
must 0 create cnn --input 1x8x8 --classes 10 --kernel 3 --channels 8,8 --seed 2 --output ben/model.onnx
must 0 create mlp --layers 64,16,10 --seed 3 --output open.onnx
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
teachers:
  - {name: anna, model: anna/model.onnx, private: true, data: anna/shard.h5}
  - {name: ben, model: ben/model.onnx, private: true, data: ben/shard.h5}
teach: {block: 128}
student: {create: mlp, layers: [64, 16, 10]}
distill: {epochs: 1, batch: 200}
END
# traced N NAME ARGUMENTS...: each rank under strace; NAME.RANK is what it opened.
traced() {
  local n=$1 name=$2
  shift 2
  status=0
  # shellcheck disable=SC2016 # the rank is known in there
  mpi "$n" timeout 300 sh -c 'name=$1; shift; exec strace -f -qq -e trace=open,openat,openat2,creat -o "$name.${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" "$@"' - \
    "$work/$name" "$mpistill" "$@" >out 2>err </dev/null || status=$?
}
# opened NAME RANK: whose files that rank opened, of anna, ben and the model that is open to all.
opened() {
  local owner found=
  for owner in anna/ ben/ open.onnx; do grep -q "\"[^\"]*$owner" "$1.$2" && found+="$owner "; done
  echo "${found% }"
}
opens() { check "$1 on $2 ranks: rank $3 opens '$4', not '$(opened "$1-$2" "$3")'" test "$(opened "$1-$2" "$3")" = "$4"; }

for ranks in 2 4; do
  traced "$ranks" "run-$ranks" run recipe.yaml --set output="$work/run$ranks"
  check "run on $ranks ranks succeeds" test "$status" = 0
  check "run on $ranks ranks: both were measured on their own rows" test "$(grep -c "accuracy .* on 180 rows of its own" err)" = 2
  for ((rank = 0; rank < ranks; rank++)); do opens run "$ranks" "$rank" "$([ $((2 * rank)) -lt "$ranks" ] && echo anna/ || echo ben/)"; done
  check "run on $ranks ranks: strace saw the dataset opened" grep -q 'digits.h5' "run-$ranks.1"
done
same 'the same student on 2 and 4 ranks' run2/student.onnx run4/student.onnx
must 2 teach --dataset digits.h5 --teacher anna=anna/model.onnx --teacher ben=ben/model.onnx --block 128 --quiet --output soft
same 'the labels of anna are those of a run without secrets' soft/anna.h5 run2/soft/anna.h5
same 'the labels of ben are those of a run without secrets' soft/ben.h5 run4/soft/ben.h5
python_check 'figures that need a private model are not there' <<'END'
import json
models = {m["name"]: m for m in json.load(open("run2/result.json"))["models"]}
assert "parameters" not in models["anna"] and "parameters" not in models["ensemble"] and "accuracy" in models["anna"], models
END

# With a teacher that anyone may open, and ranks by number.
mixed=(teach --dataset digits.h5 --teacher ben=ben/model.onnx --teacher open.onnx --private "ben=ben/shard.h5" --block 128 --quiet)
traced 3 mixed-3 "${mixed[@]}" --output mixed
check 'teach succeeds' test "$status" = 0
for rank in 0 1 2; do opens mixed 3 "$rank" "$([ "$rank" = 0 ] && echo ben/ || echo open.onnx)"; done
same 'the same labels beside others' soft/ben.h5 mixed/ben.h5
sed 's/name: anna,/name: anna, ranks: [1],/; s/name: ben,/name: ben, ranks: [0],/' recipe.yaml >named.yaml
traced 2 named-2 run named.yaml --set output="$work/named"
check 'named ranks: succeeds' test "$status" = 0
opens named 2 0 ben/
opens named 2 1 anna/
same 'named ranks: the same student' run2/student.onnx named/student.onnx

# ---- refused ----
refused() { # NAME RANKS WORDS... -- ARGUMENTS...
  local name=$1 ranks=$2 words=()
  shift 2
  while [ "$1" != -- ]; do words+=("$1") && shift; done
  run "$ranks" "${@:2}"
  expect_error "$name" 2 "${words[@]}"
}
run 0 plan recipe.yaml
expect_error 'plan: too few ranks' 2 '2 private teachers' 'need 2 ranks or more, not 1'
must 0 plan recipe.yaml --ranks 2
refused 'too few ranks' 1 '2 private teachers' 'need 2 ranks or more, not 1' -- run recipe.yaml --set output=none
refused 'too few ranks beside others' 1 'and the others need 2 ranks' -- "${mixed[@]}" --output none
sed 's/\[0\]/[5]/' named.yaml >far.yaml
refused 'a rank that is not there' 2 'rank 5 is not there' -- run far.yaml --set output=none
sed 's/\[0\]/[1]/' named.yaml >twice.yaml
refused 'a rank of two' 2 "rank 1 belongs to 'anna' already" -- run twice.yaml --set output=none
check 'of a run that cannot be followed nothing is left' test ! -e none
refused 'taps' 2 'its inner tensors (taps) cannot leave it' -- "${mixed[@]}" --tap ben=act0 --output none
refused 'a name that is none' 2 'no teacher of that name' -- "${mixed[@]}" --private nobody --output none
sed 's/batch: 200/batch: 200, features: [{kind: hint, weight: 1, student: act0, teacher: act0, from: ben}]/' recipe.yaml >features.yaml
refused 'inner tensors' 2 "teacher 'ben' is private" -- run features.yaml --set output=none
sed 's/private: true, //' recipe.yaml >public.yaml
refused 'data of a teacher that is not private' 2 'data is for private teachers' -- run public.yaml --set output=none
mv ben/shard.h5 away.h5
refused 'data that is not there' 2 ben/shard.h5 -- run recipe.yaml --set output=none
refused 'data that is not there, by teach alone' 2 ben/shard.h5 -- "${mixed[@]}" --output fresh
check 'no folder is left of it' test ! -e fresh
mkdir -p kept
refused 'the same with a folder that was there' 2 ben/shard.h5 -- "${mixed[@]}" --output kept
check 'which stays' test -d kept
finish
