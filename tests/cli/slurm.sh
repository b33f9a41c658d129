#!/usr/bin/env bash
# slurm.sh: pipelines/slurm.sh as a script, with a scontrol that notes what it is told; then on a Slurm of one node on
# the loopback interface, from OFFRAMP_TEST_SLURM (pipelines/setup.sh slurm) or the machine's: an array of shards of which
# one is told to stop, training behind it, and one that is cancelled.
. "$(dirname "$0")/lib.sh"
tiny=$PWD/tests/golden/gguf-llama.gguf # 2 layers, 64 tokens
ids=$work/ids.u16
perl -e 'srand(5); print pack("v*", map { int(rand(64)) } 1 .. 300000)' >"$ids"
head -c 640 "$ids" >"$work/held_out.u16"
build=$(realpath "$build") top=$PWD
common=(--model "$tiny" --corpus "$ids" --held-out-corpus "$work/held_out.u16" --seq-len 16 --taps 1,final)

# ---- with a scontrol that notes ----

mkdir "$work/fake"
cat >"$work/fake/scontrol" <<'END'
#!/bin/sh
echo "$*" >>"$CALLS"
[ "$*" != "show job -o 7_0" ] || echo "JobId=9 JobState=$STATE Command=(null) WorkDir=/"
END
chmod +x "$work/fake/scontrol"

