#!/bin/bash
# Wrong recipes, outputs that cannot be written or are there already, and training that goes wrong.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/lib/refuse.sh
. "$top/tests/lib/refuse.sh"
inputs datasets
inputs models
"$mpistill" inspect good.h5 >"$said/out" # leaves good.h5.hash
inputs softlabels
cp good.onnx second.onnx

# ---- recipes ----
# recipe NAME 'WORDS' OPTIONS... <<<TEXT
recipe() {
  local name=$1 words=$2
  shift 2
  cat >"$name.yaml"
  refuse "recipe_$name" "$name.yaml: cannot be followed:|$words" run "$name.yaml" "$@"
}
start='dataset: good.h5
output: run
teachers:
  - {name: a, model: good.onnx}
  - {name: b, model: second.onnx}
'
student='student: {create: mlp, layers: [64, 10]}
'
good=$start$student'distill: {epochs: 1}
'
printf '%s' "$good" >recipe.yaml
"$python" - <<'END' || exit 1
import checks, numpy as np
rng = np.random.default_rng(1)
checks.write_dataset("tiny.h5", {split: {"x": rng.normal(size=(40, 4)).astype(np.float32), "label": rng.integers(0, 3, 40).astype(np.int32)}
                                 for split in ("train", "test")})
checks.write_linear("tiny.onnx", rng.normal(size=(3, 4)))
END
cat >tiny.yaml <<'END'
dataset: tiny.h5
output: tiny
teachers: [{name: a, model: tiny.onnx}]
student: {create: mlp, layers: [4, 3]}
distill: {epochs: 1, precision: int8}
END
"$mpistill" inspect tiny.h5 >"$said/out"
remember
refuse run_nothing_to_quantise 'has no weights|of 64 numbers or more to quantise' run tiny.yaml
refuse dry_run_nothing_to_quantise 'has no weights|of 64 numbers or more to quantise' run tiny.yaml --dry-run
accept recipe_good run recipe.yaml --dry-run
refuse run_missing 'nowhere.yaml: cannot be opened' run nowhere.yaml
refuse run_folder '.: is a folder' run .
recipe empty 'there is nothing in it' <<<''
recipe text 'line 1: a mapping was expected' <<<'just text'
recipe list 'line 1: a mapping was expected, found a sequence' <<<'- a'
recipe unknown "line 7, column 1: unknown key 'distil' (did you mean 'distill'?)" <<<"$start$student${good:+distil: {epochs: 1\}}"
recipe unknown_nested "line 7, column 11: unknown key 'distill.epoch' (did you mean 'distill.epochs'?)" <<<"$start${student}distill: {epoch: 1}"
recipe unknown_deep "line 9, column 5: unknown key 'distill.optimizer.momentun' (did you mean 'distill.optimizer.momentum'?)" <<<"$start${student}distill:
  optimizer:
    momentun: 0.5"
recipe unknown_in_teacher "line 4|unknown key 'teachers.0.modle' (did you mean 'teachers.0.model'?)" <<<"dataset: good.h5
output: run
teachers:
  - {name: a, modle: good.onnx}
