# shellcheck shell=sh
# Shared by the scripts of this folder: sourced, not run.
set -eu

die() {
  echo "${0##*/}: error: $*" >&2
  exit 2
}

# read_arguments USAGE ARGUMENT...: sets `folder`, the user's download, and `output`.
read_arguments() {
  usage=$1
  shift
  if [ $# -ne 2 ] || [ "$1" = --help ]; then
    echo "usage: ${0##*/} $usage" >&2
    exit 2
  fi
  folder=$1
  # shellcheck disable=SC2034 # for the script that sources this
  output=$2
  [ -d "$folder" ] || die "$folder: there is no such folder"
}

# find_mpistill: sets `mpistill` from $MPISTILL, the build beside this folder, or PATH.
find_mpistill() {
  mpistill=${MPISTILL:-}
  [ -n "$mpistill" ] || mpistill=$(dirname "$0")/../build/mpistill
  [ -x "$mpistill" ] || mpistill=$(command -v mpistill) ||
    die "mpistill is not found: run make first, or set MPISTILL to the program"
}

# check TOOL FILE SUM: the file has this checksum.
check() {
  [ -f "$2" ] || die "$2: there is no such file"
  compare "$2" "$3" "$("$1" <"$2" | cut -d' ' -f1)"
}

# check_content TOOL FILE SUM: the same for what is in a .gz file, however it was compressed.
check_content() {
  case $2 in
    *.gz) compare "$2" "$3" "$(gzip -dc "$2" | "$1" | cut -d' ' -f1)" ;;
    *) check "$@" ;;
  esac
}

compare() {
  [ "$2" = "$3" ] || die "$1: its checksum is $3, expected $2: download it again"
}

# pick FILE: sets `picked` to the file as it was downloaded (.gz) or unpacked, whichever there is.
pick() {
  picked=$1.gz
  [ -f "$picked" ] || picked=$1
  [ -f "$picked" ] || die "$1.gz: there is no such file (and none without .gz)"
}