# task NUMBER SHARDS OUT [OPTION...]: a task as Slurm starts it; WITH may set more of its environment
task() {
    local number=$1 shards=$2
    shift 2
    : >"$work/calls"
    # shellcheck disable=SC2086 # WITH is words
    env PATH="$work/fake:$PATH" CALLS="$work/calls" STATE="${STATE:-RUNNING}" BUILD="$build" SLURM_JOB_ID=9 SLURM_ARRAY_JOB_ID=7 \
        SLURM_ARRAY_TASK_ID="$number" SLURM_ARRAY_TASK_COUNT=1 SHARDS="$shards" ${WITH:-} \
        pipelines/slurm.sh "$@" >"$work/out" 2>"$work/err"
}
ended() { # ended STATUS [TEXT]: how the last command did, and what it said
    local status=$?
    [ "$status" = "$1" ] && { [ $# = 1 ] || says err "$2"; } && return
    echo "    ended with $status"
    return 1
}

wrong_usage() {
    pipelines/slurm.sh >"$work/out" 2>"$work/err"
    ended 2 "SHARDS=16 sbatch --array=0-15" || return 1
    ! grep -q "unbound\|SBATCH --" "$work/err" || return 1
    env -u SLURM_ARRAY_TASK_ID SHARDS=2 pipelines/slurm.sh "$work/o" >"$work/out" 2>"$work/err"
    ended 2 "not a task of a job array" || return 1
    local shards
    task 0 '' "$work/o"
    ended 2 "SHARDS=N" || return 1
    for shards in 0 -1 2x 1.5 '1 2'; do
        task 0 "$shards" "$work/o"
        ended 2 "SHARDS=$shards is not a number" || return 1
    done
    task 2 2 "$work/o"
    ended 2 "the tasks of SHARDS=2 are 0 .. 1" && [ ! -e "$work/o" ]
}

# What counts is SHARDS, and the folder remembers it.
shards_are_what_was_said() {
    task 1 3 "$work/few" "${common[@]}" --tokens 800 || { cat "$work/err"; return 1; }
    run 0 cache info "$work/few/1" && says out "shard       1 of 3" || return 1
    task 0 4 "$work/few" "${common[@]}" --tokens 800
    ended 2 "was begun with SHARDS=3" || return 1
    [ "$(echo "$work"/few/*)" = "$work/few/1" ] && task 0 3 "$work/few" "${common[@]}" --tokens 800 &&
        [ "$(ls -A "$work/few" | tr '\n' ' ')" = ".shards 0 1 " ]
}

# Stores that were made without the script say it themselves.
made_without_it() {
    run 0 extract "${common[@]}" --tokens 800 --shard 1/3 --out "$work/by_hand/1" || return 1
    task 0 4 "$work/by_hand" "${common[@]}" --tokens 800
    ended 2 "was begun with SHARDS=3" && task 0 3 "$work/by_hand" "${common[@]}" --tokens 800 || return 1
    run 0 extract "${common[@]}" --tokens 800 --out "$work/whole_by_hand/0" || return 1
    task 1 2 "$work/whole_by_hand" "${common[@]}" --tokens 800
    ended 2 "was begun with SHARDS=1"
}

# stand_in CODE: a program in place of extract
stand_in() {
    mkdir -p "$work/bin"
    printf '#!/usr/bin/env bash\n%s\n' "$1" >"$work/bin/offramp-extract"
    chmod +x "$work/bin/offramp-extract"
}

# Tasks begin at once: all see the number of one of them.
one_of_many_begins() {
    local i good=0 pids=()
    stand_in ''
    for i in 0 1 2 3 4 5 6 7; do
        SLURM_ARRAY_TASK_ID=0 BUILD="$work/bin" SHARDS=$((1 + i % 2)) pipelines/slurm.sh "$work/race" 2>/dev/null &
        pids+=($!)
    done
    for i in "${pids[@]}"; do if wait "$i"; then good=$((good + 1)); fi; done
    [ "$good" = 4 ] && [ "$(ls -A "$work/race")" = .shards ]
}

threads_are_the_tasks() {
    local build=$work/bin
    stand_in 'echo "$@"'
    WITH="SLURM_CPUS_PER_TASK=5 SLURM_CPUS_ON_NODE=9" task 0 1 "$work/t" --model "a b" &&
        says out "--threads 5 --model a b --out $work/t/0 --shard 0/1" &&
        WITH="SLURM_CPUS_ON_NODE=9" task 0 1 "$work/t" && says out "--threads 9" && task 0 1 "$work/t" && ! grep -q threads "$work/out"
}

# stopped STATE STATUS: a task in this state that is told to stop while its program runs, which ends with the status
stopped() {
    local build=$work/bin pid
    stand_in "trap 'sleep 0.2; exit $2' TERM; echo \$PPID >$work/parent.new; mv $work/parent.new $work/parent; while :; do sleep 0.05; done"
    rm -f "$work/parent"
    STATE=$1 task 0 1 "$work/s" &
    pid=$!
    while [ ! -e "$work/parent" ]; do sleep 0.05; done
    kill -TERM "$(cat "$work/parent")"
    wait $pid
}
# One that somebody cancels is not, nor one whose program ends well all the same.
stopped_is_queued_again() {
    stopped RUNNING 1 && says calls "requeue 7_0" && says err "queued again" || return 1
    stopped COMPLETING 1
    ended 1 && ! grep -q requeue "$work/calls" || return 1
    stopped RUNNING 0 && ! grep -q requeue "$work/calls"
}

its_own_failure_is_not() {
    local build=$work/bin
    stand_in 'echo "extract: it is wrong" >&2; exit 1'
    task 0 1 "$work/f"
    ended 1 "it is wrong" && ! grep -q requeue "$work/calls" || return 1
    stand_in 'kill -KILL $$'
    task 0 1 "$work/f"
    ended 137 && ! grep -q requeue "$work/calls"
}

for name in wrong_usage shards_are_what_was_said made_without_it one_of_many_begins threads_are_the_tasks stopped_is_queued_again \
    its_own_failure_is_not; do
    check $name
done

# ---- on a real Slurm ----

daemons=()
end_daemons() {
    [ ${#daemons[@]} = 0 ] || kill "${daemons[@]}" 2>/dev/null
    wait "${daemons[@]}" 2>/dev/null
    rm -rf "$work"
}
trap end_daemons EXIT

# A controller and a node of two CPUs, without accounting, control groups or keys.
start_slurm() {
    local root=${OFFRAMP_TEST_SLURM:-} lib port i
    lib=$root/usr/lib/$(uname -m)-linux-gnu
    export LD_LIBRARY_PATH=$lib:$lib/slurm-wlm PATH=$root/usr/bin:$root/usr/sbin:$PATH SLURM_CONF=$work/slurm/slurm.conf
    command -v slurmctld-wlm slurmd-wlm slurmstepd-wlm sbatch >/dev/null || return 1
    mkdir -p "$work/slurm/state" "$work/slurm/spool"
    port=$((20000 + $$ % 5000 * 2))
    cat >"$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/none
CredType=cred/none
PluginDir=$lib/slurm-wlm
StateSaveLocation=$work/slurm/state
SlurmdSpoolDir=$work/slurm/spool
SlurmctldPidFile=$work/slurm/slurmctld.pid
SlurmdPidFile=$work/slurm/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
MailProg=/bin/true
KillWait=5
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    slurmctld-wlm -D -c >"$work/slurm/controller.log" 2>&1 &
    daemons+=($!)
    slurmd-wlm -D -c -d "$(command -v slurmstepd-wlm)" >"$work/slurm/node.log" 2>&1 &
    daemons+=($!)
    for ((i = 0; i < 100; i++)); do
        ! sinfo -h -o %T 2>/dev/null | grep -q idle || return 0
        sleep 0.1
    done
    cat "$work"/slurm/*.log | tail -n 5
    return 1
}

state() { scontrol show job -o "$1" | sed -nE "s/.* JobState=([^ ]*) .*/\1/p"; }
# until_is SECONDS COMMAND...: waits for it
until_is() {
    local end=$((SECONDS + $1))
    shift
    while [ $SECONDS -lt $end ]; do
        ! "$@" || return 0
        sleep 0.1
    done
    echo "    not in time: $*: $(squeue -o '%i %T %r' 2>&1 | tr '\n' ';') $(tail -n 3 "$work"/slurm/task.* 2>/dev/null)"
    return 1
}
# A program that stops still when it has written records of shard HELD, the first time, until it is told to stop.
mkdir -p "$work/held"
cat >"$work/held/extract" <<END
#!/usr/bin/env bash
case "\$*" in *"/\$HELD --shard \$HELD/3"*) ;; *) exec "$build/extract" "\$@" ;; esac
[ ! -e "\$MARK" ] || exec "$build/extract" "\$@"
"$build/extract" "\$@" &
child=\$!
trap 'kill -TERM \$child; kill -CONT \$child' TERM
while kill -0 \$child 2>/dev/null && ! [ "\$(stat -c %s "\$OUT/\$HELD/data.mdb" 2>/dev/null || echo 0)" -gt 1000000 ]; do :; done
kill -STOP \$child || { wait \$child; exit; }
touch "\$MARK"
until wait \$child || ! kill -0 \$child 2>/dev/null; do :; done
wait \$child
END
chmod +x "$work/held/extract"
# submit HELD OUT ARRAY LOG: tasks of three shards, of which one is held
submit() {
    HELD=$1 MARK=$work/held/$1.$2 OUT=$2 SHARDS=3 BUILD=$work/held sbatch --parsable --array="$3" --cpus-per-task=1 --output="$4" \
        "$top/pipelines/slurm.sh" "$2" "${common[@]}"
}

begun_again() { [ "$(grep -c "^device: " "$1" 2>/dev/null)" = 2 ]; }
is_over() { [ "$(state "$1")" = COMPLETED ]; }

# Slurm holds a job that is queued again for two minutes; an administrator need not. In the second of its end, its node
# would refuse it.
let_begin() { scontrol update jobid="$1" StartTime=now 2>/dev/null; [ "$(state "$1")" != PENDING ]; }

an_array_then_training() (
    cd "$work/slurm" || return 1
    printf 'steps: 4\ntrials:\n  - {tap: 1, head: norm}\n' >sweep.yaml
    array=$(submit 2 stores 0-2 task.%a) || return 1
    training=$(sbatch --parsable --dependency=afterok:"$array" --output=training \
        --wrap "$build/train \$(printf -- '--store %s ' stores/[0-9]*) --sweep sweep.yaml --out run")
    until_is 60 test -e "$work/held/2.stores" && scancel --batch --signal=TERM "${array}_2" &&
        until_is 20 grep -q "slurm.sh: task 2 was told to stop; it is queued again" task.2 &&
        [ "$(state "$training")" = PENDING ] && sleep 2 && until_is 20 let_begin "${array}_2" && until_is 60 is_over "$training" || return 1
    # The last task's number is the array's, too: the others were left alone.
    begun_again task.2 && grep -q "the same command goes on from there" task.2 && ! begun_again task.0 && ! begun_again task.1 || {
        cat task.2
        return 1
    }
    # The same states, and the same heads, as made at once.
    run 0 extract "${common[@]}" --out "$work/whole" && same_states 1 &&
        run 0 train --store "$work/whole" --sweep sweep.yaml --out "$work/run" &&
        cmp run/trials/*/head.safetensors "$work"/run/trials/*/head.safetensors
)
same_states() { # same_states TAP
    run 0 cache export "$work/whole" --tap "$1" --out "$work/whole.safetensors" &&
        run 0 cache export stores/? --tap "$1" --out "$work/shards.safetensors" && cmp "$work/whole.safetensors" "$work/shards.safetensors"
}

# Resubmitted alone, a task is the same shard; and what somebody cancels stays cancelled.
one_again_and_one_cancelled() (
    cd "$work/slurm" || return 1
    rm -r stores/2
    again=$(submit 9 stores 2 again) && until_is 60 is_over "${again}_2" && same_states final || return 1
    cancelled=$(submit 1 others 1 cancelled) && until_is 60 test -e "$work/held/1.others" && scancel "${cancelled}_1" &&
        until_is 20 grep -q "the same command goes on" cancelled && sleep 1 && [ "$(state "${cancelled}_1")" = CANCELLED ] &&
        ! grep -q "queued again" cancelled
)

if start_slurm; then
    check an_array_then_training
    check one_again_and_one_cancelled
else
    skipped=$((skipped + 2))
    echo "    skipped: a real Slurm: there is none, or it does not start here (pipelines/setup.sh slurm fetches one)"
fi
finish
