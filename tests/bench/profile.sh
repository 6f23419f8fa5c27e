#!/bin/bash
# make profile RECIPE=recipe.yaml: runs it into a folder of its own and prints where the time went, by phase and by operator.
#   RANKS=N          ranks (2)       THREADS=N   threads of each (1)
#   SET='K=V K=V'    replaces keys of the recipe, as --set does: SET=distill.epochs=1
#   JSON=FILE        the same numbers for programs
set -eu
. "$(dirname "$0")/../lib/mpi.sh"
recipe=${1:?usage: make profile RECIPE=recipe.yaml}
[ -f "$recipe" ] || { echo "profile: $recipe: there is no such file" >&2 && exit 2; }
program=$(realpath "${BUILD:-build}")/mpistill
folder=$(mktemp -d "${TMPDIR:-/tmp}/mpistill-profile.XXXXXX")
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/times"
set_keys=()
for pair in ${SET:-}; do set_keys+=(--set "$pair"); done
export OMP_NUM_THREADS=${THREADS:-1} MPISTILL_PROFILE=$folder/times
mpi "${RANKS:-2}" --map-by "slot:PE=${THREADS:-1}" "$program" run "$recipe" --quiet --set "output=$folder/run" "${set_keys[@]}"
/usr/bin/python3 "$(dirname "$0")/phases.py" "$folder/times" ${JSON:+"$JSON"}
