#!/bin/bash
# The scripts of launch/: mpirun.sh on this machine; those of PBS, LSF and Flux under small stand-ins that check the directives, run the
# job in another folder as those systems do, and end its time early. (Slurm has a test with the real one: make check-slurm.)
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
if ! $open_mpi; then
  echo "skip launch: its scripts give mpirun the options of Open MPI's"
  exit 0
fi
export MPISTILL=$mpistill
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
mkdir -p 'my jobs/fake' && cd 'my jobs' || exit 1
export PATH=$PWD/fake:$PATH

must 0 create mlp --layers 64,64,10 --seed 1 --output teacher.onnx
must 0 create mlp --layers 64,256,256,10 --seed 2 --output student.onnx
recipe() { # NAME EPOCHS
  cat >"$1.yaml" <<END
dataset: $digits
output: $1
teachers:
  - {name: first, model: teacher.onnx}
student: {model: student.onnx}
distill: {epochs: $2, batch: 256, shards: 8}
checkpoint: {every_seconds: 0.5}
END
}
told() { "$mpistill" inspect "$1" 2>/dev/null | awk -v name="$2" '$1 == name { print $2 }'; } # RUN FIELD
trains() { [ -e "$1/checkpoint/student/0.h5" ]; }
until_true() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}
done_says_so() { [ "$(told "$1" state)" = 'done' ]; }

recipe straight 200
must 0 run straight.yaml --quiet

# ---- mpirun.sh ----
for place in core numa node; do
  recipe $place 2
  timeout 120 "$top/launch/mpirun.sh" --place $place run $place.yaml --quiet >out 2>err </dev/null
  check "mpirun.sh --place $place" test $? = 0
done
same 'the places give the same student' core/student.onnx node/student.onnx
timeout 60 "$top/launch/mpirun.sh" --place rack run core.yaml >out 2>err
check 'mpirun.sh names the places there are' test "$? $(grep -c 'core, numa or node' err)" = '2 1'
timeout 60 "$top/launch/mpirun.sh" -n 2 run nowhere.yaml >out 2>err
check 'mpirun.sh does not repeat what is wrong' test "$? $(grep -c 'nowhere.yaml' err)" = '2 1'

hostname >nodes
as_root() { # SCRIPT COMMAND...: without the variables that Open MPI wants of root
  env -u OMPI_ALLOW_RUN_AS_ROOT -u OMPI_ALLOW_RUN_AS_ROOT_CONFIRM "${@:2}" >out 2>err </dev/null
  check "$1 as root: what Open MPI wants is said once, before mpirun" test "$? $(grep -c . err) $(grep -c OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 err)" = '2 1 1'
}
if [ "$(id -u)" = 0 ]; then
  as_root mpirun.sh "$top/launch/mpirun.sh" run core.yaml
  as_root slurm.sh env SLURM_JOB_NUM_NODES=1 bash "$top/launch/slurm.sh" core.yaml
  as_root slurm-chain.sh env SLURM_JOB_NUM_NODES=1 SLURM_ARRAY_TASK_ID=0 bash "$top/launch/slurm-chain.sh" teach
  as_root pbs.sh env PBS_O_WORKDIR="$PWD" PBS_JOBID=1.fake PBS_NODEFILE=nodes recipe=core.yaml bash "$top/launch/pbs.sh"
  as_root lsf.sh env LSB_DJOB_HOSTFILE=nodes recipe=core.yaml bash "$top/launch/lsf.sh"
fi

