#!/bin/bash
# make check: every test, each with a timeout, and at the end one line "N passed, N failed".
# Usage: tests/check.sh [PATTERN]   runs only the groups whose name contains PATTERN, LANES=N (a core each) at a time.
# MPISTILL_PATIENCE=N: timeouts N times as long; 3 with MPICH, where more ranks than cores take longer.
set -u
cd "$(dirname "$0")/.." || exit 1
only=${1:-}
build=${BUILD:-build}
logs=$build/check
mkdir -p "$logs"
counts=$logs/counts
: >"$counts"
started=$SECONDS
lanes=${LANES:-$(nproc)}

# run_group NAME SECONDS COMMAND...: counts the "ok" and "not ok" lines of a script, or cmocka's.
run_group() {
  local name=$1 limit=$2 log status=0 ok bad at=$SECONDS
  shift 2
  log=$logs/${name//\//_}.log
  timeout --kill-after=10 $((limit * ${MPISTILL_PATIENCE:-1})) "$@" >"$log" 2>&1 </dev/null || status=$?
  ok=$(grep -c -E '^(ok |\[       OK \])' "$log")
  bad=$(grep -c -E '^(not ok |\[  FAILED  \] [a-z])' "$log")
  if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
  if [ "$status" = 0 ] && ! grep -q -E '^(ok |skip |\[       OK \])' "$log"; then bad=1; fi # a test that ran nothing has not passed
  echo "$ok $bad $(grep -c -E '^skip ' "$log")" >>"$counts"
  if [ "$bad" = 0 ]; then
    printf '%-44s %4d passed  %3ds\n' "$name" "$ok" $((SECONDS - at))
  else
    printf '%-44s %4d passed, %d FAILED (status %d)  %3ds\n' "$name" "$ok" "$bad" "$status" $((SECONDS - at))
    grep -E -B 8 '^(not ok |\[  FAILED  \] [a-z])' "$log" | tail -n 60
    [ "$status" = 124 ] && echo "  no end after $limit s"
    tail -n 5 "$log"
  fi
}

wanted() { case $1 in *"$only"*) ;; *) return 1 ;; esac }

# group NAME SECONDS COMMAND...: beside others, as many as there are cores; its lines come together when it is done.
group() {
  wanted "$1" || return 0
  while [ "$(jobs -rp | wc -l)" -ge "$lanes" ]; do wait -n; done
  {
    run_group "$@" >"$logs/${1//\//_}.out"
    cat "$logs/${1//\//_}.out"
  } &
}

# alone NAME SECONDS COMMAND...: for what looks at the clock, the memory or the disk of the machine.
alone() {
  wanted "$1" || return 0
  wait
  run_group "$@"
}

make -j"$(nproc)" --no-print-directory all unit tools >"$logs/make.log" 2>&1 || {
  tail -n 40 "$logs/make.log"
  echo '0 passed, 1 failed'
  exit 1
}

. tests/lib/mpi.sh
$open_mpi || export MPISTILL_PATIENCE="${MPISTILL_PATIENCE:-3}"

whole_machine() {
  case $1 in disk | faults | handles | kills | launch | live | lock | plan | stall | stop | watch) ;; *) return 1 ;; esac
}
for source in tests/unit/*/test_*.c; do
  name=${source#tests/unit/}
  name=${name%.c}
  ranks=$(sed -n 's,^/\* ranks: \([0-9 ]*\)\*/.*,\1,p' "$source" | head -n 1)
  if [ -z "$ranks" ]; then
    group "unit/$name" 300 "$build/tests/$name"
  else
    for n in $ranks; do group "unit/$name/$n" 300 "${mpirun[@]}" -n "$n" "$build/tests/$name"; done
  fi
done
for script in tests/behaviour/*.sh; do
  name=$(basename "$script" .sh)
  whole_machine "$name" || group "behaviour/$name" 600 "$script"
done
for script in tests/reference/test_*.py; do
  name=$(basename "$script" .py)
  group "reference/$name" 900 /usr/bin/python3 "$script"
done
group conformance 600 tests/conformance/run.sh
group source 600 tests/source.sh
for script in tests/behaviour/*.sh; do
  name=$(basename "$script" .sh)
  if whole_machine "$name"; then alone "behaviour/$name" 600 "$script"; fi
done
wait

read -r passed failed skipped < <(awk '{ a += $1; b += $2; c += $3 } END { print a + 0, b + 0, c + 0 }' "$counts")
echo "$((SECONDS - started)) s, $skipped skipped, logs in $logs"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
