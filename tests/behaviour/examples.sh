#!/bin/bash
# The recipes of datasets/examples from end to end: pictures, sentences, series, ratings, a table; what the student gains, the same bytes on
# 1, 2 and 4 ranks.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$top"/datasets/examples/*.yaml .
/usr/bin/python3 "$top/datasets/examples/make_examples.py" . || exit 1
/usr/bin/python3 "$top/datasets/examples/make_examples.py" again || exit 1
for name in sentences ratings tones pictures table; do same "$name.h5: the same bytes each time" $name.h5 again/$name.h5; done
"$python" - <<'END' || exit 1
import forest, h5py
with h5py.File("table.h5") as f:
    forest.Forest(f["train/features"][:], f["train/label"][:], 5, trees=12, depth=11, tries=12).write("forest.onnx")
END

# gains NAME POINTS: the student of a recipe is so many points better than on hard labels alone.
gains() {
  must 2 run "$1-teacher.yaml" --quiet
  must 2 run "$1.yaml" --quiet --json
  python_check "$1: the student gains $2 points" "$2" <<'END'
import json, sys
rows = {r["name"]: r["accuracy"] for r in json.load(open("out"))["models"] if "accuracy" in r}
assert 100 * (rows["student"] - rows["baseline"]) >= float(sys.argv[1]), rows
END
}
gains sentences 10
gains ratings 10
gains tones 1
gains pictures 3
gains table 2

for name in sentences ratings tones pictures table; do
  for n in 1 4; do
    must $n run $name.yaml --set output="run/$n-$name" --set baseline=false --set distill.epochs=2 --quiet
  done
  same "$name: the same student on 1 and 4 ranks" run/1-$name/student.onnx run/4-$name/student.onnx
done
finish
