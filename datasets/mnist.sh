#!/bin/sh
# A download of MNIST (four IDX files, as .gz or unpacked) -> a dataset file.
usage='FOLDER OUTPUT.h5

  FOLDER  holds train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz,
          t10k-labels-idx1-ubyte.gz (or the same without .gz)'
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

# take FILE SHA256-UNPACKED
take() {
  pick "$folder/$1"
  check_content sha256sum "$picked" "$2"
}

read_arguments "$usage" "$@"
find_mpistill
take train-images-idx3-ubyte ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
train_images=$picked
take train-labels-idx1-ubyte 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
train_labels=$picked
take t10k-images-idx3-ubyte 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
test_images=$picked
take t10k-labels-idx1-ubyte ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
exec "$mpistill" import idx train="$train_images,$train_labels" test="$test_images,$picked" --output "$output"