ranks_below() { # PROCESS
  local child
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
    [ "$(cat "/proc/$child/comm" 2>/dev/null)" != mpistill ] || echo "$child"
    ranks_below "$child"
  done
}
losing() { # NAME RANKS COMMAND...: its last rank is lost while it trains; it goes on with so many ranks ("": any) and makes the student
  recipe "$1" 200
  timeout 300 "${@:3}" >out 2>err </dev/null &
  job=$!
  until_true 60 trains "$1"
  kill -KILL "$(ranks_below $job | tail -n 1)"
  wait "$job"
  check "$1: a rank is lost, the job goes on" test "$? $(told "$1" state) $(grep -c '"event":"resume"' "$1/run.jsonl")" = '0 done 1'
  [ -z "$2" ] || check "$1: without it" test "$(told "$1" ranks)" = "$2"
  same "$1: the student is that of an undisturbed training" "$1/student.onnx" straight/student.onnx
}
losing lost-mpirun 1 "$top/launch/mpirun.sh" -n 2 run lost-mpirun.yaml --quiet
losing lost-slurm '' env SLURM_JOB_NUM_NODES=1 bash "$top/launch/slurm.sh" lost-slurm.yaml --quiet
losing lost-lsf '' env LSB_DJOB_HOSTFILE=nodes recipe=lost-lsf.yaml bash "$top/launch/lsf.sh"

recipe stopped 200
timeout 300 "$top/launch/mpirun.sh" -n 2 run stopped.yaml --quiet >out 2>err </dev/null &
job=$!
until_true 60 trains stopped
kill -TERM "$(cat /proc/$job/task/$job/children)"
wait "$job"
check 'mpirun.sh: SIGTERM is a checkpoint, status 75' test "$? $(told stopped state)" = '75 stopped'
timeout 300 "$top/launch/mpirun.sh" -n 1 run stopped.yaml --quiet >out 2>err </dev/null
check 'the same command goes on' test $? = 0
same 'the student is that of an undisturbed training' stopped/student.onnx straight/student.onnx

# ---- a signal while no mpirun runs: here as the hosts are asked who is left ----
mkdir between
printf '#!/bin/bash\necho >>"%s/begun"\nkill -KILL $$\n' "$PWD" >between/mpirun
# Under timeout, under the script.
printf '#!/bin/bash\nkill -USR1 "$(ps -o ppid= -p $PPID | tr -d " ")"\n' >between/agent-that-signals
chmod +x between/*
echo 'somewhere slots=2' >hosts
OMPI_MCA_plm_rsh_agent=agent-that-signals PATH=$PWD/between:$PATH timeout 60 "$top/launch/mpirun.sh" --hostfile hosts run core.yaml >out 2>err </dev/null
check 'mpirun.sh: a signal between two mpirun is kept' test "$? $(wc -l <begun)" = '75 1'

# ---- mpirun that has lost all its ranks and hangs, as it does at times when one dies while the job starts ----
mkdir hanging
cat >hanging/mpirun <<END
#!/bin/bash
[ ! -e "$PWD/hung" ] || exec $(command -v mpirun) "\$@"
touch "$PWD/hung"
exec $python -c 'import os, time; os.fork() or os._exit(0); time.sleep(600)'
END
chmod +x hanging/mpirun
hanging() { # NAME COMMAND...: goes on from there and makes the student
  recipe "$1" 2
  rm -f hung
  PATH=$PWD/hanging:$PATH MPIRUN_IDLE=4 timeout 120 "${@:2}" >out 2>err </dev/null
  check "$1: an mpirun that hangs without ranks is ended, the job goes on" test "$? $(told "$1" state) $(test -e hung && echo hung)" = '0 done hung'
}
hanging hung-mpirun "$top/launch/mpirun.sh" -n 2 run hung-mpirun.yaml --quiet
hanging hung-slurm env SLURM_JOB_NUM_NODES=1 bash "$top/launch/slurm.sh" hung-slurm.yaml --quiet
hanging hung-lsf env LSB_DJOB_HOSTFILE=nodes recipe=hung-lsf.yaml bash "$top/launch/lsf.sh"

# ---- stand-ins: a job gets TIME seconds, its signal 3 seconds before; a training alone takes as long, here all have to share ----
export TIME=6 margin=3
cat >fake/directives <<'END'
#!/bin/bash
# directives PREFIX SCRIPT PATTERN...: every directive matches a pattern, every pattern a directive.
prefix=$1 script=$2
shift 2
grep "^$prefix" "$script" | sed "s/^$prefix *//" >"$FAKE/found"
for pattern in "$@"; do
  grep -q -x -E -- "$pattern" "$FAKE/found" || echo "no directive matches $pattern"
  grep -v -x -E -- "$pattern" "$FAKE/found" >"$FAKE/rest"
  mv "$FAKE/rest" "$FAKE/found"
