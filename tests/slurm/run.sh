#!/bin/bash
# launch/slurm.sh and launch/slurm-chain.sh under a Slurm of this machine's own: a controller and two node daemons on loopback, all of
# their state in a temporary folder. Run by `make check-slurm`, as root (node daemons start jobs as their owner). Takes ten minutes.
# Prints "ok NAME" or "not ok NAME" lines and at the end "N passed, N failed".
# Usage: tests/slurm/run.sh [one_job|by_srun|chain|lost|time_limit|signals]...
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/slurm/cluster.sh
. "$top/tests/slurm/cluster.sh"
export MPISTILL=$mpistill
export OMPI_MCA_btl=tcp,self # the two nodes are one host: their names for shared memory would be the same
export OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_btl_tcp_if_include=lo
export OMPI_MCA_mpi_yield_when_idle=1 # and its cores are shared by both
passed=0
pass() {
  echo "ok $1"
  passed=$((passed + 1))
}
end() {
  cluster_stop
  if [ -n "${KEEP:-}" ]; then cp -r "$work" "$KEEP"; fi
  cd / && rm -rf "$work"
  echo "$passed passed, $failures failed"
}
trap end EXIT
trap 'exit 1' INT TERM

# ---- jobs ----

job_field() { scontrol -o show job "$1" 2>/dev/null | sed -n "s/.* $2=\([^ ]*\).*/\1/p" | head -n 1; }
job_state() { job_field "$1" JobState; }

# until_true SECONDS COMMAND...: waits for the command to succeed.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.5
  done
}

# Slurm holds a job that was put back for two minutes: here for five seconds, which the nodes need to forget the one before.
hurry() {
  local start
  [ "$(job_field "$1" Reason)" = BeginTime ] || return
  start=$(date -d "$(job_field "$1" StartTime)" +%s 2>/dev/null) || return
  [ "$start" -lt $(($(date +%s) + 10)) ] || scontrol update JobId="$1" StartTime=now+5 2>/dev/null
}
ended() {
  hurry "$1"
  case $(job_state "$1") in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL | BOOT_FAIL | OUT_OF_MEMORY) ;; *) return 1 ;; esac
}
runs_again() { # JOB TIMES
  hurry "$1"
  [ "$(job_state "$1") $(job_field "$1" Restarts)" = "RUNNING $2" ]
}

# submit OPTIONS OF SBATCH...: waits for the job's end; job and status tell of it.
submit() {
  status=0
  job=$(sbatch --parsable --wait "$@" 2>err) || status=$?
  rm -f err
}

# check_job NAME JOB COMMAND...: check, which shows the job and its log where it fails.
check_job() {
  local before=$failures
  check "$1" "${@:3}"
  [ "$failures" = "$before" ] && return
  scontrol -o show job "$2" 2>/dev/null | tr ' ' '\n' | grep -E '^(JobState|Reason|ExitCode|Restarts|NodeList)=' | sed 's/^/    /'
  tail -n 15 ./*-"$2"*.log 2>/dev/null | sed 's/^/    /'
  grep -F "JobId=$2" "$work/slurm/controller.log" | tail -n 15 | sed 's/^/    /'
}

# ---- runs ----

recipe() { # NAME EPOCHS
  cat >"$1.yaml" <<END
dataset: digits.h5
output: $1
teachers:
  - {name: wide, model: wide.onnx}
  - {name: conv, model: conv.onnx}
student: {model: student.onnx}
distill: {epochs: $2, batch: 256, shards: 8}
checkpoint: {every_seconds: 2}
END
}
alone() { # ARGUMENTS...: one process, outside Slurm, for comparison
  "$mpistill" "$@" --quiet >/dev/null 2>err.alone || fail "status $? of: $*"
}
told() { "$mpistill" inspect "$1" 2>/dev/null | awk -v name="$2" '$1 == name { print $2 }'; } # RUN FIELD
trains() { # RUN TIMES: it trains, went on that often, and has written a checkpoint since
  [ "$(told "$1" stage)" = distill ] && [ "$(grep -c '"event":"resume"' "$1/run.jsonl")" -ge "$2" ] &&
    tail -n 1 "$1/run.jsonl" | grep -q '"checkpoint"\|"epoch"\|"progress"' && [ -e "$1/checkpoint/student/0.h5" ]
}

# A rank of this test's jobs is lost: the last one started.
lose_rank() {
  local rank last=''
  for rank in $(pgrep -x mpistill); do
    [ "$(readlink "/proc/$rank/cwd")" != "$work" ] || last=$rank
  done
  kill -KILL "$last"
}

# An undisturbed training, in one process, that takes these nodes some 100 seconds.
straight() {
  local rate epochs
  [ ! -e straight.yaml ] || return
  recipe probe 200
  submit --time=30 --output=probe-%j.log "$top/launch/slurm.sh" probe.yaml --quiet
  rate=$(sed -n 's/.*"event":"done".*"samples_per_s":\([0-9]*\).*/\1/p' probe/run.jsonl)
  epochs=$((100 * ${rate:-6000} / 1437))
  recipe straight "$epochs"
  recipe limited "$epochs"
  recipe moved "$epochs"
  recipe lost "$epochs"
  alone run straight.yaml --set threads=2
}

