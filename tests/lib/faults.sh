# shellcheck shell=bash
# For tests of faults, after behaviour.sh: something happens at the N-th call that changes a file, for every N, and the same command is
# given again. tests/preload/faults.c does it; MPISTILL_EVERY=1 tries every call, not a sample of them.
: "${work:?}" "${mpistill:?}" "${top:?}"
preload=$(cd "$top" && realpath "${BUILD:-build}/tests/preload/faults.so")

# faulty CALLS:N:ACTION ARGUMENTS...: one process, with the fault.
faulty() {
  local fault=$1
  shift
  status=0
  { # where the shell says that it was killed
    timeout 60 env MPISTILL_FAULT="$fault" MPISTILL_FAULT_COUNT="$work/calls" LD_PRELOAD="$preload" "$mpistill" "$@" >out 2>err </dev/null ||
      status=$?
  } 2>/dev/null
}

# made FOLDER: what a command has made there, by name.
made() { (cd "$1" && find . -type f ! -name out ! -name err ! -name '*.hash' | LC_ALL=C sort); }

# What is wrong with FILES, if anything: unlike WHOLE FILES at the end, partial WHOLE FILES after the fault (none, the old or the new one).
unlike() {
  local file
  for file in $2; do
    cmp -s "$1/$file" "$file" || echo " $file is not the one of an undisturbed run;"
  done
}
partial() {
  local file
  for file in $2; do
    [ ! -e "$file" ] || cmp -s "$1/$file" "$file" || cmp -s "$work/$file" "$file" || echo " $file is partial;"
  done
}

# sweep CALLS ACTION NAME "INPUTS" "FILES" ARGUMENTS...: in a folder with the INPUTS, at each such call. kill: the files that are there are whole.
# An error: status 1 and one message, or 0 where the call can be done without; with a + all calls from there on fail. In both cases the same
# command then ends in the same bytes, with the same files around.
sweep() {
  local calls=$1 action=$2 name=$3 inputs=$4 files=$5 n total step tried=0 wrong='' wanted onwards='' said=''
  shift 5
  case $action in
    *+) onwards=+ ;;
  esac
  case $action in
    ENOSPC*) said='No space left on device' ;;
    EIO*) said='Input/output error' ;;
  esac
  rm -rf "$work/whole" "$work/broken"
  mkdir "$work/whole"
  cd "$work/whole" || return
  for file in $inputs; do cp -r "$work/$file" .; done
  faulty "$calls:0:none" "$@"
  [ "$status" = 0 ] || { fail "$name: status $status without a fault"; cd "$work" || exit 1; return; }
  total=$(cat "$work/calls")
  step=$((total / 8 + 1))
  [ -z "${MPISTILL_EVERY:-}" ] || step=1
  for ((n = 1 + (total - 1) % step; n <= total; n += step)); do
    mkdir "$work/broken"
    cd "$work/broken" || return
    for file in $inputs; do cp -r "$work/$file" .; done
    faulty "$calls:$n$onwards:${action%+}" "$@"
    tried=$((tried + 1))
    wanted=$status
    case $action in
      kill) [ "$status" = 137 ] || wrong="$wrong call $n: status $status, not killed;" ;;
      *)
        case $status in
          0) ;;
          1)
            [ "$(grep -c '^mpistill: error: ' err)" = 1 ] || wrong="$wrong call $n: not one message;"
            grep -q "$said" err || wrong="$wrong call $n: $(grep error err);"
            ;;
          *) wrong="$wrong call $n: status $status: $(tail -n 1 err);" ;;
        esac
        ;;
    esac
    wrong="$wrong$(partial "$work/whole" "$files")"
    run 0 "$@"
    [ "$status" = 0 ] || wrong="$wrong call $n (status $wanted): again: status $status: $(tail -n 1 err);"
    wrong="$wrong$(unlike "$work/whole" "$files")"
    [ "$(made "$work/whole")" = "$(made .)" ] ||
      wrong="$wrong call $n: other files: $(diff <(made "$work/whole") <(made .) | grep '^[<>]' | tr '\n' ' ');"
    cd "$work" || exit 1
    [ -z "$wrong" ] || break
    rm -rf "$work/broken"
  done
  rm -f out err
  if [ -z "$wrong" ] && [ "$tried" -gt 0 ]; then
    pass "$name: $action at $tried of $total calls"
  else
    fail "$name: $action at call $n of $total:$wrong"
  fi
}