done
sed 's/^/not expected: /' "$FAKE/found"
END
cat >fake/qsub <<'END'
#!/bin/bash
[ "$1" = -v ] || exit 1
script=$3
directives '#PBS' "$script" '-N [a-z]+' '-l select=[0-9]+:ncpus=[0-9]+:mpiprocs=[0-9]+' '-l place=scatter:excl' \
  '-l walltime=[0-9]+:[0-9]{2}:[0-9]{2}' '-j oe' >"$FAKE/complaints"
echo x >>"$FAKE/submitted"
IFS=, read -ra given <<<"$2"
hostname >"$FAKE/nodes"
cp "$script" "$FAKE/spool.$$"
export PBS_O_WORKDIR=$PWD
cd / || exit
env "${given[@]}" PBS_JOBID=1.fake PBS_NODEFILE="$FAKE/nodes" bash "$FAKE/spool.$$" >>"$FAKE/log" 2>&1 &
END
cat >fake/qstat <<'END'
#!/bin/bash
[ "$*" = '-f 1.fake' ] || exit 1
printf 'Job Id: 1.fake\n    Job_Name = mpistill\n    Resource_List.select = 2\n    Resource_List.walltime = 00:%02d:%02d\n' \
  $((TIME / 60)) $((TIME % 60))
END
cat >fake/bsub <<'END'
#!/bin/bash
cat >"$FAKE/spool"
directives '#BSUB' "$FAKE/spool" '-J [a-z]+' '-n [0-9]+' '-R "span\[ptile=[0-9]+\]"' '-x' '-W [0-9]+:[0-9]{2}' '-wt [0-9]+' '-wa USR1' \
  '-Q "75"' '-o mpistill-%J.log' >"$FAKE/complaints"
hostname >"$FAKE/nodes"
status=75
while [ $status = 75 ]; do
  echo x >>"$FAKE/submitted"
  LSB_DJOB_HOSTFILE=$FAKE/nodes bash "$FAKE/spool" >>"$FAKE/log" 2>&1 &
  job=$!
  (sleep $((TIME - margin)) && kill -USR1 $job) 2>/dev/null &
  wait $job
  status=$?
done
exit $status
END
cat >fake/flux <<'END'
#!/bin/bash
[ "$1" = --parent ] && shift
case "$1 $2" in
  'batch '*)
    shift
    while [ "${1#--env=}" != "$1" ]; do
      export "${1#--env=}"
      shift
    done
    directives '# flux:' "$1" '-N [0-9]+' '--exclusive' '-t [0-9]+h' '--job-name=[a-z]+' '--output=mpistill-\{\{id\}\}.log' \
      >"$FAKE/complaints"
    echo x >>"$FAKE/submitted"
    cp "$1" "$FAKE/spool.$$"
    bash "$FAKE/spool.$$" "${@:2}" >>"$FAKE/log" 2>&1 &
    ;;
  'resource list') echo 1 ;;
  'job timeleft') echo "$TIME" ;;
  'submit -N')
    n=$5
    while [ "$1" != "$MPISTILL" ]; do shift; done
    rm -f "$FAKE/ended"
    (
      mpirun -n "$n" "$@" >>"$FAKE/log" 2>&1 &
      echo $! >"$FAKE/job"
      wait $!
      echo $? >"$FAKE/ended"
    ) >/dev/null 2>&1 &
    echo f1
    ;;
  'job status')
    until [ -s "$FAKE/ended" ]; do sleep 0.1; done
    exit "$(cat "$FAKE/ended")"
    ;;
  'job kill') [ "$3 $4" = '--signal=SIGUSR1 f1' ] && kill -USR1 "$(cat "$FAKE/job")" ;;
  *) exit 1 ;;
