#!/bin/bash
# mpirun.sh over hosts of this machine's own (hosts.sh): 2 and 4 of them, uneven ones, with cables that are slow, lossy or cut. Run by
# `make check-hosts`, as root. Prints "ok NAME", "not ok NAME" or "skip NAME REASON" lines and at the end "N passed, N failed".
# Usage: tests/hosts/run.sh [placed|cables|lost|unlike|overlap]...    (overlap only where it is named: it is a measurement)
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/hosts/hosts.sh
. "$top/tests/hosts/hosts.sh"
hosts_cable=$(cd "$top" && realpath "${BUILD:-build}/tests/tools/cable")
export MPISTILL=$mpistill
export OMPI_MCA_mpi_yield_when_idle=1 # the hosts share this machine's cores
passed=0
pass() {
  echo "ok $1"
  passed=$((passed + 1))
}
end() {
  hosts_stop
  if [ -n "${KEEP:-}" ]; then cp -r "$work" "$KEEP"; fi
  cd / && rm -rf "$work"
  echo "$passed passed, $failures failed"
}
trap end EXIT
trap 'exit 1' INT TERM

recipe() { # NAME EPOCHS
  cat >"$1.yaml" <<END
dataset: shared/digits.h5
output: shared/$1
teachers:
  - {name: wide, model: shared/wide.onnx}
  - {name: conv, model: shared/conv.onnx}
student: {model: shared/student.onnx}
distill: {epochs: $2, batch: 256, shards: 8}
checkpoint: {every_seconds: 1}
END
}
# on_hosts "HOSTS" OPTIONS...: mpirun.sh on host 1 with these lines as its host file; status.
on_hosts() {
  local lines=$1
  shift
  printf '%b\n' "$lines" >hostfile
  status=0
  host_run 1 timeout 600 "$top/launch/mpirun.sh" --hostfile hostfile "$@" >out 2>err </dev/null || status=$?
}
told() { "$mpistill" inspect "shared/$1" 2>/dev/null | awk -v name="$2" '$1 == name { print $2 }'; } # RUN FIELD
trains() { [ -e "shared/$1/checkpoint/student/0.h5" ]; }
until_true() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}
# equals NAME RUN: the student and the ensemble of one process without a network.
equals() {
  same "$1: the ensemble is that of one process" "shared/$2/ensemble.h5" shared/alone/ensemble.h5
  same "$1: the student is that of one process" "shared/$2/student.onnx" "shared/$3/student.onnx"
}

# ---- the groups ----

# case NAME "HOST FILE" RANKS NODES OPTIONS...
placed_case() {
  local name=$1 lines=$2 wanted=$3
  recipe placed 3
  rm -rf shared/placed
  on_hosts "$lines" "${@:4}" run placed.yaml --quiet
  check "$name: $wanted ranks and hosts" test "$status $(told placed ranks) $(told placed nodes)" = "0 $wanted"
  equals "$name" placed alone
}
placed() {
  placed_case 'two hosts by core' 'host1 slots=2\nhost2 slots=2' '4 2' --place core
  check 'two hosts by core: the places of the ranks are shown' test "$(grep -c 'bound to socket' err)" = 4
  placed_case 'two hosts by node' 'host1\nhost2' '2 2' --place node
  placed_case 'two hosts by NUMA domain' 'host1\nhost2' '2 2' --place numa
  placed_case 'four hosts by core' 'host1 slots=2\nhost2 slots=2\nhost3 slots=2\nhost4 slots=2' '8 4' --place core
  placed_case 'four hosts by node' 'host1\nhost2\nhost3\nhost4' '4 4' --place node
  placed_case 'uneven hosts' 'host1 slots=1\nhost2 slots=2\nhost3 slots=2' '5 3' --place core
}

# shellcheck disable=SC2016 # for the host's shell
round_trip_us() { host_run 1 bash -c 'at=${EPOCHREALTIME/./}; exec 3<>/dev/tcp/host2/22; echo $((${EPOCHREALTIME/./} - at))'; }
# cable NAME CONDITION VALUE: the same bytes over two hosts whose cables are so.
cable() {
  local name=$1
  recipe cable 10
  rm -rf shared/cable
  if ! "$2" "$3" 2>reason; then
    "$2" ''
    echo "skip $name this kernel cannot: $(tail -n 1 reason)"
    return
  fi
  on_hosts 'host1\nhost2' --place node run cable.yaml --quiet
  "$2" ''
  check "$name: ends" test "$status $(told cable nodes)" = '0 2'
  equals "$name" cable ten
}
cables() {
  cable 'cables of 100 Mbit/s' hosts_rate 100mbit
  cable 'cables that lose one packet in a hundred' hosts_loss 1
  cable 'cables of 1 ms' hosts_delay 1000
  hosts_delay 1000
  check 'cables of 1 ms: there and back is four' test "$(round_trip_us)" -ge 4000
  hosts_delay ''
}

# under_way NAME OPTIONS...: a long training over two hosts, until it has written a checkpoint; launcher is its process.
under_way() {
  local name=$1
  printf 'host1\nhost2\n' >hostfile
  host_run 1 timeout 600 "$top/launch/mpirun.sh" --hostfile hostfile --place node "${@:2}" run "$name.yaml" --quiet --stall-timeout 60 \
    >out 2>err </dev/null &
  launcher=$!
  until_true 120 trains "$name" || fail "$name: a checkpoint within two minutes"
}
# ends_within SECONDS: the launcher; status and took.
ends_within() {
  local started=$SECONDS
  until_true "$1" test ! -d "/proc/$launcher" || kill "$launcher"
  status=0
  wait "$launcher" || status=$?
  took=$((SECONDS - started))
}