$student"
recipe wrong_type "line 7, column 11: distill.epochs: 'many' is not a whole number" <<<"$start${student}distill: {epochs: many}"
recipe number_with_tail "distill.epochs: '1x' is not a whole number" <<<"$start${student}distill: {epochs: 1x}"
recipe octal "'010' is not a whole number (leave out the leading zeros)" <<<"$start${student}distill: {epochs: 010}"
recipe nan "distill.temperature: '.nan' is not a number" <<<"$start${student}distill: {temperature: .nan}"
recipe quoted 'distill.epochs: a number was expected, found text in quotes' <<<"$start${student}distill: {epochs: '1'}"
recipe boolean "line 7, column 1: baseline: 'yes' is neither true nor false" <<<"$start${student}baseline: yes"
recipe range 'distill.epochs: 0 is out of range (at least 1' <<<"$start${student}distill: {epochs: 0}"
recipe mapping 'line 7, column 1: distill: a mapping was expected' <<<"$start${student}distill: 3"
recipe sequence 'teachers: a sequence was expected, found one value' <<<"dataset: good.h5
output: run
teachers: a.onnx
$student"
recipe no_value 'distill.epochs: a number was expected, found nothing' <<<"$start${student}distill: {epochs: }"
recipe duplicate "line 7, column 1: key 'seed' is there twice, first in line 6" <<<"${start}seed: 1
seed: 2
$student"
recipe dotted "unknown key 'distill.epochs': write sections as nested mappings" <<<"$start${student}distill.epochs: 3"
recipe anchor 'line 6, column 10: anchors (&) are not used' <<<"${start}student: &s {create: mlp, layers: [64, 10]}"
recipe alias 'aliases (*) are not used' <<<"$start${student}distill: *s"
recipe tag 'tags (!) are not used' <<<"$start${student}seed: !!int 3"
recipe two_documents 'a second document: only one is read' <<<"$good---
seed: 1"
recipe tabs 'line 7, column 1: not YAML' <<<"${start}student:
	create: mlp"
recipe unclosed 'not YAML' <<<'dataset: [good.h5'
recipe momentum_of_adamw "distill.optimizer.momentum: not an option of optimizer 'adamw' (of 'sgd')" \
  <<<"$start${student}distill: {optimizer: {kind: adamw, momentum: 0.9}}"
recipe optimizer "distill.optimizer.kind: 'adam' is not known (did you mean 'adamw'?); valid: sgd, adamw" \
  <<<"$start${student}distill: {optimizer: {kind: adam}}"
recipe no_dataset "key 'dataset' is missing" <<<"output: run
$student"
recipe no_output "key 'output' is missing" <<<"dataset: good.h5
$student"
recipe no_student 'student: give either model or create' <<<"$start"
recipe two_students 'student: give either model or create' <<<"${start}student: {model: good.onnx, create: mlp, layers: [64, 10]}"
recipe student_option "student.depth: not an option of 'mlp'" <<<"${start}student: {create: mlp, layers: [64, 10], depth: 20}"
recipe teacher_of_nothing "teacher 'a': give either model or soft_labels" <<<"dataset: good.h5
output: run
teachers: [{name: a}]
$student"
recipe teacher_of_both "teacher 'a': give either model or soft_labels" <<<"dataset: good.h5
output: run
teachers: [{name: a, model: good.onnx, soft_labels: soft.h5}]
$student"
recipe teacher_unnamed "line 3, column 12: key 'teachers.0.name' is missing" <<<"dataset: good.h5
output: run
teachers: [{model: good.onnx}]
$student"
recipe same_names "teacher 'a': two teachers have this name" <<<"dataset: good.h5
output: run
teachers: [{name: a, model: good.onnx}, {name: a, model: second.onnx}]
$student"
recipe weights 'weights: 3 given for 2 teachers' <<<"$start${student}aggregate: {weights: [1, 2, 3]}"
recipe without_teachers 'teach.dtype: there are no teachers' <<<"dataset: good.h5
output: run
teach: {dtype: float32}
$student"
recipe loss "distill.losses.0.kind: 'kdd' is not known (did you mean 'kd'?)" <<<"$start${student}distill: {losses: [{kind: kdd, weight: 1}]}"
recipe loss_weight "key 'distill.losses.0.weight' is missing" <<<"$start${student}distill: {losses: [{kind: kd}]}"
recipe all_at_once "unknown key 'sed' (did you mean 'seed'?)|distill.epochs: 0 is out of range|distill.batch: 'x' is not a whole number|key 'output' is missing" \
  <<<"dataset: good.h5
