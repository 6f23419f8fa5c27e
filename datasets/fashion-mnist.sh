#!/bin/sh
# A download of Fashion-MNIST (four IDX files as .gz) -> a dataset file.
usage='FOLDER OUTPUT.h5

  FOLDER  holds train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz,
          t10k-labels-idx1-ubyte.gz of Fashion-MNIST (MNIST has files of the same names)'
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

# The checksums are those its authors publish: MD5, of the .gz files.
read_arguments "$usage" "$@"
find_mpistill
check md5sum "$folder/train-images-idx3-ubyte.gz" 8d4fb7e6c68d591d4c3dfef9ec88bf0d
check md5sum "$folder/train-labels-idx1-ubyte.gz" 25c81989df183df01b3e8a0aad5dffbe
check md5sum "$folder/t10k-images-idx3-ubyte.gz" bef4ecab320f06d8554ea6380940ec79
check md5sum "$folder/t10k-labels-idx1-ubyte.gz" bb300cfdad3c16e7a12a480ee83cd310
exec "$mpistill" import idx \
  train="$folder/train-images-idx3-ubyte.gz,$folder/train-labels-idx1-ubyte.gz" \
  test="$folder/t10k-images-idx3-ubyte.gz,$folder/t10k-labels-idx1-ubyte.gz" --output "$output"
