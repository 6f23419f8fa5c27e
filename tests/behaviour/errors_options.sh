#!/bin/bash
# Wrong command lines: commands, options, values, and options that do not go together.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/lib/refuse.sh
. "$top/tests/lib/refuse.sh"
inputs datasets
inputs models
"$mpistill" inspect good.h5 >"$said/out" # leaves good.h5.hash
inputs softlabels

train() { # NAME 'WORDS' OPTIONS...: added to a good command line
  local name=$1 words=$2
  shift 2
  refuse "train_$name" "$words" train --model good.onnx --dataset good.h5 --output "out_$name.onnx" "$@"
}
distill() {
  local name=$1 words=$2
  shift 2
  refuse "distill_$name" "$words" distill --student good.onnx --dataset good.h5 --soft-labels soft.h5 --output "out_$name.onnx" "$@"
}
teach() {
  local name=$1 words=$2
  shift 2
  refuse "teach_$name" "$words" teach --dataset good.h5 --teacher good.onnx --output "soft_$name" "$@"
}
aggregate() {
  local name=$1 words=$2
  shift 2
  refuse "aggregate_$name" "$words" aggregate soft.h5 soft2.h5 --output "out_$name.h5" "$@"
}
create() {
  local name=$1 words=$2
  shift 2
  refuse "create_$name" "$words" create "$@" --output "out_$name.onnx"
}

# ---- commands ----
# Without a command no MPI is started: rank 0 alone says so.
RANKS=1
refuse no_command 'a command is needed|mpistill --help'
refuse unknown_command "unknown command 'trian' (did you mean 'train'?)|mpistill --help" trian --model x
refuse unknown_flag "unknown command '--hlep'|mpistill --help" --hlep
unset RANKS
settle
for n in 1 4; do
  run "$n" trian --model x # mpirun's own status
  expect_error "unknown_command_under_mpirun_$n" 2 "unknown command 'trian'" "did you mean 'train'"
done
rm out err

# ---- names ----
train unknown "unknown option '--epoch' (did you mean '--epochs'?)|see 'mpistill train --help'" --epoch 3
train underscore "unknown option '--learning_rate' (did you mean '--learning-rate'?)" --learning_rate 0.1
train several_unknown "several options are wrong|'--epoch' (did you mean '--epochs'?)|'--bacth' (did you mean '--batch'?)" --epoch 3 --bacth 4
train far_off "unknown option '--zzzzzzzz'" --zzzzzzzz
train single_dash "unknown option '-epochs': options start with '--'" -epochs 3
train of_distill "unknown option '--kd-weight'" --kd-weight 0.5
train argument "'more' is not expected here: options start with '--'" more
train no_value '--epochs needs a value' --epochs
train value_is_option '--epochs needs a value' --epochs --quiet
train repeated '--epochs: is given twice' --epochs 3 --epochs 4
train repeated_output '--output: is given twice' --output other.onnx
teach unknown "unknown option '--topk' (did you mean '--top-k'?)" --topk 3
distill unknown "unknown option '--soft-label' (did you mean '--soft-labels'?)" --soft-label x.h5
aggregate unknown "unknown option '--weight' (did you mean '--weights'?)" --weight 1
refuse evaluate_unknown "unknown option '--jason' (did you mean '--json'?)" evaluate --model good.onnx --dataset good.h5 --jason
refuse run_unknown "unknown option '--dryrun' (did you mean '--dry-run'?)" run recipe.yaml --dryrun
refuse inspect_unknown "unknown option '--verfy' (did you mean '--verify'?)" inspect good.h5 --verfy
create unknown "unknown option '--layer' (did you mean '--layers'?)" mlp --layer 64,10
refuse import_unknown "unknown option '--label-colum' (did you mean '--label-column'?)" import csv train=x.csv --output o.h5 --label-colum y

# ---- what is needed ----
refuse train_nothing 'several options are wrong|--model FILE is needed|--dataset FILE is needed|--output FILE is needed' train
refuse distill_nothing '--student FILE is needed|--dataset FILE is needed|--output FILE is needed' distill
refuse distill_no_teacher '--soft-labels FILE is needed|--live-teacher NAME=FILE' distill --student s.onnx --dataset d.h5 --output o.onnx
refuse teach_nothing '--dataset FILE is needed|--teacher NAME=FILE[:KEY=VALUE...] is needed|--output FOLDER is needed' teach
refuse aggregate_nothing 'the soft-label files to combine are needed' aggregate --output e.h5
refuse aggregate_no_output '--output FILE is needed' aggregate soft.h5
refuse evaluate_nothing '--model FILE is needed|--dataset FILE is needed' evaluate
refuse run_nothing 'a recipe (YAML) is needed' run
refuse run_two "'b.yaml'|one" run a.yaml b.yaml
refuse inspect_nothing 'the folder of a run, is needed' inspect
refuse inspect_two "'long.h5'" inspect good.h5 long.h5
refuse create_nothing 'a kind of model|--help-kinds' create --output out.onnx
refuse create_no_output '--output FILE is needed' create mlp --layers 64,10
refuse import_nothing 'a format is needed (see --help-formats)' import --output o.h5

