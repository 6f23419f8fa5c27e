# shellcheck shell=bash
# Hosts of this machine's own: namespaces with a network, a hostname, processes, /dev/shm and an sshd each, joined by a switch in a
# namespace of its own. Nothing of it is seen outside; hosts_stop, or the end of the caller, takes all of it away.
#
#     hosts_start FOLDER N       host1 to hostN, 10.77.0.1 to 10.77.0.N; ssh finds them with hosts_ssh
#     host_run I COMMAND...      on host I, in the working directory
#     host_link I up|down        its cable at the switch
#     hosts_rate RATE|''         of every cable, both ways, by tbf; '' takes the limit away
#     hosts_delay US|''          microseconds on every cable, both ways
#     hosts_loss PERCENT|''      of the packets at the switch, by nftables
#     host_off I                 pulls the plug: all of its processes are gone

host_pids=() # by number; 0 is the switch
host_holders=()
hosts_folder=''

# A namespace's first process, alive as long as its holder.
host_new() { # NUMBER
  local holder waited=0
  unshare --net --uts --mount --ipc --pid --fork --kill-child --mount-proc sleep infinity 2>/dev/null &
  holder=$!
  host_holders[$1]=$holder
  until host_pids[$1]=$(cat "/proc/$holder/task/$holder/children" 2>/dev/null) && [ "$(cat "/proc/${host_pids[$1]% }/comm" 2>/dev/null)" = sleep ]; do
    [ $((waited += 1)) -lt 100 ] || return 1
    sleep 0.05
  done
  host_pids[$1]=${host_pids[$1]% }
}

host_run() { # NUMBER COMMAND...
  nsenter --target "${host_pids[$1]}" --net --uts --mount --ipc --pid --wd="$PWD" "${@:2}"
}

# Its own hostname, /dev/shm, /run/sshd and /etc/hosts, and a cable to the switch.
host_connect() { # NUMBER
  local pid=${host_pids[$1]}
  host_run "$1" hostname "host$1"
  host_run "$1" mount -t tmpfs -o size=1g tmpfs /dev/shm
  host_run "$1" mount -t tmpfs tmpfs /run
  host_run "$1" mkdir -p /run/sshd
  host_run "$1" mount --bind "$hosts_folder/hosts" /etc/hosts
  ip link add port"$1" netns "${host_pids[0]}" type veth peer name eth0 netns "$pid" || return 1
  host_run 0 ip link set port"$1" master switch up
  host_run "$1" ip link set lo up
  host_run "$1" ip address add "10.77.0.$1/24" dev eth0
  host_run "$1" ip link set eth0 up
  host_run "$1" /usr/sbin/sshd -f "$hosts_folder/sshd_config" -E "$hosts_folder/sshd$1.log"
}

hosts_config() {
  ssh-keygen -q -t ed25519 -N '' -f "$hosts_folder/host_key"
  ssh-keygen -q -t ed25519 -N '' -f "$hosts_folder/user_key"
  printf '%s\n' 'Port 22' "HostKey $hosts_folder/host_key" "AuthorizedKeysFile $hosts_folder/user_key.pub" 'StrictModes no' \
    'UsePAM no' 'PasswordAuthentication no' 'PermitRootLogin prohibit-password' 'PidFile none' >"$hosts_folder/sshd_config"
  printf '%s\n' 'Host *' "IdentityFile $hosts_folder/user_key" 'IdentitiesOnly yes' 'StrictHostKeyChecking no' \
    'UserKnownHostsFile /dev/null' 'LogLevel ERROR' 'BatchMode yes' 'ConnectTimeout 5' >"$hosts_folder/ssh_config"
  hosts_ssh="ssh -F $hosts_folder/ssh_config"
  export hosts_ssh
}

