# shellcheck shell=bash
# For tests/behaviour/errors_*.sh, after behaviour.sh: wrong calls, each tried with one process and on 4 ranks.
#
#   inputs TOPIC                       fills the folder the calls are made in (bad_inputs.py), and remembers every byte of it
#   refuse NAME 'WORDS|WORDS' CALL...  bad input: status 2 and a message with all the words
#   breaks NAME 'WORDS|WORDS' CALL...  the same with status 1: not the user's fault
#   accept NAME CALL...                status 0: the good neighbour of the wrong calls; what it writes belongs to the folder from then on
#
# A wrong call passes when every rank ends with that status within 5 s, rank 0 alone writes to stderr, its message is one line
# "mpistill: error: ..." with further lines indented by two spaces, the same from 4 ranks as from one, and stdout is empty. The folder must
# hold the same files with the same bytes as before. MPISTILL_SHOW=1 prints the messages.
#
# Wrong calls change nothing, so several are under way at a time, each with an output of its own; settle waits for them and says what came
# of them.
: "${work:?}" "${mpistill:?}" "${python:?}" "${top:?}"
within_ms=$((5000 * ${MPISTILL_PATIENCE:-1}))
at_once=${MPISTILL_AT_ONCE:-4}
cases=0
said=$work/said
mkdir "$work/in" "$work/cases" "$said"
cd "$work/in" || exit 1

# One rank's part of a call. mpirun hears of no failure, and of no end before the last one's: it would end the other ranks, and the test is
# how they end by themselves.
cat >"$work/one_rank" <<EOF
#!/bin/bash
said=\$1 rank=\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}}
shift
"$mpistill" "\$@" >"\$said/out.\$rank" 2>"\$said/err.\$rank" </dev/null
echo \$? >"\$said/status.\$rank"
for ((i = 0; i < 200 && \$(ls "\$said" | grep -c '^status') < \${OMPI_COMM_WORLD_SIZE:-\${PMI_SIZE:-1}}; i++)); do sleep 0.05; done
EOF
chmod +x "$work/one_rank"

# Caches of hashes may come and go; recipes are written while calls are under way.
folder_state() { find . ! -name '*.hash' ! -name '*.yaml' \( -type f -exec sha256sum {} + -o -print \) 2>&1 | LC_ALL=C sort; }
remember() {
  settle
  folder_state >"$work/before"
}

# Which of the calls changed a file is seen with MPISTILL_AT_ONCE=1.
settle() {
  local i
  wait
  [ "$cases" = 0 ] && return
  for ((i = 1; i <= cases; i++)); do
    cat "$work/cases/$i/result"
    grep -q '^not ok ' "$work/cases/$i/result" && failures=$((failures + 1))
  done
  folder_state >"$work/after"
  if ! cmp -s "$work/before" "$work/after"; then
    fail "files changed by one of these $cases calls: $(diff "$work/before" "$work/after" | grep '^[<>]' | head -n 3 | tr '\n' ' ')"
    cp "$work/after" "$work/before"
  fi
  rm -rf "$work/cases"
  mkdir "$work/cases"
  cases=0
}

finish() {
  settle
  [ "$failures" = 0 ]
}

inputs() {
  settle
  "$python" "$top/tests/lib/bad_inputs.py" "$@" || fail "inputs $*"
  remember
}

# call N ARGUMENTS...: on N ranks; elapsed_ms is how long it took.
call() {
  local n=$1 started
  shift
  rm -rf "${said:?}"/*
  started=$(date +%s%N)
  if [ "$n" = 1 ]; then
    OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_orte_tmpdir_base=$said timeout "${MPISTILL_TIMEOUT:-60}" "$work/one_rank" "$said" "$@"
  else
    mpi "$n" timeout "${MPISTILL_TIMEOUT:-60}" "$work/one_rank" "$said" "$@" >"$said/launcher" 2>&1 </dev/null
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
  local n=$1 wanted=$2 words=$3 wrong limit_ms
  shift 3
  call "$n" "$@"
  limit_ms=$within_ms
  if [ "$elapsed_ms" -gt "$within_ms" ]; then # the machine may be busy: as slow as that, and as 5 s more
    call "$n" evaluate
    limit_ms=$((within_ms + 2 * elapsed_ms))
    call "$n" "$@"
  fi
  wrong=$(wrong_end "$n" "$wanted")
  [ -n "$wrong" ] || wrong=$(wrong_message "$words" | head -n 1)
  if [ -n "$wrong" ]; then
    echo "$wrong"
  elif [ "$elapsed_ms" -gt "$limit_ms" ]; then
    echo "$n ranks: $elapsed_ms ms"
  elif [ "$n" != 1 ] && ! cmp -s "$said/message" "${said%.*}.1/message"; then
    echo "$n ranks say something else than one"
  fi
}

ranks_for() {
  case ${1:-} in
  inspect | create | import) echo 1 ;; # they use no MPI
  *) echo "${RANKS:-1 4}" ;;
  esac
}

# One case from start to end, in a process of its own.
one_case() {
  local wanted=$1 name=$2 words=$3 folder=$4 n wrong=''
  shift 4
  for n in $(ranks_for "$@"); do
    said=$folder/said.$n
    mkdir "$said"
    wrong=$(wrong_call "$n" "$wanted" "$words" "$@")
    [ -z "$wrong" ] || break
  done
  if [ -z "$wrong" ]; then echo "ok $name"; else echo "not ok $name ($wrong): mpistill $*"; fi
  if [ -n "$wrong" ] || [ -n "${MPISTILL_SHOW:-}" ]; then head -n 20 "$said/err.0" | sed 's/^/    /'; fi
}

ends() {
  local wanted=$1 name=$2 words=$3
  shift 3
  cases=$((cases + 1))
  mkdir "$work/cases/$cases"
  one_case "$wanted" "$name" "$words" "$work/cases/$cases" "$@" >"$work/cases/$cases/result" 2>&1 &
  while [ "$(jobs -r | wc -l)" -ge "$at_once" ]; do wait -n; done
  [ "$at_once" -gt 1 ] || settle
}

refuse() { ends 2 "$@"; }
breaks() { ends 1 "$@"; }

accept() {
  local name=$1 n wrong=''
  shift
  settle
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
