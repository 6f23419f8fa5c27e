# shellcheck shell=bash
# A Slurm cluster of this machine's own: cluster_start FOLDER makes munged, a controller and two node daemons on loopback, with keys,
# state, logs and ports of their own; cluster_stop ends them by process id. SLURM_CONF is set for the clients.

cluster_pids=()

cluster_config() { # FOLDER
  local host cores
  host=$(hostname -s)
  cores=$(getconf _NPROCESSORS_ONLN)
  cat <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$1/munge/socket
CredType=cred/munge
StateSaveLocation=$1/controller
SlurmctldPidFile=$1/controller.pid
SlurmctldLogFile=$1/controller.log
SlurmdSpoolDir=$1/%n
SlurmdPidFile=$1/%n.pid
SlurmdLogFile=$1/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=3600
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=17001-17002 CPUs=$cores State=UNKNOWN
PartitionName=low Nodes=n[1-2] Default=YES PriorityTier=1 State=UP
PartitionName=high Nodes=n[1-2] PriorityTier=10 State=UP
CONF
}

cluster_start() { # FOLDER
  local here=$1 waited=0
  mkdir -p "$here/munge" "$here/controller" "$here/n1" "$here/n2"
  chmod 755 "$here"
  dd if=/dev/urandom of="$here/munge/key" bs=1 count=1024 2>/dev/null
  chmod 700 "$here/munge"
  chmod 400 "$here/munge/key"
  cluster_config "$here" >"$here/slurm.conf"
  export SLURM_CONF=$here/slurm.conf
  # Clients of any user may reach the socket in a folder only root can list: its path is known.
  chmod 711 "$here/munge"
  munged --foreground --force --socket="$here/munge/socket" --key-file="$here/munge/key" --log-file="$here/munge/log" \
    --pid-file="$here/munge/pid" --seed-file="$here/munge/seed" >"$here/munge/out" 2>&1 &
  cluster_pids+=($!)
  while [ ! -S "$here/munge/socket" ] && [ $((waited += 1)) -lt 100 ]; do sleep 0.1; done
  slurmctld -D >"$here/controller.out" 2>&1 &
  cluster_pids+=($!)
  for node in n1 n2; do
    slurmd -D -N $node >"$here/$node.out" 2>&1 &
    cluster_pids+=($!)
  done
  waited=0
  until [ "$(sinfo -h -p low -t idle -o %D 2>/dev/null)" = 2 ]; do
    [ $((waited += 1)) -lt 300 ] || return 1
    sleep 0.2
  done
}

cluster_stop() {
  local i pid waited=0
  [ ${#cluster_pids[@]} -gt 0 ] || return
  scancel --state=RUNNING --quiet --full --user=root 2>/dev/null
  scancel --quiet --user=root 2>/dev/null
  until [ -z "$(squeue -h 2>/dev/null)" ] || [ $((waited += 1)) -gt 100 ]; do sleep 0.2; done
  for ((i = ${#cluster_pids[@]} - 1; i >= 0; i--)); do
    pid=${cluster_pids[i]}
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  cluster_pids=()
}
