#!/bin/bash
# Bad models: files that are none, operators and attributes that are not understood, shapes that do not fit.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/lib/refuse.sh
. "$top/tests/lib/refuse.sh"
inputs datasets
inputs models
mkdir soft soft_large
"$python" - <<'END' || exit 1
import checks, numpy as np
words = np.arange(160, dtype=np.int32).reshape(40, 4) % 10
words[17, 2] = 12
checks.write_dataset("words.h5", {"train": {"words": words, "label": np.zeros(40, np.int32)}})
END
remember

evaluate() { refuse "evaluate_$1" "$2" evaluate --model "$3" --dataset good.h5; }
train() { refuse "train_$1" "$2" train --model "$3" --dataset good.h5 --epochs 1 --output "train_$1.onnx"; }
teach() { refuse "teach_$1" "$2" teach --dataset good.h5 --teacher "a=good.onnx" --teacher "b=$3" --output "soft_$1"; }
inspect() { refuse "inspect_$1" "$2" inspect "$3"; }
every() { evaluate "$@" && train "$@" && teach "$@" && inspect "$@"; }

accept good_model evaluate --model good.onnx --dataset good.h5 --quiet
accept good_training train --model good.onnx --dataset good.h5 --epochs 1 --output accepted.onnx --quiet

every missing 'nowhere.onnx: cannot be opened: No such file' nowhere.onnx
evaluate folder '.: is a folder, a file is needed' .
every garbage 'garbage.onnx: is damaged or not an ONNX file' garbage.onnx
evaluate empty 'empty.onnx: is empty' empty.onnx
evaluate text 'text.onnx: is damaged or not an ONNX file' text.onnx
evaluate dataset 'good.h5: is damaged or not an ONNX file' good.h5
every cut 'cut.onnx: is damaged or not an ONNX file' cut.onnx
every nested 'nested.onnx|nested' nested.onnx
every two_unknown "two_unknown.onnx: 2 nodes cannot be run|  'draw' (Bernoulli, opset 15): unknown operator|'finish' (com.example.Fancy, opset 1): unknown operator" \
  two_unknown.onnx
every unknown_attribute "unknown_attribute.onnx: 1 node cannot be run|'head' (MatMul, opset 13): attribute 'speed' is not understood" unknown_attribute.onnx
evaluate no_import "no_import.onnx|'finish'|imports no opset of its domain" no_import.onnx
every opset99 'opset99.onnx: is written for opset 99 of ai.onnx; 1 to 23 are understood' opset99.onnx
accept opset23 evaluate --model opset23.onnx --dataset good.h5
every rms_norm "rms_norm.onnx: 1 node cannot be run|'norm' (RMSNormalization, opset 23): unknown operator of this opset (an export for opset 22" \
  rms_norm.onnx