sed: 1
${student}distill: {epochs: 0, batch: x}"
printf '%s' "$good" >recipe.yaml
remember
refuse set_unknown "--set distill.epoch: unknown key 'distill.epoch' (did you mean 'distill.epochs'?)" run recipe.yaml --set distill.epoch=3
refuse set_value "--set distill.epochs: 'x' is not a whole number" run recipe.yaml --set distill.epochs=x
refuse set_syntax '--set distill.epochs: KEY=VALUE was expected' run recipe.yaml --set distill.epochs
refuse set_section '--set distill: a mapping was expected' run recipe.yaml --set distill=3
refuse resume_and_restart '--resume and --restart exclude each other' run recipe.yaml --resume --restart
refuse run_no_dataset 'nowhere.h5: cannot be opened' run recipe.yaml --set dataset=nowhere.h5
refuse run_no_model 'nowhere.onnx: cannot be opened' run recipe.yaml --set 'teachers=[{name: a, model: nowhere.onnx}]'
refuse run_bad_model 'two_unknown.onnx: 2 nodes cannot be run' run recipe.yaml --set 'teachers=[{name: a, model: two_unknown.onnx}]'
refuse run_bad_labels 'other_dataset.h5|xxh3:0123456789abcdef' run recipe.yaml --set 'teachers=[{name: a, soft_labels: other_dataset.h5}]'
refuse run_no_labels 'nowhere.h5: cannot be opened' run recipe.yaml --set 'teachers=[{name: a, soft_labels: nowhere.h5}]'
refuse run_student_input "takes [?, 63]|has [?, 1, 8, 8]" run recipe.yaml --set student.layers=[63,10]
refuse run_student_classes "good.onnx: teacher 'a' gives 10 classes, but the student 12" run recipe.yaml --set student.layers=[64,12]
refuse run_split "good.h5: has no split 'validation'; it has: test, train" run recipe.yaml --set distill.split=validation --set teach.split=validation
# Everything that is known from models and dataset is refused before the first stage: nothing is written.
refuse run_prior_split "good.h5: has no split 'nosuch'; it has: test, train" run recipe.yaml --set distill.prior_split=nosuch
refuse run_prior_split_dry "good.h5: has no split 'nosuch'; it has: test, train" run recipe.yaml --set distill.prior_split=nosuch --dry-run
refuse run_priors 'priors: 3 given for 10 classes' run recipe.yaml --set distill.prior_split=train --set distill.priors=[1,2,3]
refuse run_adaptive_split "good.h5: has no split 'nosuch'; it has: test, train" run recipe.yaml --set distill.adaptive_split=nosuch
refuse run_test_split "good.h5: has no split 'tset'; it has: test, train" run recipe.yaml --set distill.test_split=tset
RANKS=1 refuse plan_test_split "good.h5: has no split 'tset'; it has: test, train" plan recipe.yaml --set distill.test_split=tset
accept run_no_test_split run recipe.yaml --dry-run --set distill.test_split=none
refuse run_frozen "nowhere" run recipe.yaml --set 'distill.freeze=[nowhere]'
refuse run_amtml_tensor "has no inner tensor 'nosuch'" run recipe.yaml --set 'aggregate={method: amtml, tensor: nosuch}'
refuse run_amtml_of_two "method 'amtml' learns from one loss 'kd' alone" run recipe.yaml --set 'aggregate={method: amtml, tensor: act1}' \
  --set student.layers=[64,20,10] --set 'distill.losses=[{kind: kd, weight: 1}, {kind: dist, weight: 1}]'
refuse run_mixed_rows_compared "augment 'mixup': loss 'dist' compares rows" run recipe.yaml --set 'distill.augment=[{kind: mixup}]' \
  --set distill.fixed_labels=true --set 'distill.losses=[{kind: dist, weight: 1}]'
refuse run_top_k "top-k 11: teacher 'a' has only 10 classes" run recipe.yaml --set teach.top_k=11 --dry-run
refuse run_shards_of_one "loss 'dist' compares the rows of a shard" run recipe.yaml --set distill.batch=20 --set distill.shards=20 \
  --set 'distill.losses=[{kind: dist, weight: 1}]'

