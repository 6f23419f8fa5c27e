#!/bin/bash
# Bad files of data: datasets, soft labels, and what import reads.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/lib/refuse.sh
. "$top/tests/lib/refuse.sh"
inputs datasets
inputs models

evaluate() { # NAME 'WORDS' DATASET OPTIONS...: a model on a dataset
  local name=$1 words=$2 data=$3
  shift 3
  refuse "evaluate_$name" "$words" evaluate --model good.onnx --dataset "$data" "$@"
}
train() {
  local name=$1 words=$2 data=$3
  shift 3
  refuse "train_$name" "$words" train --model good.onnx --dataset "$data" --epochs 1 --output "train_$name.onnx" "$@"
}

# ---- datasets ----
accept good_dataset evaluate --model good.onnx --dataset good.h5 --quiet
evaluate missing 'nowhere.h5: cannot be opened|No such file' nowhere.h5
train missing 'nowhere.h5: cannot be opened|No such file' nowhere.h5
evaluate folder '.: is a folder' .
evaluate missing_folder 'no/such/folder.h5|No such file' no/such/folder.h5
evaluate below_file 'good.h5/x.h5|Not a directory' good.h5/x.h5
evaluate empty 'empty.h5: is not an HDF5 file' empty.h5
evaluate text 'text.h5: is not an HDF5 file' text.h5
train text 'text.h5: is not an HDF5 file' text.h5
evaluate model_for_data 'good.onnx: is not an HDF5 file' good.onnx
evaluate cut 'cut.h5|damaged or cut short' cut.h5
train cut 'cut.h5|damaged or cut short' cut.h5
evaluate head 'head.h5|damaged or cut short' head.h5
evaluate no_format 'no_format.h5: its attribute format is missing|mpistill-dataset' no_format.h5
evaluate other_format "other_format.h5: its attribute format is 'somebody's-dataset'|'mpistill-dataset' is expected" other_format.h5
evaluate number_format 'number_format.h5: format|text is expected' number_format.h5
evaluate version9 'version9.h5: is of version 9|reads version 1' version9.h5
evaluate no_version 'no_version.h5: its attribute version is missing' no_version.h5
evaluate no_splits 'no_splits.h5: has no splits|/train' no_splits.h5
evaluate split "train_only.h5: has no split 'test'; it has: train" train_only.h5
evaluate named_split "good.h5: has no split 'tset'; it has: test, train" good.h5 --split tset
train split "good.h5: has no split 'validation'; it has: test, train" good.h5 --split validation
refuse teach_split "good.h5: has no split 'validation'; it has: test, train" \
  teach --dataset good.h5 --split validation --teacher good.onnx --output soft
refuse train_test_split "good.h5: has no split 'tset'; it has: test, train" \
  train --model good.onnx --dataset good.h5 --test-split tset --output train_test_split.onnx