# ---- values ----
for value in 1x nan inf 010 0x10 1e2 '' ' 3'; do
  train "epochs_${value:-empty}" "--epochs: '$value' is not a whole number" --epochs "$value"
done
for value in 0.1x nan inf -inf 00.1 0x1p3 '' ','; do
  train "rate_${value:-empty}" "--learning-rate: '$value' is not a number" --learning-rate "$value"
done
train batch_0 '--batch: 0 is out of range (at least 1' --batch 0
train batch_negative '--batch: -5 is out of range' --batch -5
train batch_huge "--batch: '99999999999999999999' is not a whole number" --batch 99999999999999999999
train shards_0 '--shards: 0 is out of range (at least 1, at most 4096)' --shards 0
train shards_minus1 '--shards: -1 is out of range' --shards -1
train threads_0 '--threads: 0 is out of range' --threads 0
train seed_negative "--seed: '-1' is not a whole number from 0 to 18446744073709551615" --seed -1
train rate_negative '--learning-rate: -0.1 is out of range (at least 0' --learning-rate -0.1
train momentum '--momentum: 1.5 is out of range (at least 0, at most 1)' --momentum 1.5
train clip_0 '--clip-norm: 0 is out of range (more than 0' --clip-norm 0
train warmup '20 epochs, but the training has 3' --epochs 3 --warmup-epochs 20
train flag_value "--nesterov: 'maybe' is neither true nor false" --nesterov=maybe
train optimizer "--optimizer: 'adamm' is not known (did you mean 'adamw'?); valid: sgd, adamw" --optimizer adamm
train schedule "--schedule: 'cosin' is not known (did you mean 'cosine'?)|one-cycle" --schedule cosin
train several_values 'several options are wrong|--batch: 0|--momentum: 2|adamm' --batch 0 --momentum 2 --optimizer adamm
train beta_of_sgd "--beta1: not an option of optimizer 'sgd' (of 'adamw')" --beta1 0.5
train momentum_of_adamw "--momentum: not an option of optimizer 'adamw' (of 'sgd')" --optimizer adamw --momentum 0.5
train step_of_cosine "--step-epochs: not an option of schedule 'cosine' (of 'step')" --step-epochs 3
train final_of_constant "--final-factor: not an option of schedule 'constant'" --schedule constant --final-factor 0.5
train nesterov 'nesterov: needs a momentum above 0' --nesterov --momentum 0
distill kd_weight '--kd-weight: 1.5 is out of range (at least 0, at most 1)' --kd-weight 1.5
distill temperature '--temperature: 0 is out of range' --temperature 0
distill method "--method: 'probability-men' is not known (did you mean 'probability-mean'?)" --method probability-men
distill method_of_one '--method: one soft-label file leaves nothing to combine' --method logit-mean
distill weights 'weights: 3 given for 1 soft-label files' --weights 1,2,3
distill loss_unknown "--loss kdd:1|'kdd' is not known (did you mean 'kd'?)" --loss kdd:1
distill loss_syntax '--loss kd: KIND:WEIGHT was expected' --loss kd
distill loss_empty '--loss : KIND:WEIGHT was expected' --loss ''
distill loss_weight "--loss kd:much|'much' is not a number" --loss kd:much
distill loss_negative '--loss kd:-1|out of range' --loss kd:-1
distill loss_key "--loss kd:1:temprature=4: unknown key 'temprature' (did you mean 'temperature'?)" --loss kd:1:temprature=4
distill loss_pair "--loss kd:1:4|'4' is not KEY=VALUE" --loss kd:1:4
distill loss_twice '--loss kd:1:temperature=2:temperature=3: temperature: is given twice' --loss kd:1:temperature=2:temperature=3
distill loss_weight_twice '--loss kd:1:weight=2: weight: is given twice' --loss kd:1:weight=2
distill task_twice '--task digit:weight=2:weight=3: weight: is given twice' --task digit:weight=2:weight=3
distill augment_twice '--augment shift:pixels=2:pixels=3: pixels: is given twice' --augment shift:pixels=2:pixels=3
distill feature_twice 'student: is given twice' --feature hint:1:student=a:student=b:teacher=c
distill feature_key "--feature hint:1:student=a:teacher=b:layer=1-2: unknown key 'layer' (did you mean 'layers'?)" \
  --feature hint:1:student=a:teacher=b:layer=1-2