# ---- what the run would write is what it reads ----
settle
mkdir -p again/soft
cp good.onnx again/student.onnx
cp good.onnx again/baseline.onnx
cp soft.h5 again/ensemble.h5
ln again/ensemble.h5 same.h5
cp good.h5 again/soft/a.h5
sed 's|^student:.*|student: {model: again/student.onnx}|; s|^output:.*|output: again|' recipe.yaml >again.yaml
remember
reads() { refuse "run_writes_$1" "again/$2: the run would write it, and recipe.yaml reads it; use another output" run recipe.yaml --set output=again "${@:3}"; }
refuse run_writes_student 'again/student.onnx: the run would write it, and again.yaml reads it' run again.yaml
refuse run_writes_student_dry 'again/student.onnx: the run would write it, and again.yaml reads it' run again.yaml --dry-run
RANKS=1 refuse plan_writes_student 'again/student.onnx: the run would write it, and again.yaml reads it' plan again.yaml
RANKS=1 refuse plan_writes_dataset 'again/soft/a.h5: the run would write it' plan recipe.yaml --set output=again --set dataset=again/soft/a.h5
reads teacher student.onnx --set 'teachers=[{name: b, model: again/student.onnx}]'
reads teacher_of_baseline baseline.onnx --set 'teachers=[{name: b, model: again/baseline.onnx}]' --set baseline=true
reads labels ensemble.h5 --set 'teachers=[{name: b, soft_labels: same.h5}]'
settle
ln -s ../../good.h5 again/soft/b.h5
remember
reads dataset soft/b.h5
settle
rm again/soft/b.h5
remember
accept run_reads_what_it_leaves run recipe.yaml --set output=again --set 'teachers=[{name: b, model: again/baseline.onnx}]' --dry-run
settle
rm -r again again.yaml same.h5

# ---- labels that are not there ----
settle
"$python" - <<'END' || fail 'datasets without labels'
import bad_inputs, numpy as np
none, beyond = np.full(40, -1, np.int32), np.arange(40, dtype=np.int32) % 11
splits = "train", "test", "held"
bad_inputs.dataset("labelled.h5", splits=splits)
bad_inputs.dataset("unlabelled.h5", {"label": none}, splits=splits)
bad_inputs.dataset("bare.h5", {"label": None}, splits=splits)
bad_inputs.dataset("partly.h5", {"label": None}, splits=("train", "held"))
import h5py
with h5py.File("partly.h5", "a") as f:
    f["held/label"] = none
with h5py.File("beyond.h5", "w") as f, h5py.File("good.h5") as good:
    good.copy("train", f), good.copy("test", f), bad_inputs.header(f)
    f["test/label"][...] = beyond
END
remember
for data in unlabelled bare; do
  accept "run_$data" run recipe.yaml --dry-run --set dataset=$data.h5
  none="no row of split 'train' of $data.h5 has one"
  for how in '' --dry-run; do
    refuse "run_${data}_baseline$how" "recipe.yaml: baseline: needs labels, and $none; leave it out (baseline: false)" \
      run recipe.yaml --set dataset=$data.h5 --set baseline=true $how
  done
  refuse "run_${data}_generations" "recipe.yaml: distill: needs labels, and $none; give teachers" \
    run recipe.yaml --set dataset=$data.h5 --set teachers=[] --set generations=2
  refuse "run_${data}_learned" "recipe.yaml: aggregate.method: 'learned' needs labels, and $none; give aggregate.fit_split" \
    run recipe.yaml --set dataset=$data.h5 --set aggregate.method=learned
  refuse "run_${data}_confidence" "recipe.yaml: aggregate.method: 'confidence' needs labels, and $none" \
    run recipe.yaml --set dataset=$data.h5 --set aggregate.method=confidence
  refuse "run_${data}_calibrate" "recipe.yaml: aggregate.calibrate: needs labels, and $none; give aggregate.fit_split" \
    run recipe.yaml --set dataset=$data.h5 --set aggregate.calibrate=true
  refuse "run_${data}_adaptive" "recipe.yaml: distill.adaptive_split: needs labels, and no row of split 'held' of $data.h5 has one" \
    run recipe.yaml --set dataset=$data.h5 --set distill.adaptive_split=held
  refuse "run_${data}_dkd" "$data.h5|label" run recipe.yaml --set dataset=$data.h5 --set 'distill.losses=[{kind: dkd, weight: 1}]'