accept no_test_split train --model good.onnx --dataset good.h5 --epochs 1 --test-split none --quiet --output untested.onnx
check no_test_split_is_not_tested test "$(grep -c '^test' "$said/out.0")" = 0
accept default_test_split train --model good.onnx --dataset train_only.h5 --epochs 1 --quiet --output untested.onnx --force
evaluate loose 'loose.h5: /image is in no split|/train' loose.h5
evaluate nested 'nested.h5: /train/image is a group' nested.h5
evaluate labels_only "labels_only.h5: split 'test' has no array but labels" labels_only.h5
evaluate unequal 'unequal.h5: /test/label: has 39 rows|40' unequal.h5
evaluate strings 'strings.h5: /test/image: has a type that is not understood; uint8, int32' strings.h5
evaluate compound 'compound.h5: /test/image: has a type that is not understood' compound.h5
evaluate doubles 'doubles.h5: /test/image: is float64; uint8, int32, int64, float16 or float32 is expected' doubles.h5
evaluate big_endian 'big_endian.h5: /test/image: has a type that is not understood|little-endian' big_endian.h5
evaluate uint64 'uint64.h5: /test/image: is uint64' uint64.h5
evaluate float_labels 'float_labels.h5: /test/label: is float32; int32, int64 or uint8 is expected' float_labels.h5
evaluate no_rows 'no_rows.h5: /test/image: dimension 0 is 0' no_rows.h5
evaluate scalar 'scalar.h5: /test/image: has 0 dimensions' scalar.h5
evaluate deep 'deep.h5: /test/image: has 9 dimensions' deep.h5
evaluate scales 'scales.h5: /train/image: scale and offset have 3 and 0 entries|1 or one per channel (1)' scales.h5
evaluate nan_scale 'nan_scale.h5: /train/image: scale is not a finite number' nan_scale.h5
evaluate text_scale 'text_scale.h5|scale|a number is expected' text_scale.h5
evaluate outside 'outside.h5|more is a link to another file; copy' outside.h5
evaluate raw 'raw.h5: /train/more: its data is in other files; copy it' raw.h5
evaluate orphan_length 'orphan_length.h5: /test/sound.length belongs to no array' orphan_length.h5
evaluate nan 'nan.h5: /test/x: row 7, column 11 is nan; a finite number is expected' nan.h5
train nan 'nan.h5: /train/x: row 7, column 11 is nan; a finite number is expected' nan.h5
settle
mkdir soft
remember
refuse teach_nan 'nan.h5: /train/x: row 7, column 11 is nan' teach --dataset nan.h5 --teacher good.onnx --output soft
train infinite 'infinite.h5: /train/x: row 39, column 63 is -inf' infinite.h5
refuse inspect_nan 'nan.h5: /test/x: row 7, column 11 is nan' inspect --verify nan.h5
refuse inspect_minus2 'label_minus2.h5: /test/label has a label of -2; -1 is that of a row without one' inspect --verify label_minus2.h5
evaluate label10 'label10.h5: /test/label row 23 is 10, but there are 10 classes' label10.h5
train label10 'label10.h5: /train/label|row 23|is 10|10 classes' label10.h5
train label_minus2 'label_minus2.h5: /train/label|row 5|is -2' label_minus2.h5
train label_big 'label_big.h5: /train/label: row 3|does not fit into 32 bits' label_big.h5
train label_matrix 'label_matrix.h5: /train/label has 2 dimensions, expected [rows]' label_matrix.h5
evaluate label_matrix 'label_matrix.h5: /test/label has 2 dimensions, expected [rows]' label_matrix.h5
for data in no_label unlabelled; do
  evaluate $data "$data.h5: no row of split 'test' has a label in an array 'label'|--split|--task NAME:labels=ARRAY" $data.h5
  accept "compare_$data" evaluate --model good.onnx --dataset $data.h5 --against good.onnx --quiet
  check "compare_${data}_tells_no_accuracy" test "$(grep -c -e nan -e accuracy "$said/out.0")$(grep -c 'agreement   1.0000' "$said/out.0")" = 01
done
train no_label "no_label.h5: /train has no array 'label'" no_label.h5
train unlabelled 'unlabelled.h5: /train/label has no labelled row|soft labels' unlabelled.h5
evaluate several_inputs "two_inputs.h5: split 'test' has several arrays, name one: image, text (--input" two_inputs.h5
train several_inputs "two_inputs.h5: split 'train' has several arrays, name one: image, text (--input" two_inputs.h5
evaluate input "two_inputs.h5: split 'test' has no array 'sound'; it has: image, text" two_inputs.h5 --input sound
evaluate twelve_classes 'good.onnx: gives 10 classes, but twelve.h5 names 12 in /classes' twelve.h5
train twelve_classes 'good.onnx: gives 10 classes, but twelve.h5 names 12 in /classes' twelve.h5
refuse inspect_text 'text.h5' inspect text.h5
refuse inspect_missing 'nowhere.h5: cannot be opened' inspect nowhere.h5
refuse inspect_folder '.: no run there' inspect .
refuse inspect_empty 'empty.h5: is empty' inspect empty.h5
refuse inspect_cut 'cut.h5|damaged or cut short' inspect cut.h5
refuse inspect_other_format "other_format.h5: its attribute format is 'somebody's-dataset'" inspect other_format.h5
refuse aggregate_dataset_for_labels "good.h5: its attribute format is 'mpistill-dataset'; 'mpistill-softlabels' is expected" \
  aggregate good.h5 --output e.h5