esac
END
chmod +x fake/*
cp "$top"/launch/{pbs,lsf,flux}.sh .

# ---- a signal that comes before the ranks listen ends them: the same recipe goes on in the next job ----
mkdir early
printf '#!/bin/bash\nexec sleep 60\n' >early/mpirun
printf '#!/bin/bash\ntouch "$FAKE/again"\n' >early/qsub
printf '#!/bin/bash\n[ "$1" != --parent ] || exec touch "$FAKE/again"\nexec "%s/fake/flux" "$@"\n' "$PWD" >early/flux
chmod +x early/*
early() { # NAME NEXT COMMAND...: status 75, and NEXT ("again", or "" where the system itself does it) submitted; PBS and Flux time it
  export FAKE=$PWD/state/early-$1
  mkdir -p "$FAKE"
  PATH=$PWD/early:$PATH timeout 60 "${@:3}" >out 2>err </dev/null &
  job=$!
  sleep 1.5
  [ -n "$2" ] || kill -USR1 "$(cat /proc/$job/task/$job/children)"
  wait "$job"
  check "$1: a signal before the ranks listen is no failure" test "$? $(cd "$FAKE" && ls again 2>/dev/null)" = "75 $2"
}
early mpirun '' "$top/launch/mpirun.sh" -n 2 run core.yaml
early lsf '' env LSB_DJOB_HOSTFILE=nodes recipe=core.yaml bash lsf.sh
early pbs again env PBS_O_WORKDIR="$PWD" PBS_JOBID=1.fake PBS_NODEFILE=nodes recipe=core.yaml bash pbs.sh
early flux again bash flux.sh core.yaml

# As many epochs as take a process alone that time here.
seconds=$(sed -n 's/.*"event":"done".*"seconds":\([0-9.]*\).*/\1/p' straight/run.jsonl)
epochs=$(awk -v s="$seconds" -v time="$TIME" 'BEGIN { print int(200 * time / s) }')
recipe unlimited "$epochs"
for system in pbs lsf flux; do
  mkdir -p state/$system
  recipe $system "$epochs"
done
FAKE=$PWD/state/pbs qsub -v recipe=pbs.yaml pbs.sh
FAKE=$PWD/state/flux flux batch flux.sh flux.yaml
FAKE=$PWD/state/lsf recipe=lsf.yaml timeout 300 bsub <lsf.sh
must 0 run unlimited.yaml --quiet
hanging hung-pbs env TIME=60 FAKE="$PWD/state/pbs" PBS_O_WORKDIR="$PWD" PBS_JOBID=1.fake PBS_NODEFILE=nodes recipe=hung-pbs.yaml bash pbs.sh
losing lost-pbs '' env TIME=240 FAKE="$PWD/state/pbs" PBS_O_WORKDIR="$PWD" PBS_JOBID=1.fake PBS_NODEFILE=nodes recipe=lost-pbs.yaml bash pbs.sh
for system in pbs lsf flux; do
  state=state/$system
  until_true 300 done_says_so $system
  check "$system: the directives are those the system knows" test -e $state/complaints -a ! -s $state/complaints
  [ ! -s $state/complaints ] || sed 's/^/    /' $state/complaints
  jobs=$(wc -l <$state/submitted)
  check "$system: put back at its time limit, until it was done" test "$(told $system state) $((jobs > 1))" = 'done 1'
  [ "$(told $system state)" = 'done' ] || tail -n 20 $state/log | sed 's/^/    /'
  # A job can end before it trains: the signal came while it started, or teachers labelled.
  trainings=$(grep -c '"command":"distill"' $system/run.jsonl)
  check "$system: each training went on where the one before it was" \
    test "$((trainings > 1)) $(grep -c '"event":"resume"' $system/run.jsonl)" = "1 $((trainings - 1))"
  same "$system: the student is that of a training without a limit" $system/student.onnx unlimited/student.onnx
done
finish