# ---- the groups ----

one_job() {
  recipe 'one job' 3
  recipe 'one process' 3
  alone run 'one process.yaml'
  submit --time=30 --output=single-%j.log "$top/launch/slurm.sh" 'one job.yaml' --quiet
  check_job 'a recipe as one job on two nodes' "$job" test $status = 0
  check_job 'its ranks are on both nodes' "$job" test "$(told 'one job' nodes)" = 2
  same 'the student is that of one process' 'one job/student.onnx' 'one process/student.onnx'
  same 'the ensemble is that of one process' 'one job/ensemble.h5' 'one process/ensemble.h5'
  PLACE=node submit --time=30 --output=node-%j.log "$top/launch/slurm.sh" 'one job.yaml' --set distill.epochs=2 --force --quiet
  check_job 'one rank a node' "$job" test "$status $(told 'one job' ranks)" = '0 2'
  submit --time=30 --output=wrong-%j.log "$top/launch/slurm.sh" nowhere.yaml
  check_job 'a recipe that cannot be read ends the job with 2, at once and for good' "$job" test $status = 2
}

# Ranks that srun itself starts, in the way that the MPI library knows and in others.
by_srun() {
  local way joined=pmi2 others='none pmix' train="train --model student.onnx --dataset digits.h5 --epochs 2 --batch 256 --shards 8 --quiet --output"
  if $open_mpi; then joined=pmix others='none pmi2'; fi
  # On one node: Slurm's PMIx takes the two, which are one host, for one.
  submit --time=2 --nodes=1 --ntasks=2 --output=$joined-%j.log --wrap "srun --mpi=$joined $mpistill $train $joined.onnx"
  # shellcheck disable=SC2086 # a list of arguments
  alone $train process.onnx
  check_job "srun --mpi=$joined: the ranks find each other" "$job" test $status = 0
  same "srun --mpi=$joined: the student is that of one process" $joined.onnx process.onnx
  for way in $others; do
    submit --time=2 --nodes=2 --ntasks=2 --output=$way-%j.log --wrap "srun --mpi=$way $mpistill $train $way.onnx"
    check_job "srun --mpi=$way: ends at once, with 2" "$job" test "$status $(test -e $way.onnx || echo nothing)" = '2 nothing'
    check "srun --mpi=$way: one message with the remedy" test \
      "$(grep -c '^mpistill: error: ' $way-*.log) $(grep -c "srun --mpi=$joined" $way-*.log) $(grep -c 'Open MPI' $way-*.log)" = '1 1 0'
  done
}

chain() {
  local ids="sed 's/[a-z,]//g'" teach aggregate distill before
  sed -e 's/^dataset=.*/dataset=digits.h5/' -e "s/^groups=.*/groups=('wide=wide.onnx' 'conv=late.onnx')/" \
    -e 's/^soft=.*/soft="soft labels" ensemble=ensemble.h5 output=distilled.onnx/' \
    -e 's/^training=.*/training=(--epochs 100 --batch 256 --shards 8 --kd-weight 0.9 --checkpoint-seconds 1 --log distill.jsonl)/' \
    -e 's/--time=[0-9:]*/--time=30/g' "$top/launch/slurm-chain.sh" >chain.sh
  chmod +x chain.sh
  read -r teach aggregate distill <<<"$(./chain.sh | eval "$ids")"
  until_true 120 ended "$distill"
  check_job 'a teacher whose file is missing fails alone' "$teach" test \
    "$(job_state "${teach}_0") $(job_state "${teach}_1")" = 'COMPLETED FAILED'
  check_job 'what depends on it is cancelled' "$distill" test "$(job_state "$aggregate") $(job_state "$distill")" = 'CANCELLED CANCELLED'
  check 'its message names the file' grep -q 'mpistill: error: late.onnx' "teach-$teach-1.log"
  before=$(stat -c %Y.%i 'soft labels/wide.h5')
  cp conv.onnx late.onnx
  read -r teach aggregate distill <<<"$(./chain.sh 1 | eval "$ids")"
  until_true 180 test -e distilled.onnx.ckpt/0.h5
  lose_rank
  until_true 180 ended "$distill"
  check_job 'that teacher again, alone, then the rest of the chain' "$distill" test \
    "$(job_state "${teach}_1") $(job_state "$aggregate") $(job_state "$distill")" = 'COMPLETED COMPLETED COMPLETED'
  check 'a rank was lost as the student learned: it went on from the checkpoint' grep -q '"event":"resume"' distill.jsonl
  check 'the other teacher was not touched' test "$(stat -c %Y.%i 'soft labels/wide.h5')" = "$before"
  alone teach --dataset digits.h5 --teacher wide=wide.onnx --teacher conv=late.onnx --output alone
  alone aggregate alone/wide.h5 alone/conv.h5 --temperature 4 --output alone/ensemble.h5
  alone distill --student student.onnx --dataset digits.h5 --soft-labels alone/ensemble.h5 --temperature 4 --epochs 100 --batch 256 \
    --shards 8 --kd-weight 0.9 --output alone/distilled.onnx
  same 'the chain and one process give the same ensemble' ensemble.h5 alone/ensemble.h5
  same 'the chain and one process give the same student' distilled.onnx alone/distilled.onnx
}