hosts_start() { # FOLDER N
  local i
  hosts_folder=$1
  mkdir -p "$hosts_folder"
  hosts_config
  echo '127.0.0.1 localhost' >"$hosts_folder/hosts"
  for ((i = 1; i <= $2; i++)); do echo "10.77.0.$i host$i" >>"$hosts_folder/hosts"; done
  host_new 0 || return 1
  host_run 0 ip link add switch type bridge || return 1
  host_run 0 ip link set switch up
  for ((i = 1; i <= $2; i++)); do
    host_new $i && host_connect $i || return 1
  done
  for ((i = 1; i <= $2; i++)); do
    # shellcheck disable=SC2086 # a command and its options
    host_run 1 $hosts_ssh "host$i" true || return 1
  done
}

host_link() { host_run 0 ip link set "port$1" "$2"; } # NUMBER up|down

hosts_queue() { # DISCIPLINE OPTIONS...|nothing: on both ends of every cable
  local i
  for ((i = 1; i < ${#host_pids[@]}; i++)); do
    host_run 0 tc qdisc del dev "port$i" root 2>/dev/null
    host_run $i tc qdisc del dev eth0 root 2>/dev/null
    [ $# -gt 0 ] || continue
    host_run 0 tc qdisc add dev "port$i" root "$@" || return 1
    host_run $i tc qdisc add dev eth0 root "$@" || return 1
  done
}

hosts_rate() { # RATE|''
  if [ -n "$1" ]; then hosts_queue tbf rate "$1" burst 64kb latency 50ms; else hosts_queue; fi
}

# Where the kernel has no netem, hosts_cable (tests/tools/cable.c) carries the packets.
hosts_delay() { # MICROSECONDS|''
  local i
  if [ -z "$1" ]; then
    hosts_queue
    cables_stop
  elif ! hosts_queue netem delay "$1us" 2>/dev/null; then
    hosts_queue
    for ((i = 1; i < ${#host_pids[@]}; i++)); do cable_slow $i "$1" || return 1; done
  fi
}

children() { # PROCESS
  cat "/proc/$1/task/$1/children" 2>/dev/null
}
cable_pids=()
cable_slow() { # NUMBER MICROSECONDS
  host_run "$1" ethtool -K eth0 tx off tso off gso off gro off >/dev/null
  host_run 0 ip link add "slow$1" type veth peer name "end$1" || return 1
  host_run 0 ip link set "port$1" nomaster
  host_run 0 ip link set "slow$1" up
  host_run 0 ip link set "end$1" master switch up
  host_run 0 "${hosts_cable:?}" "port$1" "slow$1" "$2" 2>>"$hosts_folder/cables.log" &
  cable_pids[$1]=$!
}
cables_stop() {
  local i
  for ((i = 1; i <= ${#cable_pids[@]}; i++)); do
    # shellcheck disable=SC2046 # lists of words
    kill $(children $(children "${cable_pids[i]}")) # of this shell's copy, which waits for nsenter, which waits for it
    host_run 0 ip link del "slow$i"
    host_run 0 ip link set "port$i" master switch
  done
  cable_pids=()
}

hosts_loss() { # PERCENT|''
  local i
  host_run 0 nft delete table netdev lossy 2>/dev/null
  [ -n "$1" ] || return 0
  host_run 0 nft add table netdev lossy || return 1
  for ((i = 1; i < ${#host_pids[@]}; i++)); do
    host_run 0 nft "add chain netdev lossy port$i { type filter hook ingress device port$i priority 0; }" || return 1
    host_run 0 nft add rule netdev lossy "port$i" numgen random mod 1000 '<' $((10 * $1)) counter drop || return 1
  done
}

host_off() { # NUMBER
  kill -KILL "${host_pids[$1]}" 2>/dev/null
  wait "${host_holders[$1]}" 2>/dev/null
}

hosts_stop() {
  local i
  for ((i = ${#host_pids[@]} - 1; i >= 0; i--)); do host_off $i; done
  host_pids=() host_holders=()
}