# ---- soft labels ----
"$mpistill" inspect good.h5 >"$said/out" # leaves good.h5.hash
inputs softlabels
aggregate() {
  local name=$1 words=$2
  shift 2
  refuse "aggregate_$name" "$words" aggregate "$@" --output "aggregate_$name.h5" --quiet
}
distill() {
  local name=$1 words=$2 file=$3
  shift 3
  refuse "distill_$name" "$words" distill --student good.onnx --dataset good.h5 --soft-labels "$file" --epochs 1 --output "distill_$name.onnx" "$@"
}
accept good_soft_labels aggregate soft.h5 soft2.h5 --dataset good.h5 --output accepted.h5 --quiet
accept good_topk distill --student good.onnx --dataset good.h5 --soft-labels top.h5 --epochs 1 --output accepted.onnx --quiet
distill missing 'nowhere.h5: cannot be opened' nowhere.h5
distill dataset_for_labels "good.h5: its attribute format is 'mpistill-dataset'; 'mpistill-softlabels' is expected" good.h5
distill cut 'cut_soft.h5|damaged or cut short' cut_soft.h5
distill other_dataset 'other_dataset.h5|xxh3:0123456789abcdef|good.h5' other_dataset.h5
aggregate other_dataset 'other_dataset.h5: belongs to dataset xxh3:0123456789abcdef, but soft.h5 to' soft.h5 other_dataset.h5
distill bad_hash 'bad_hash.h5|md5:0123' bad_hash.h5
distill no_hash 'no_hash.h5: does not say which dataset it belongs to (dataset_hash)|--trust-rows' no_hash.h5
aggregate no_hash 'no_hash.h5: does not say which dataset it belongs to|--trust-rows' soft.h5 no_hash.h5
accept distill_trust_rows distill --student good.onnx --dataset good.h5 --soft-labels no_hash.h5 --trust-rows --epochs 1 --output trusted.onnx --quiet
accept aggregate_trust_rows aggregate soft.h5 no_hash.h5 --trust-rows --output trusted.h5 --quiet
distill other_split "other_split.h5|split 'test'|'train'" other_split.h5
aggregate other_split "other_split.h5: is of split 'test', but soft.h5 is of 'train'" soft.h5 other_split.h5
distill no_split 'no_split.h5: its attribute split is missing' no_split.h5
refuse aggregate_unknown_split "good.h5: has no split 'validation'" aggregate unknown_split.h5 --dataset good.h5 --output ensemble.h5
distill rows39 'rows39.h5|39 rows|40' rows39.h5
aggregate rows39 'rows39.h5: has 39 rows, but soft.h5 has 40' soft.h5 rows39.h5
distill classes9 'good.onnx|10 classes|classes9.h5|9' classes9.h5
aggregate classes9 'classes9.h5: has 9 classes, but soft.h5 has 10' soft.h5 classes9.h5
aggregate rank3 'rank3.h5: has 2 positions a row, but soft.h5 has 1' soft.h5 rank3.h5
distill rank3 'good.onnx: gives 1 positions a row|rank3.h5 have 2' rank3.h5
distill rank1 'rank1.h5: /logits has one dimension' rank1.h5
distill integers 'integers.h5: /logits: float16, float32 or float64 is expected' integers.h5
distill nan_row 'nan_row.h5|row 17|class 4|nan' nan_row.h5
aggregate nan_row 'nan_row.h5|row 17|class 4|nan' soft.h5 nan_row.h5
aggregate inf_row 'inf_row.h5|row 39|class 9|inf' inf_row.h5
refuse inspect_nan_row 'nan_row.h5|row 17|class 4|nan' inspect --verify nan_row.h5
distill ensemble_temperature 'for_temperature_2.h5: is an ensemble made for temperature 2, but 4 is asked for|aggregate again with --temperature 4' \
  for_temperature_2.h5
accept distill_ensemble_temperature \
  distill --student good.onnx --dataset good.h5 --soft-labels for_temperature_2.h5 --temperature 2 --epochs 1 --output warm.onnx --quiet
distill loss_temperature 'for_temperature_2.h5|made for temperature 2, but 3' for_temperature_2.h5 --loss kd:1:temperature=3
aggregate ensemble_temperature 'for_temperature_2.h5|made for temperature 2, but 1' soft.h5 for_temperature_2.h5
distill bad_temperature 'bad_temperature.h5: temperature is not one finite number' bad_temperature.h5
distill encoding 'encoding.h5: its attribute encoding is sparse; dense or topk is expected' encoding.h5
distill no_encoding 'no_encoding.h5: its attribute encoding is missing; dense or topk' no_encoding.h5
distill version9 'version9s.h5: is of version 9' version9s.h5
distill top10 'top10.h5|/topk/index|row 12|10' top10.h5
aggregate top10 'top10.h5|/topk/index|row 12|10' top10.h5
distill top_minus 'top_minus.h5|/topk/index|row 12|-1' top_minus.h5
distill top_twice 'top_twice.h5|/topk/index|row 12|3' top_twice.h5
distill top_no_classes 'top_no_classes.h5: its attribute n_classes is missing' top_no_classes.h5
distill top_shapes 'top_shapes.h5: /topk/index, /topk/logit and /topk/rest' top_shapes.h5
distill top_nan 'top_nan.h5|/topk/rest|row 2' top_nan.h5
distill unfinished 'unfinished.h5: 2 of 5 blocks are not finished' unfinished.h5
aggregate unfinished 'unfinished.h5: 2 of 5 blocks are not finished' unfinished.h5
refuse inspect_unfinished 'unfinished.h5: 2 of 5 blocks are not finished' inspect --verify unfinished.h5
distill blocks_shape 'blocks_shape.h5: /blocks/done and /blocks/checksum' blocks_shape.h5
distill unknown_class "unknown_class.h5: class 'a' (position 0) is not among them: its classes must be" unknown_class.h5
distill few_classes 'few_classes.h5: /classes has 2 entries, the logits have 10' few_classes.h5
distill class_twice "class_twice.h5: class '0' (position 1) is named twice" class_twice.h5
distill weights3 'weights3.h5: has 3 weights for 2 teachers' weights3.h5