distill feature_first_key "unknown key 'studnet' (did you mean 'student'?)" --feature hint:1:studnet=a:teacher=b
distill feature_option "--feature attention:1:student=a:teacher=b:angle=5: feature 'attention' has no angle" \
  --feature attention:1:student=a:teacher=b:angle=5
distill feature_no_place "feature 'hint': layers are given, but no tensor's name has a {}" --feature hint:1:student=a:teacher=b:layers=1-2
distill feature_no_layers "feature 'hint': {} in a tensor's name stands for a layer; give layers" --feature 'hint:1:student=a.{}:teacher=b'
distill live_teacher_key "unknown key 'ouput' (did you mean 'output'?)" --live-teacher a=good.onnx:ouput=logits
distill loss_without_soft 'none of them reads the soft labels' --loss cross-entropy:1
distill loss_zero 'all weights are 0' --loss kd:0
distill loss_and_weight '--kd-weight: the losses listed have weights of their own' --loss kd:1 --kd-weight 0.5
distill loss_no_smoothing "loss 'kd' has no label_smoothing" --loss kd:1:label_smoothing=0.1
train loss_soft "loss 'kd' needs soft labels, and there are none" --loss kd:1
train loss_no_temperature "loss 'cross-entropy' has no temperature" --loss cross-entropy:1:temperature=2
train loss_smoothing 'label_smoothing: 2 is out of range' --loss cross-entropy:1:label_smoothing=2
teach top_k_0 '--top-k: 0 is out of range' --top-k 0
teach top_k_11 "top-k 11: teacher|has only 10 classes" --top-k 11
teach dtype "--dtype: 'float61' is not known (did you mean 'float16'?); valid: float16, float32" --dtype float61
teach block '--block: 0 is out of range' --block 0
teach name_slash "a/b=good.onnx: cannot be opened" --teacher a/b=good.onnx
teach name_dot "teacher '.a'" --teacher .a=good.onnx
teach name_twice "teacher 'good': two teachers have this name" --teacher good=good.onnx
teach name_empty '--teacher =good.onnx: NAME=FILE was expected' --teacher =good.onnx
teach key "--teacher a=good.onnx:inptu=image: unknown key 'inptu' (did you mean 'input'?)" --teacher a=good.onnx:inptu=image
teach key_twice 'input: is given twice' --teacher a=good.onnx:input=image:input=image
teach tap_of_nobody "--tap wdie=act1: there is no teacher 'wdie' (did you mean 'wide'?)" --teacher wide=good.onnx --tap wdie=act1
teach file_empty '--teacher x=: NAME=FILE was expected' --teacher x=
aggregate weights_number 'weights: 3 given for 2 soft-label files' --weights 1,2,3
aggregate weights_zero 'weights: all are 0' --weights 0,0
aggregate weights_negative '--weights: -1 is out of range' --weights 1,-1
aggregate weights_word "--weights: 'x' is not a number" --weights 1,x
aggregate weights_gap "--weights: '' is not a number" --weights 1,,2
aggregate method "--method: 'logit-men' is not known (did you mean 'logit-mean'?); valid: probability-mean, logit-mean" --method logit-men
aggregate temperature '--temperature: -1 is out of range' --temperature -1
aggregate same_file_missing 'nowhere.h5' nowhere.h5
create kind "'mpl' is not known (did you mean 'mlp'?); valid: mlp, cnn, resnet" mpl --layers 64,10
create layers_missing '--layers' mlp
create layers_one '--layers|it has 1' mlp --layers 64
create layers_0 '--layers: 0 is out of range' mlp --layers 64,0,10
create layers_word "--layers: 'ten' is not a whole number" mlp --layers 64,ten
create depth '--depth is 21; it can be 6n + 2' resnet --depth 21 --input 3x32x32 --classes 10
create of_other_kind "--depth: not an option of 'mlp'" mlp --layers 64,10 --depth 20
create activation "'rleu'|relu" mlp --layers 64,10 --activation rleu
create input '--input' cnn --input 28x28 --classes 10
create small_input '--input has a side of 2' cnn --input 1x2x2 --classes 10
create dropout '--dropout: 1.5 is out of range' mlp --layers 64,32,10 --dropout 1.5
create kernel '--kernel is 4; it can be 3 or 5' cnn --input 1x28x28 --classes 10 --kernel 4
create no_classes '--classes' cnn --input 1x28x28
finish
