#!/bin/bash
# Checks on the sources themselves: layers, who may call which library, warnings of a second compiler, shell scripts.
set -u
shopt -s lastpipe
cd "$(dirname "$0")/.." || exit 1
failures=0
report() { # NAME, and on standard input what breaks the rule
  local found
  found=$(cat)
  if [ -z "$found" ]; then
    echo "ok $1"
  else
    echo "$found" | head -n 20
    echo "not ok $1"
    failures=$((failures + 1))
  fi
}

layers='base comm store import graph ops onnx models learn stages cli'
above=
for layer in $layers; do
  above="$above $layer"
  for other in $layers; do
    case " $above " in
      *" $other "*) ;;
      *) grep -n "#include \"$other/" src/"$layer"/*.[ch] ;;
    esac
  done | report "layer $layer uses only those above it"
done
grep -n -E '\bMPI_[A-Z][a-z_]+ *\(' src/*/*.c | grep -v '^src/comm/' | report 'only src/comm calls MPI'
grep -n -E '\bH5[A-Z]+[a-z_]+ *\(' src/*/*.[ch] | grep -v '^src/store/' | report 'only src/store calls HDF5'
grep -l '#include <\(oneapi/dnnl/\)\?dnnl' src/*/*.[ch] | grep -v -x 'src/ops/dnnl[_a-z]*\.[ch]' | report 'one file knows oneDNN'
grep -n -E '\b(malloc|calloc|realloc|strdup|abort|exit|assert) *\(' src/*/*.c | grep -v -E '^src/(base/mem|cli/main)\.c' |
  report 'memory through base/mem.h, no abort or exit in the library'
grep -n -E '\b(TODO|FIXME|XXX)\b' src/*/*.[ch] include/*/*.h launch/* tests/*/*.sh Makefile | report 'nothing left for later'
git ls-files '*.sh' .ci/run 2>/dev/null | xargs -r shellcheck -x -S warning 2>&1 | report 'shell scripts are clean'
clang=(CC=clang)
[ "${CC:-}" != mpicc ] || clang=(CC=mpicc OMPI_CC=clang)
make -j"$(nproc)" --no-print-directory "${clang[@]}" BUILD="${BUILD:-build}/clang" all 2>&1 >/dev/null | grep -E 'warning|error' |
  report 'clang builds without a warning'
[ "$failures" = 0 ]