evaluate opset0 'opset0.onnx: is written for opset 0' opset0.onnx
evaluate old_clip "old_clip.onnx|'clip' (Clip, opset 1): understood from opset" old_clip.onnx
evaluate two_inputs 'two_inputs.onnx: has 2 inputs, and' two_inputs.onnx
train two_inputs 'two_inputs.onnx: has 2 inputs, and' two_inputs.onnx
teach two_inputs 'two_inputs.onnx: has 2 inputs, and' two_inputs.onnx
evaluate no_inputs 'no_inputs.onnx: has 0 inputs, expected 1 to 8' no_inputs.onnx
evaluate two_outputs 'two_outputs.onnx: has 2 outputs of floats [rows, classes], expected one' two_outputs.onnx
teach two_outputs 'two_outputs.onnx: has 2 outputs of floats [rows, classes], expected one' two_outputs.onnx
evaluate no_output 'no_output.onnx: has no outputs' no_output.onnx
evaluate lost_output "lost_output.onnx: nothing gives its output 'q'" lost_output.onnx
evaluate lost_input "lost_input.onnx|'head'|nothing gives its input 'missing'" lost_input.onnx
evaluate cycle "cycle.onnx: node 'second' (Relu): needs 'a', which depends on this node's own output" cycle.onnx
evaluate bool_input "bool_input.onnx: input 'x' is bool, expected float, int32 or int64" bool_input.onnx
train bool_input "bool_input.onnx: input 'x' is bool, expected float, int32 or int64" bool_input.onnx
evaluate strings_in "strings_in.onnx: input 'x' has elements of type string" strings_in.onnx
evaluate input63 "input63.onnx: input 'x' takes [?, 63]|'image' of good.h5 has [?, 1, 8, 8]|[N, 64]" input63.onnx
train input63 "input63.onnx: input 'x' takes [?, 63]|'image' of good.h5 has [?, 1, 8, 8]|[N, 64]" input63.onnx
teach input63 "input63.onnx: input 'x' takes [?, 63]|'image' of good.h5 has [?, 1, 8, 8]|[N, 64]" input63.onnx
evaluate image3 "image3.onnx: input 'x' takes [?, 3, 8, 8]|has [?, 1, 8, 8]" image3.onnx
evaluate wrong_weight "wrong_weight.onnx|'head'|64|65" wrong_weight.onnx
train wrong_weight "wrong_weight.onnx|'head'|64|65" wrong_weight.onnx
evaluate rank3 'good.h5: /test/label has 1 numbers a row, but the output has 10 positions' rank3.onnx
evaluate fixed_batch 'fixed_batch.onnx|exported with a fixed batch; export it with a dynamic one' fixed_batch.onnx
train fixed_batch 'fixed_batch.onnx|exported with a fixed batch; export it with a dynamic one' fixed_batch.onnx
teach fixed_batch 'fixed_batch.onnx|exported with a fixed batch; export it with a dynamic one' fixed_batch.onnx
every external "external.onnx|external.bin|which cannot be read" external.onnx
for command in evaluate teach; do
  "$command" growing "growing.onnx|node 'second' (Concat): its output 'wider' does not depend on the input, and all such outputs up to here would take 3.8 GiB" \
    growing.onnx
done
evaluate short_data "short_data.onnx: initializer 'w' has the shape [64, 10]" short_data.onnx
train no_parameter 'no_parameter.onnx: no parameter can be trained' no_parameter.onnx
refuse teach_large_logits "huge_logits.onnx: teacher 'huge_logits': row 0, class 0|too large for float16; take --dtype float32" \
  teach --dataset good.h5 --teacher huge_logits.onnx --output soft_large
outside="table.onnx: |'embed' (Gather|index 12 is outside [-10, 10)"
refuse evaluate_outside "$outside|row 17" evaluate --model table.onnx --dataset words.h5 --split train
refuse teach_outside "$outside|row 17" teach --dataset words.h5 --teacher t=table.onnx --output soft_outside
refuse train_outside "$outside" train --model table.onnx --dataset words.h5 --test-split none --epochs 1 --output outside.onnx
train rounded "rounded.onnx: is quantised (node 'DynamicQuantizeLinear_0', DynamicQuantizeLinear): integers are not trained" rounded.onnx
accept rounded evaluate --model rounded.onnx --dataset good.h5
run 1 evaluate --model too_large.onnx --dataset good.h5
expect_error 'too large for memory' 1 'too_large.onnx: ' 'memory'
rm out err
refuse teach_nan_logits "nan_weight.onnx: teacher 'b': row 0, class 0 is NaN" teach --dataset good.h5 --teacher b=nan_weight.onnx --output soft
refuse inspect_nan_weight "nan_weight.onnx|'w'|not finite" inspect --verify nan_weight.onnx
refuse evaluate_classes 'classes12.onnx: gives 12 classes, but named.h5 names 10 in /classes' evaluate --model classes12.onnx --dataset named.h5
refuse teach_classes 'classes12.onnx: gives 12 classes, but named.h5 names 10 in /classes' \
  teach --dataset named.h5 --teacher good.onnx --teacher classes12.onnx --output soft

# A teacher's finished blocks outlive another one's failure.
settle
call 4 teach --dataset good.h5 --teacher a=good.onnx --teacher b=nan_weight.onnx --output soft
check teach_other_fails test "$(cat "$said/status.0")" = 2
check teach_other_keeps test -s soft/a.h5.part -a ! -e soft/b.h5.part -a ! -e soft/b.h5
accept teach_goes_on teach --dataset good.h5 --teacher a=good.onnx --output soft
check teach_one_file test -s soft/a.h5 -a "$(ls soft)" = a.h5
finish
