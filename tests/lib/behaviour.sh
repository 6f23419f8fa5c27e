# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this use them
# For the scripts in tests/behaviour: a temporary folder, the program, and assertions that print "ok NAME" or "not ok NAME".
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$top/tests/lib/mpi.sh"
mpistill=$(realpath "${MPISTILL:-$(cd "$top" && realpath "${BUILD:-build}")/mpistill}")
digits=$top/datasets/digits.h5
python=/usr/bin/python3
work=$(mktemp -d "${TMPDIR:-/tmp}/mpistill-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
export OMP_NUM_THREADS=1
export PYTHONPATH=$top/tests/lib PYTHONDONTWRITEBYTECODE=1

# run N ARGUMENTS...: mpistill on N ranks within a minute; out, err and status tell what it said.
run() {
  local n=$1
  shift
  status=0
  if [ "$n" = 0 ]; then
    timeout 120 "$mpistill" "$@" >out 2>err </dev/null || status=$?
  else
    mpi "$n" timeout 120 "$mpistill" "$@" >out 2>err </dev/null || status=$?
  fi
}

# must N ARGUMENTS...: run, where anything but success is a failed check.
must() {
  run "$@"
  [ "$status" = 0 ] || fail "status $status of: -n $*"
}

# start N ARGUMENTS...: mpistill on N ranks in the background; job is mpirun's process.
start() {
  "${mpirun[@]}" -n "$1" "$mpistill" "${@:2}" >out 2>err </dev/null &
  job=$!
}

# kill_job: SIGKILL for mpirun of the last start. Its ranks outlive it by up to a second; returns when they are gone too.
kill_job() {
  local ranks rank waited=0
  ranks=$(ranks_of "$job")
  kill -KILL "$job" 2>/dev/null || return
  wait "$job" 2>/dev/null
  for rank in $ranks; do
    while grep -q -s '^State:.[^Z]' "/proc/$rank/status" && [ $((waited += 1)) -lt 200 ]; do sleep 0.05; done
  done
}

# wait_job: for mpirun of the last start, of which a rank was killed; returns its status. libpmix can leave mpirun hanging for good when a rank
# dies while it starts: one with no living rank for five seconds is ended.
wait_job() {
  local idle=0 rank
  while kill -0 "$job" 2>/dev/null && [ "$((idle += 1))" -lt 100 ]; do
    for rank in $(ranks_of "$job"); do
      if grep -q -s '^State:.[^Z]' "/proc/$rank/status"; then idle=0; fi
    done
    sleep 0.05
  done
  kill -KILL "$job" 2>/dev/null
  wait "$job" 2>/dev/null
}

pass() { echo "ok $1"; }
fail() {
  echo "not ok $1"
  failures=$((failures + 1))
  [ -s err ] && tail -n 5 err | sed 's/^/    /'
}

# check NAME COMMAND...: passes when the command succeeds.
check() {
  local name=$1
  shift
  if "$@"; then pass "$name"; else fail "$name"; fi
}

# python_check NAME [ARGUMENT...] <<'END': passes when the Python program on standard input succeeds; its last lines tell why not.
python_check() {
  local name=$1
  shift
  if "$python" - "$@" 2>err; then pass "$name"; else fail "$name"; fi
}

# same NAME FILE FILE: the same bytes.
same() { check "$1" cmp -s "$2" "$3"; }

# differ NAME FILE FILE: both exist, with other bytes.
differ() { check "$1" test -s "$2" -a -s "$3" -a "$(cmp -s "$2" "$3" && echo same)" != same; }

# expect_error NAME STATUS TEXT...: of the last run: its status, exactly one "mpistill: error: " line, holding all the texts.
expect_error() {
  local name=$1 wanted=$2 text
  shift 2
  if [ "$status" != "$wanted" ]; then
    fail "$name (status $status, expected $wanted)"
    return
  fi
  if [ "$(grep -c '^mpistill: error: ' err)" != 1 ]; then
    fail "$name ($(grep -c '^mpistill: error: ' err) error lines, expected 1)"
    return
  fi
  for text in "$@"; do
    if ! grep -q -i -F -- "$text" err; then
      fail "$name (no '$text' in the message)"
      return
    fi
  done
  pass "$name"
}

finish() { [ "$failures" = 0 ]; }
