# shellcheck shell=bash
# For tests/behaviour/errors_*.sh, after behaviour.sh: wrong calls, each tried with one process and on 4 ranks.
#
#   inputs TOPIC                       fills the folder the calls are made in (bad_inputs.py), and remembers every byte of it
#   refuse NAME 'WORDS|WORDS' CALL...  bad input: status 2 and a message with all the words
#   breaks NAME 'WORDS|WORDS' CALL...  the same with status 1: not the user's fault
#   accept NAME CALL...                status 0: the good neighbour of the wrong calls; what it writes belongs to the folder from then on
#
# A wrong call passes when every rank ends with that status within 5 s, rank 0 alone writes to stderr, its message is one line
# "mpistill: error: ..." with further lines indented by two spaces, the same from 4 ranks as from one, stdout is empty, and the folder holds
# the same files with the same bytes as before. MPISTILL_SHOW=1 prints the messages.
: "${work:?}" "${mpistill:?}" "${python:?}" "${top:?}"
said=$work/said
within_ms=5000
mkdir "$work/in" "$said"
cd "$work/in" || exit 1

# One rank's part of a call. mpirun hears of no failure: it would end the other ranks, and the test is how they end by themselves.
cat >"$work/one_rank" <<EOF
#!/bin/bash
rank=\${OMPI_COMM_WORLD_RANK:-0}
"$mpistill" "\$@" >"$said/out.\$rank" 2>"$said/err.\$rank" </dev/null
echo \$? >"$said/status.\$rank"
EOF
chmod +x "$work/one_rank"

# Caches of hashes may come and go.
folder_state() { find . ! -name '*.hash' \( -type f -exec sha256sum {} + -o -print \) 2>&1 | LC_ALL=C sort; }
remember() { folder_state >"$work/before"; }

inputs() {
  "$python" "$top/tests/lib/bad_inputs.py" "$@" || fail "inputs $*"
  remember
}

# call N ARGUMENTS...: on N ranks; elapsed_ms is how long it took.
call() {
  local n=$1 started
  shift
  rm -f "$said"/*
  started=$(date +%s%N)
  if [ "$n" = 1 ]; then
    timeout ${MPISTILL_TIMEOUT:-60} "$work/one_rank" "$@"
  else
    mpi "$n" timeout ${MPISTILL_TIMEOUT:-60} "$work/one_rank" "$@" >"$said/launcher" 2>&1 </dev/null
  fi
  elapsed_ms=$((($(date +%s%N) - started) / 1000000))
}

# The first thing wrong with how the ranks of the last call ended.
wrong_end() {
  local n=$1 wanted=$2 rank status
  for ((rank = 0; rank < n; rank++)); do
    status=$(cat "$said/status.$rank" 2>/dev/null) || status=none
    if [ "$status" != "$wanted" ]; then
      echo "rank $rank of $n: status $status, expected $wanted"
    elif [ "$rank" != 0 ] && [ -s "$said/err.$rank" ]; then
      echo "rank $rank of $n speaks: $(head -n 1 "$said/err.$rank")"
    elif [ -s "$said/out.$rank" ]; then
      echo "rank $rank of $n writes to stdout: $(head -n 1 "$said/out.$rank")"
    else
      continue
    fi
    return
  done
}

# The first thing wrong with the message of the last call; the message alone goes to $said/message.
wrong_message() {
  local words=$1 word
  if [ "$(grep -c '^mpistill: error: ' "$said/err.0")" != 1 ]; then
    echo "$(grep -c '^mpistill: error: ' "$said/err.0") errors, expected 1"
  elif grep -q -v -E '^(mpistill: |  )' "$said/err.0"; then
    echo 'a line that is neither a message nor indented'
  fi
  sed -n '/^mpistill: error: /,$p' "$said/err.0" >"$said/message"
  while [ -n "$words" ]; do
    word=${words%%|*}
    grep -q -F -- "$word" "$said/message" || echo "no '$word' in the message"
    [ "$word" = "$words" ] && return
    words=${words#*|}
  done
}

# All that is wrong with one wrong call on N ranks.
wrong_call() {
  local n=$1 wanted=$2 words=$3 wrong
  shift 3
  call "$n" "$@"
  [ "$elapsed_ms" -le "$within_ms" ] || call "$n" "$@" # once more: the machine may have been busy
  wrong=$(wrong_end "$n" "$wanted")
  [ -n "$wrong" ] || wrong=$(wrong_message "$words" | head -n 1)
  if [ -n "$wrong" ]; then
    echo "$wrong"
  elif [ "$elapsed_ms" -gt "$within_ms" ]; then
    echo "$n ranks: $elapsed_ms ms"
  elif [ "$n" != 1 ] && ! cmp -s "$said/message" "$work/message.1"; then
    echo "$n ranks say something else than one"
  elif ! folder_state | cmp -s - "$work/before"; then
    echo "$n ranks change files: $(folder_state | diff "$work/before" - | tail -n 1)"
  fi
  cp "$said/message" "$work/message.$n"
}

ranks_for() {
  case ${1:-} in
  inspect | create | import) echo 1 ;; # they use no MPI
  *) echo "${RANKS:-1 4}" ;;
  esac
}

ends() {
  local wanted=$1 name=$2 words=$3 n wrong=''
  shift 3
  for n in $(ranks_for "$@"); do
    wrong=$(wrong_call "$n" "$wanted" "$words" "$@")
    [ -z "$wrong" ] || break
  done
  if [ -z "$wrong" ]; then
    pass "$name"
  else
    echo "not ok $name ($wrong): mpistill $*"
    failures=$((failures + 1))
    remember
  fi
  if [ -n "$wrong" ] || [ -n "${MPISTILL_SHOW:-}" ]; then head -n 20 "$said/err.0" | sed 's/^/    /'; fi
}

refuse() { ends 2 "$@"; }
breaks() { ends 1 "$@"; }

accept() {
  local name=$1 n wrong=''
  shift
  for n in $(ranks_for "$@"); do
    call "$n" "$@"
    [ "$(cat "$said"/status.* | sort -u)" = 0 ] || wrong="$n ranks: status $(cat "$said"/status.* | tr '\n' ' ')"
    [ -z "$wrong" ] || break
  done
  if [ -z "$wrong" ]; then
    pass "$name"
  else
    echo "not ok $name ($wrong): mpistill $*"
    failures=$((failures + 1))
    head -n 20 "$said/err.0" | sed 's/^/    /'
  fi
  remember
}