lost() {
  local launcher took
  recipe probe 100
  on_hosts 'host1\nhost2' --place node run probe.yaml --quiet
  # Long enough to be cut in its middle: 20 seconds over these cables.
  long=$(sed -n 's/.*"event":"done".*"seconds":\([0-9.]*\).*/\1/p' shared/probe/run.jsonl | awk '{ print int(100 * 20 / $1) }')
  for name in blink cut off straight; do recipe $name "$long"; done
  must 0 run straight.yaml --quiet

  under_way blink
  host_link 2 down
  sleep 4
  host_link 2 up
  ends_within 300
  check 'a cable out for four seconds: the run does not end' test "$status" = 0
  equals 'a cable out for four seconds' blink straight

  under_way cut --restarts 0
  host_link 2 down
  ends_within 120
  check 'a cable cut for good: the run ends within the stall timeout' test "$status" != 0 -a "$took" -lt 90
  echo "  it ended with status $status after $took s"
  host_link 2 up
  on_hosts 'host1\nhost2' --place node run cut.yaml --quiet
  check 'the same command goes on' test "$status $(grep -c '"event":"resume"' shared/cut/run.jsonl)" = '0 1'
  equals 'after the cut' cut straight

  under_way off
  host_off 2
  ends_within 300
  sed -n 's/^mpirun.sh: /  /p' err
  check 'a host is gone: mpirun.sh goes on by itself without it' test "$status $(told off nodes)" = '0 1'
  equals 'without the host' off straight
}

# unlike NAME WORDS: the last run ended with status 2 and one message with all of them.
said() {
  local name=$1 words
  shift
  check "$name: status 2, one message" test "$status $(grep -c '^mpistill: error: ' err)" = '2 1'
  for words in "$@"; do check "$name: says '$words'" grep -q -F -- "$words" err; done
}
unlike() {
  recipe refused 3
  rm -rf shared/refused
  mkdir empty
  host_run 4 mount --bind "$work/empty" "$work/shared"
  on_hosts 'host1\nhost4' --place node run refused.yaml --quiet
  said 'a host without the files' '.onnx: cannot be opened: No such file' 'host4' 'files must be where every host sees them'
  host_run 4 umount "$work/shared"
  host_run 4 mount -t tmpfs -o size=5m tmpfs /dev/shm
  host_run 4 sh -c 'head -c 3m /dev/zero >/dev/shm/filled'
  recipe full 3
  on_hosts 'host3 slots=2\nhost4 slots=2' run full.yaml --quiet
  check 'a host whose /dev/shm is full: a warning' test "$status $(grep -c 'warning: ranks of one host share no memory' err)" = '0 1'
  equals 'a host whose /dev/shm is full' full alone
}

# What it gains that gradients are sent while the backward pass goes on: 10 MB of them, two hosts, cables of RATE (1gbit).
overlap() {
  local way
  must 0 create mlp --layers 64,1600,1600,10 --seed 4 --output shared/large.onnx
  for way in 0 1; do
    printf '#!/bin/sh\nMPISTILL_OVERLAP=%s exec "%s" "$@"\n' $way "$mpistill" >shared/overlap$way
    chmod +x shared/overlap$way
  done
  hosts_rate "${RATE:-1gbit}"
  for _ in 1 2 3 4 5; do
    for way in 0 1; do
      MPISTILL=$PWD/shared/overlap$way on_hosts 'host1\nhost2' --place node train --model shared/large.onnx --dataset shared/digits.h5 --batch 1437 \
        --shards 2 --epochs 40 --output shared/large$way.onnx --log shared/large$way.jsonl --force --quiet
      [ $status = 0 ] || fail "overlap $way: status $status"
    done
  done
  hosts_rate ''
  same 'sent beside the backward pass or after it: the same student' shared/large0.onnx shared/large1.onnx
  for way in 0 1; do
    sed -n 's/.*"event":"done".*"seconds":\([0-9.]*\).*/\1/p' shared/large$way.jsonl | sort -g |
      awk -v way=$way '{ s[NR] = $1 } END { printf "  %s: %.1f ms a step\n", way ? "beside" : "after", 25 * s[(NR + 1) / 2] }'
  done
}

if [ "$(id -u)" != 0 ]; then
  fail 'root is needed to make hosts'
  exit 1
fi
if ! hosts_start "$work/net" 4; then
  tail -n 5 "$work"/net/*.log
  fail 'four hosts are up'
  exit 1
fi
pass 'four hosts are up'
export OMPI_MCA_plm_rsh_agent=$hosts_ssh
mkdir shared
cp "$digits" shared/digits.h5
must 0 create mlp --layers 64,256,10 --seed 1 --output shared/wide.onnx
must 0 create cnn --input 1x8x8 --channels 8,16 --hidden 32 --classes 10 --seed 2 --output shared/conv.onnx
must 0 create mlp --layers 64,256,256,10 --seed 3 --output shared/student.onnx
recipe alone 3
recipe ten 10
must 0 run alone.yaml --quiet
must 0 run ten.yaml --quiet
[ $# -gt 0 ] || set -- placed cables lost unlike
for group in "$@"; do $group; done
[ "$failures" = 0 ]