done
accept run_adaptive run recipe.yaml --dry-run --set dataset=labelled.h5 --set distill.adaptive_split=held
refuse run_adaptive_losses 'adaptive_split: weighs kd against cross-entropy' run recipe.yaml --set dataset=labelled.h5 --set distill.adaptive_split=held \
  --set 'distill.losses=[{kind: kd, weight: 1}]'
refuse run_unlabelled_prior "recipe.yaml: distill.prior_split: needs labels, and no row of split 'train' of unlabelled.h5 has one; give distill.priors" \
  run recipe.yaml --set dataset=unlabelled.h5 --set distill.prior_split=train
refuse run_unlabelled_fit "recipe.yaml: aggregate.calibrate: needs labels, and no row of split 'held' of partly.h5 has one" \
  run recipe.yaml --set dataset=partly.h5 --set 'aggregate={calibrate: true, fit_split: held}'
refuse run_test_label 'beyond.h5: /test/label row 10 is 10, but there are 10 classes' run recipe.yaml --set dataset=beyond.h5
settle
"$python" - <<'END' || fail 'a dataset of numbers'
import numpy as np, checks
random = np.random.default_rng(1)
x = random.standard_normal((60, 5)).astype("f4")
checks.write_dataset("numbers.h5", {"train": {"x": x, "target": x[:, :2] + x[:, 2:4]}})
END
for i in 1 2; do "$mpistill" create mlp --layers 5,2 --seed $i --output numbers-$i.onnx >"$said/out"; done
cat >numbers.yaml <<'END'
dataset: numbers.h5
output: run
teachers: [{name: a, model: numbers-1.onnx}, {name: b, model: numbers-2.onnx}]
student: {create: mlp, layers: [5, 4, 2]}
distill: {epochs: 1, batch: 20, losses: [{kind: soft-mse, weight: 1}]}
END
remember
accept run_numbers run numbers.yaml --dry-run --set aggregate.method=logit-mean
for method in learned confidence entropy vote random union aekd random-batch probability-mean; do
  refuse "run_${method}_of_numbers" "numbers.yaml: aggregate.method: '$method' is for classes|weighted mean (logit-mean)" \
    run numbers.yaml --set aggregate.method=$method
done
refuse run_live_of_numbers "numbers.yaml: aggregate.method: 'entropy' is for classes" run numbers.yaml --set aggregate.method=entropy --set teach=live
refuse run_calibrated_numbers 'numbers.yaml: aggregate.calibrate: is for logits' run numbers.yaml --set aggregate.calibrate=true
settle
"$python" - <<'END' || fail 'a dataset without numbers to learn from'
import numpy as np, checks
checks.write_dataset("untold.h5", {"train": {"x": np.ones((60, 5), "f4")}})
END
remember
accept run_untold run numbers.yaml --dry-run --set dataset=untold.h5
refuse run_untold_baseline "numbers.yaml: baseline: needs labels, and no row of split 'train' of untold.h5 has one" \
  run numbers.yaml --set dataset=untold.h5 --set baseline=true
refuse run_output_below_file 'good.h5: is a file, a folder is needed' run recipe.yaml --set output=good.h5/run
refuse run_output_is_file 'good.h5: is a file, a folder is needed' run recipe.yaml --set output=good.h5

# ---- outputs ----
settle
for command in train distill aggregate create import; do
  mkdir -p "folder/$command"
  cp text.h5 "folder/$command.old"
done
student=(--student good.onnx --dataset good.h5 --soft-labels soft.h5 --epochs 1 --quiet)
train() { refuse "train_$1" "$2" train --model good.onnx --dataset good.h5 --epochs 1 --quiet --output "$3"; }
distill() { refuse "distill_$1" "$2" distill "${student[@]}" --output "$3"; }
aggregate() { refuse "aggregate_$1" "$2" aggregate soft.h5 soft2.h5 --quiet --output "$3"; }
teach() { refuse "teach_$1" "$2" teach --dataset good.h5 --teacher good.onnx --quiet --output "$3"; }
create() { refuse "create_$1" "$2" create mlp --layers 64,10 --output "$3"; }
import() { refuse "import_$1" "$2" import csv train=in.csv --label-column class --quiet --output "$3"; }
printf 'a,class\n1,x\n2,y\n' >in.csv
mkdir there
cp text.h5 there/good.h5
remember
for command in train distill aggregate create import; do
  $command folder_missing "nowhere/$command: cannot be written: folder 'nowhere': No such file" "nowhere/$command"
  $command below_file "good.h5/$command: cannot be written: 'good.h5' is not a folder" "good.h5/$command"
  $command is_folder "folder/$command: cannot be written: it is a folder" "folder/$command"
  $command exists "folder/$command.old: exists|--force" "folder/$command.old"
  $command not_writable "/proc/$command: cannot be written" "/proc/$command"