lost() {
  straight
  job=$(sbatch --parsable --time=30 --output=lost-%j.log "$top/launch/slurm.sh" lost.yaml --quiet)
  for times in 0 1; do
    until_true 120 trains lost $times
    lose_rank
  done
  until_true 300 ended "$job"
  check_job 'ranks are lost, twice: the same job goes on to the end' "$job" test "$(job_state "$job") $(job_field "$job" Restarts)" = 'COMPLETED 0'
  check 'each time it went on where it was' test "$(grep -c '"event":"resume"' lost/run.jsonl)" = 2
  same 'the student is that of a training without a loss' lost/student.onnx straight/student.onnx
}

time_limit() {
  straight
  # Slurm looks at limits every half minute, and may send the signal a minute early: here at 5 to 35 seconds of a minute.
  job=$(sbatch --parsable --time=1 --signal=B:USR1@25 --output=limited-%j.log "$top/launch/slurm.sh" limited.yaml --quiet)
  until_true 900 ended "$job"
  check_job 'a training longer than its time limit completes' "$job" test "$(job_state "$job")" = COMPLETED
  check_job "the limit was reached three times or more ($(job_field "$job" Restarts))" "$job" test "$(job_field "$job" Restarts)" -ge 3
  check 'each time it went on where it was' test "$(grep -c '"event":"resume"' limited/run.jsonl)" -ge 3
  same 'the student is that of a training without a limit' limited/student.onnx straight/student.onnx
}

signals() {
  local urgent
  straight
  job=$(sbatch --parsable --time=30 --output=moved-%j.log "$top/launch/slurm.sh" moved.yaml --quiet)
  until_true 120 trains moved 0
  scancel --signal=USR1 --batch "$job"
  until_true 120 runs_again "$job" 1
  check_job 'scancel --signal=USR1 --batch: checkpoint, back into the queue, and running again' "$job" runs_again "$job" 1
  check 'the checkpoint was taken for the signal' grep -q 'stopped after epoch' "moved-$job.log"
  until_true 120 trains moved 1
  urgent=$(sbatch --parsable --partition=high --nodes=2 --exclusive --time=1 --output=urgent-%j.log --wrap='sleep 2')
  until_true 120 ended "$urgent"
  until_true 120 runs_again "$job" 2
  check_job 'a job of a higher partition takes its nodes; afterwards it runs again' "$job" test \
    "$(job_state "$urgent") $(job_field "$job" Restarts)" = 'COMPLETED 2'
  until_true 120 trains moved 2
  scancel --signal=USR2 --batch "$job"
  until_true 60 ended "$job"
  check_job 'scancel --signal=USR2 --batch: checkpoint, and the job ends with 75' "$job" test \
    "$(job_field "$job" ExitCode) $(told moved state)" = '75:0 stopped'
  job=$(sbatch --parsable --time=30 --output=moved-%j.log "$top/launch/slurm.sh" moved.yaml --quiet)
  until_true 120 trains moved 3
  scancel "$job"
  until_true 60 ended "$job"
  check_job 'scancel: the job ends and stays so' "$job" test "$(job_state "$job")" = CANCELLED
  submit --time=30 --output=moved-%j.log "$top/launch/slurm.sh" moved.yaml --quiet
  check_job 'the same sbatch goes on to the end' "$job" test "$status $(told moved state)" = '0 done'
  same 'the student is that of an undisturbed training' moved/student.onnx straight/student.onnx
}

if [ "$(id -u)" != 0 ]; then
  fail 'root is needed to start jobs'
  exit 1
fi
if ! cluster_start "$work/slurm"; then
  tail -n 5 "$work"/slurm/*.out "$work"/slurm/munge/out
  fail 'a controller and two nodes are up'
  exit 1
fi
pass 'a controller and two nodes are up'
cp "$digits" digits.h5
must 0 create mlp --layers 64,256,10 --seed 1 --output wide.onnx
must 0 create cnn --input 1x8x8 --channels 8,16 --hidden 32 --classes 10 --seed 2 --output conv.onnx
must 0 create mlp --layers 64,384,384,10 --seed 3 --output student.onnx
rm -f err
if ! $open_mpi; then
  echo "skip all but by_srun: the scripts give mpirun the options of Open MPI's"
  set -- by_srun
fi
[ $# -gt 0 ] || set -- one_job by_srun chain lost time_limit signals
for group in "$@"; do $group; done
[ "$failures" = 0 ]
