#!/bin/sh
# A download of CIFAR-10 (the binary version) -> a dataset file.
usage='FOLDER OUTPUT.h5

  FOLDER  holds cifar-10-binary.tar.gz; it is unpacked into a temporary folder (180 MB)'
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

# The checksum is the one its authors publish: MD5, of the archive.
read_arguments "$usage" "$@"
find_mpistill
check md5sum "$folder/cifar-10-binary.tar.gz" c32a1d4ab5d03f1284b67883e8d87530
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
trap 'exit 1' HUP INT TERM
tar -xzf "$folder/cifar-10-binary.tar.gz" -C "$unpacked"
bin=$unpacked/cifar-10-batches-bin
"$mpistill" import cifar \
  train="$bin/data_batch_1.bin,$bin/data_batch_2.bin,$bin/data_batch_3.bin,$bin/data_batch_4.bin,$bin/data_batch_5.bin" \
  test="$bin/test_batch.bin" --output "$output"