done
teach folder_is_file 'text.h5: is a file, a folder is needed' text.h5
teach below_file 'text.h5: is a file, a folder is needed' text.h5/soft
teach not_writable '/proc/soft: cannot be made' /proc/soft
teach exists 'there/good.h5: exists and is no soft-label file of this teacher|--force' there
refuse train_log 'folder: the log cannot be opened: Is a directory' train --model good.onnx --dataset good.h5 --epochs 1 --output out.onnx --log folder
refuse train_log_other 'text.h5: exists and is no log of JSON lines|--log' train --model good.onnx --dataset good.h5 --epochs 1 --output out.onnx --log text.h5
refuse train_log_output 'out.onnx: is the log of this command too' train --model good.onnx --dataset good.h5 --epochs 1 --output out.onnx --log out.onnx
refuse train_itself 'good.onnx: is an input of this command too' train --model good.onnx --dataset good.h5 --epochs 1 --output good.onnx
settle
# Nor with --force, whatever the name.
ln good.h5 same.h5
ln -s soft2.h5 soft3.h5
mkdir own
cp good.onnx own/x.h5
remember
itself() { refuse "$1_itself" "$2: is an input of this command too; use another output" "${@:3}" --force --quiet; }
itself train_model good.onnx train --model good.onnx --dataset good.h5 --epochs 1 --output good.onnx
itself train_dataset same.h5 train --model good.onnx --dataset good.h5 --epochs 1 --output same.h5
itself distill soft.h5 distill --student good.onnx --dataset good.h5 --soft-labels soft2.h5 --soft-labels soft.h5 --epochs 1 --output soft.h5
itself aggregate soft3.h5 aggregate soft.h5 soft2.h5 --output soft3.h5
itself aggregate_dataset good.h5 aggregate soft.h5 soft2.h5 --dataset good.h5 --output good.h5
for beside in part lock inputs; do
  settle
  cp good.onnx "beside.onnx.$beside"
  remember
  itself "train_$beside" "beside.onnx.$beside" train --model "beside.onnx.$beside" --dataset good.h5 --epochs 1 --output beside.onnx
  refuse "train_log_$beside" "beside.onnx.$beside: is the log of this command too" train --model good.onnx --dataset good.h5 --epochs 1 \
    --output beside.onnx --log "beside.onnx.$beside"
  settle
  rm "beside.onnx.$beside"
done
cp good.onnx beside.float32.onnx
remember
itself train_full beside.float32.onnx train --model beside.float32.onnx --dataset good.h5 --epochs 1 --precision float16 --output beside.onnx
settle
rm beside.float32.onnx
remember
itself teach own/x.h5 teach --dataset good.h5 --teacher x=own/x.h5 --output own
settle
rm same.h5 soft3.h5

# Read-only, where mounting is permitted: for root permissions do not bind.
mkdir sealed
if mount -t tmpfs -o size=1m none sealed 2>"$said/mount"; then
  trap 'umount "$work/in/sealed"; rm -rf "$work"' EXIT
  cp good.onnx sealed/old
  mount -o remount,ro sealed
  remember
  for command in train distill aggregate create import; do
    $command read_only "sealed/$command: cannot be written: folder 'sealed': Read-only file system" "sealed/$command"
  done
  teach read_only 'sealed/soft: cannot be made: Read-only file system' sealed/soft
  refuse run_read_only 'sealed|Read-only file system' run recipe.yaml --set output=sealed/run
