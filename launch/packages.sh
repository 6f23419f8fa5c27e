#!/bin/sh
# Installs what is missing of the packages for building ("build"), with MPICH ("mpich"), for the tests ("test"), for those with a Slurm and
# with hosts of their own ("slurm", "hosts"), for the simulation of a large cluster ("simulate") and for published results ("reproduce"), on
# Debian and its kin.
# Where another system provides them (modules, Spack), nothing here is needed: see the variables of `make help`.
set -eu

build='gcc make pkg-config libopenmpi-dev openmpi-bin libhdf5-openmpi-dev libopenblas-openmp-dev libdnnl-dev
  libprotobuf-c-dev protobuf-c-compiler libonnx-dev libyaml-dev libjansson-dev libxxhash-dev librandom123-dev zlib1g-dev'
mpich='mpich libmpich-dev libhdf5-mpich-dev'
test='libcmocka-dev libonnx-testdata python3-numpy python3-h5py python3-onnx python3-torch python3-torchvision python3-xxhash
  clang libomp-dev libclang-rt-dev shellcheck strace valgrind hdf5-tools'
slurm='slurm-wlm munge'
hosts='openssh-server openssh-client iproute2 nftables ethtool'
simulate='libsimgrid-dev'
reproduce='python3-sklearn'

wanted=
for set in "$@"; do
  case $set in
    build) wanted="$wanted $build" ;;
    mpich) wanted="$wanted $mpich" ;;
    test) wanted="$wanted $test" ;;
    slurm) wanted="$wanted $slurm" ;;
    hosts) wanted="$wanted $hosts" ;;
    simulate) wanted="$wanted $simulate" ;;
    reproduce) wanted="$wanted $reproduce" ;;
    *) echo "packages.sh: unknown set '$set' (build, mpich, test, slurm, hosts, simulate, reproduce)" >&2; exit 2 ;;
  esac
done

command -v dpkg-query >/dev/null || exit 0
missing=
for package in $wanted; do
  state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$state" = 'install ok installed' ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "installing:$missing" >&2
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
# A machine that has just started may be installing its updates: waits for them, ten minutes at most.
for try in $(seq 120); do
  said=$($sudo env LC_ALL=C apt-get update -qq 2>&1) && break
  case $said in *'Could not get lock'*) [ "$try" -lt 120 ] && sleep 5 && continue ;; esac
  echo "$said" >&2
  exit 1
done
# shellcheck disable=SC2086 # a list of words
$sudo apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends $missing >/dev/null