# ---- what import reads ----
inputs imports
import() {
  local name=$1 words=$2
  shift 2
  refuse "import_$name" "$words" import "$@" --output "import_$name.h5" --quiet
}
accept import_idx import idx train=images.idx,labels.idx --output accepted_idx.h5 --quiet
import idx_missing 'nowhere.idx: there is no such file' idx train=nowhere.idx
import idx_folder '.: is a folder' idx train=.
import idx_cut 'cut.idx|truncated' idx train=cut.idx
import idx_long 'long.idx: has 33 bytes, by its header' idx train=long.idx
import idx_head 'head.idx|IDX header|truncated' idx train=head.idx
import idx_text 'text.idx: is not an IDX file' idx train=text.idx
import idx_empty 'empty.idx' idx train=empty.idx
import idx_huge 'huge.idx' idx train=huge.idx
import idx_deep 'deep.idx: has 40 dimensions' idx train=deep.idx
import idx_gzip_cut 'cut.idx.gz' idx train=cut.idx.gz
import idx_gzip_bad 'bad.idx.gz' idx train=bad.idx.gz
import idx_rows 'images.idx has 4 rows, labels3.idx has 3' idx train=images.idx,labels3.idx
import idx_order 'labels.idx has one value a row, images.idx has 4: the inputs come first' idx train=labels.idx,images.idx
import idx_three "split 'train' has 3 files" idx train=images.idx,labels.idx,labels.idx
accept import_cifar import cifar train=good.bin --output accepted_cifar.h5 --quiet
import cifar_cut 'cut.bin: has 6141 bytes, expected a multiple of 3073' cifar train=cut.bin
import cifar_label 'label200.bin|row 0|200' cifar train=label200.bin
import cifar_missing 'nowhere.bin: there is no such file' cifar train=nowhere.bin
accept import_csv import csv train=good.csv --label-column class --output accepted_csv.h5 --quiet
import csv_label "good.csv: has no column 'klass'|is 'class' meant?" csv train=good.csv --label-column klass
import csv_ragged 'ragged.csv: line 3 has 2 fields, expected 3' csv train=ragged.csv --label-column class
import csv_word "word.csv|line 3|'b'|four|--categorical" csv train=word.csv --label-column class
import csv_inf "inf.csv|line 3|'b'|inf" csv train=inf.csv --label-column class
import csv_missing "missing.csv|line 3|'b'" csv train=missing.csv --label-column class
import csv_quote 'quote.csv: line 2|quote' csv train=quote.csv --label-column class
import csv_twice "twice.csv: two columns have the name 'a'" csv train=twice.csv --label-column class
import csv_header 'header.csv: has no rows' csv train=header.csv --label-column class
import csv_empty 'empty.csv' csv train=empty.csv --label-column class
import csv_columns "other.csv|'c'" csv train=good.csv test=other.csv --label-column class
accept import_npy import npy train=x.npy,y.npy --output accepted_npy.h5 --quiet
import npy_rows 'x.npy has 4 rows, y3.npy has 3' npy train=x.npy,y3.npy
import npy_cut 'cut.npy|truncated' npy train=cut.npy
import npy_text 'text.npy: is not an npy file' npy train=text.npy
import npy_object 'object.npy' npy train=object.npy
import npy_complex 'complex.npy|c8' npy train=complex.npy
import npy_fortran 'fortran.npy|Fortran' npy train=fortran.npy
import npy_nan 'nan.npy: row 1, value 1 (from 0): is NaN' npy train=nan.npy
import npy_scalar 'scalar.npy' npy train=scalar.npy
import several_splits "split 'train' is given twice" npy train=x.npy train=x.npy
import no_source 'SPLIT=FILE[,FILE...] is needed' npy
import not_a_source "'x.npy' is not a source, expected SPLIT=FILE" npy x.npy
import empty_file "'train=' has an empty file name" npy train=
import bad_split "'a/b=x.npy' is not a source" npy a/b=x.npy
import format "there is no format 'npz', expected one of idx, cifar, csv, npy" npz train=x.npy
finish
