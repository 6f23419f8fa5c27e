#!/bin/bash
# Published results again: make reproduce [ONLY=hinton] [DATA=FOLDER] [SEEDS=5] [RANKS=2].
# DATA holds what the user has downloaded: mnist/ (four IDX files), letter/letter-recognition.csv, trec/TREC.train and TREC.test.
# Everything lands in $OUT (build/reproduce): what is there is not made again, so a run that was cut off goes on. Ends with the table.
set -u
cd "$(dirname "$0")/../.." || exit 1
[ -d "${DATA:-}" ] || { echo 'reproduce: give DATA=FOLDER, with what you have downloaded' && exit 2; }
DATA=$(realpath "$DATA")
export DATA OUT="${OUT:-$PWD/build/reproduce}" SEEDS="${SEEDS:-5}" RANKS="${RANKS:-2}" OMP_NUM_THREADS=1
mkdir -p "$OUT"
status=0
for script in hinton absent pate noise letter trec; do
  case $script in *"${ONLY:-}"*) ;; *) continue ;; esac
  echo "== $script"
  "tests/reproduce/$script.sh" || {
    echo "$script: not finished"
    status=1
  }
done
/usr/bin/python3 tests/reproduce/table.py "$OUT"/*.rows
exit $status
