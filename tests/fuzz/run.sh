#!/bin/bash
# make fuzz: every reader of foreign bytes under libFuzzer, AddressSanitizer and UBSan, FUZZ_SECONDS (60) each, from the seeds of corpus.py.
# FUZZ=NAME runs one target. Inputs that were found stay in build/fuzz/found/NAME, a corpus that grows in build/fuzz/corpus/NAME.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
seconds=${FUZZ_SECONDS:-60}
failed=0
passed=0
make -j"$(nproc)" --no-print-directory all >/dev/null || exit 1
# -Wno-error: with sanitizers compilers warn of what cannot happen.
make -j"$(nproc)" --no-print-directory CC=clang BUILD="$build/fuzz" OPTIMIZE='-O1 -g' \
  SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -Wno-error' fuzzers >/dev/null || exit 1
export TMPDIR
TMPDIR=$(mktemp -d /dev/shm/mpistill-fuzz.XXXXXX)
trap 'rm -rf "$TMPDIR"' EXIT
/usr/bin/python3 tests/fuzz/corpus.py "$TMPDIR" "$(realpath "$build/mpistill")" "$PWD" || exit 1

# Leaks are looked for; what is absurdly large is to be refused by us, so memory that is not there must be.
export LSAN_OPTIONS=suppressions=$PWD/tests/fuzz/lsan.supp:print_suppressions=0
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1
printf '%-12s %12s %9s  %s\n' target executions corpus result
for source in tests/fuzz/*.c; do
  name=$(basename "$source" .c)
  # shellcheck disable=SC2254 # FUZZ is a pattern
  case $name in ${FUZZ:-*}) ;; *) continue ;; esac
  corpus=$build/fuzz/corpus/$name found=$build/fuzz/found/$name log=$build/fuzz/$name.log
  mkdir -p "$corpus" "$found"
  "$build/fuzz/tests/fuzz/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -malloc_limit_mb=65536 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="$found/" "$corpus" "$TMPDIR/$name" >"$log" 2>&1
  status=$?
  # HDF5 parses damaged headers in a child, whose crash is an error of the file: such a child reports for itself, before the end.
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  contained=$(grep -c 'ERROR: AddressSanitizer' "$log")
  if [ $status = 0 ] && [ "${executions:-0}" -gt 0 ]; then
    result=clean
    [ "$contained" = 0 ] || result="clean; $contained crashes of HDF5 in a child"
    passed=$((passed + 1))
  else
    result="FINDING: $(grep -m 1 -E 'ERROR:|SUMMARY:|runtime error:|^status ' "$log" | cut -c 1-100) ($log)"
    failed=$((failed + 1))
  fi
  printf '%-12s %12s %9s  %s\n' "$name" "${executions:-?}" "$(find "$corpus" -type f | wc -l)" "$result"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