else
  for command in train distill aggregate create import teach run; do echo "skip ${command}_read_only mounting is not permitted here"; done
fi

# ---- the same command again ----
# again NAME OUTPUT 'WORDS' CHANGE CALL...: done; then "already done" and not a byte moves; with CHANGE (an option that decides the bytes)
# refused with the words; with --force done as well.
again() {
  local name=$1 output=$2 words=$3 change=$4 n
  shift 4
  accept "${name}_first" "$@"
  for n in 1 4; do
    call "$n" "$@"
    check "${name}_again_$n" test "$(cat "$said"/status.* | sort -u)" = 0
    check "${name}_already_done_$n" grep -q "^mpistill: $output: already done" "$said/err.0"
    check "${name}_untouched_$n" test "$(folder_state)" = "$(cat "$work/before")"
  done
  refuse "${name}_changed" "$output: exists and was made|$words|--force" "$@" "$change"
  accept "${name}_forced" "$@" "$change" --force
}
accept json_first train --model good.onnx --dataset good.h5 --epochs 1 --quiet --output json.onnx
call 1 train --model good.onnx --dataset good.h5 --epochs 1 --json --output json.onnx
check json_again "$python" -c 'import json, sys; assert json.load(open(sys.argv[1])) == {"output": "json.onnx", "already_done": True}' "$said/out.0"
again train again.onnx 'seed = 0, now it is 5' --seed=5 train --model good.onnx --dataset good.h5 --epochs 1 --output again.onnx
again distill distilled.onnx 'batch = 128, now it is 64' --batch=64 \
  distill --student good.onnx --dataset good.h5 --soft-labels soft.h5 --epochs 1 --output distilled.onnx
again aggregate ensemble.h5 'now it is "logit-mean"' --method=logit-mean aggregate soft.h5 soft2.h5 --output ensemble.h5
again teach again/good.h5 'dtype' --dtype=float32 teach --dataset good.h5 --teacher good.onnx --output again
run_again() {
  local n
  accept run_first run recipe.yaml
  for n in 1 4; do
    call "$n" run recipe.yaml
    check "run_again_$n" test "$(cat "$said"/status.* | sort -u)" = 0
    check "run_already_done_$n" grep -q '^mpistill: run/student.onnx: already done' "$said/err.0"
    check "run_untouched_$n" test "$(folder_state | grep -v -e run.jsonl -e result.json)" = "$(grep -v -e run.jsonl -e result.json "$work/before")"
  done
  remember
}
run_again
call 1 run recipe.yaml --set distill.epochs=3
check run_changed_status test "$(cat "$said/status.0")" = 2
check run_changed_words grep -q 'run/student.onnx: exists and was made with epochs = 1, now it is 3' "$said/err.0"
check run_changed_state grep -q failed run/state.json
accept run_forced run recipe.yaml --set distill.epochs=3 --force

# ---- training that goes wrong ----
fast=(--learning-rate 1e6 --weight-decay 1e6 --epochs 3 --batch 8 --quiet)
message='the loss became|in epoch 1, after 3 restarts of an epoch at half the learning rate; lower --learning-rate or set --clip-norm'
cp text.h5 kept.onnx
remember
breaks train_diverges "$message" train --model good.onnx --dataset good.h5 "${fast[@]}" --output fast.onnx
breaks train_diverges_keeps "$message" train --model good.onnx --dataset good.h5 "${fast[@]}" --force --output kept.onnx
breaks train_nan_weight 'the loss became nan' train --model nan_weight.onnx --dataset good.h5 --epochs 1 --quiet --output nan.onnx
breaks distill_diverges "$message" distill --student good.onnx --dataset good.h5 --soft-labels soft.h5 "${fast[@]}" --output fast2.onnx
settle
for n in 1 4; do
  call "$n" train --model good.onnx --dataset good.h5 "${fast[@]}" --output fast.onnx
  check "train_diverges_warns_$n" test "$(grep -c '^mpistill: warning: the loss became .* starts again at half the learning rate$' "$said/err.0")" = 3
done
finish
