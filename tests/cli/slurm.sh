#!/usr/bin/env bash
# slurm.sh: pipelines/slurm.sh with a Slurm that notes what it is told; then on a Slurm of one node on the loopback interface,
# from OFFRAMP_TEST_SLURM (pipelines/setup.sh slurm) or the machine's: the whole chain with a task of extraction that is told to
# stop, one of training that is killed, and a trial that fails; a task that fails; a chain that is cancelled.
. "$(dirname "$0")/lib.sh"
tiny=$PWD/tests/golden/gguf-llama.gguf # 2 layers, 64 tokens
ids=$work/ids.u16
perl -e 'srand(5); print pack("v*", map { int(rand(64)) } 1 .. 80000)' >"$ids"
head -c 640 "$ids" >"$work/held_out.u16"
build=$(realpath "$build") top=$PWD
extracting=(--held-out-corpus "$work/held_out.u16" --seq-len 16 --taps 1,final --codec klt:6)
cat >"$work/sweep.yaml" <<'END'
steps: 16
evaluate: 4
checkpoint: 1
grid:
  tap: [1]
  head: [affine, norm]
  init: [copy]
  rate: [1e-3, 1e-2]
trials:
  - {tap: 1, head: affine, rate: 10, decay: 1, warmup: 0} # fails
END

# ---- with a Slurm that notes ----

mkdir "$work/fake" "$work/bin"
cat >"$work/fake/scontrol" <<'END'
#!/bin/sh
echo "scontrol $*" >>"$CALLS"
[ "$*" != "show job -o 7_0" ] || echo "JobId=9 JobState=$STATE Command=(null) WorkDir=/"
END
cat >"$work/fake/sbatch" <<'END'
#!/bin/sh
echo "sbatch $*" >>"$CALLS"
[ "${REFUSE:-}" != "$(grep -c ^sbatch "$CALLS")" ] && echo "$((100 + $(grep -c ^sbatch "$CALLS")));loopback"
END
printf '#!/bin/sh\necho "scancel $*" >>"$CALLS"\n' >"$work/fake/scancel"
printf '#!/bin/sh\necho "$ACTIVE"\n[ -z "$SAYS" ] || { echo "$SAYS"; exit 1; }' >"$work/fake/squeue"
chmod +x "$work"/fake/*

# slurm STATUS ARGUMENT...: the script, as somebody calls it; WITH may set more of its environment
slurm() {
    local expected=$1 status
    shift
    : >"$work/calls"
    # shellcheck disable=SC2086 # WITH is words
    env PATH="$work/fake:$PATH" CALLS="$work/calls" STATE="${STATE:-RUNNING}" ACTIVE= SAYS="${SAYS:-}" BUILD="$work/bin" ${WITH:-} \
        pipelines/slurm.sh "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ "$status" = "$expected" ] && return
    echo "    slurm.sh $* ended with $status: $(head -c 400 "$work/err")"
    return 1
}
# chain STATUS OUT ARGUMENT...: submits
chain() {
    local expected=$1 out=$2
    shift 2
    slurm "$expected" "$work/$out" --model M --corpus "a b" c --sweep "$work/sweep.yaml" "$@"
}
# task STATUS STAGE NUMBER OUT: a task as Slurm starts it
task() {
    WITH="SLURM_JOB_ID=9 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$3 ${WITH:-}" slurm "$1" --task "$2" "$work/$4"
}
# stand_in CODE: a program in place of extract and train
stand_in() {
    printf '#!/usr/bin/env bash\n%s\n' "$1" >"$work/bin/extract"
    chmod +x "$work/bin/extract"
    cp "$work/bin/extract" "$work/bin/train"
}
stand_in 'printf "%s;" "$@"'

wrong_usage() {
    slurm 2 && says err "pipelines/slurm.sh OUT --model M" && ! grep -q "unbound" "$work/err" &&
        slurm 0 --help && says out "--shards N" || return 1
    slurm 2 o && says err "--model, --corpus and --sweep are wanted" && slurm 2 --model M && says err "OUT is wanted" &&
        chain 2 o --shards 0 && says err "--shards 0 is not a number" && chain 2 o --parts x && says err "--parts x" &&
        chain 2 o --cpus 1.5 && chain 2 o --max-parallel 0 && says err "--max-parallel 0 is not a number" && chain 2 o --nonsense 1 && says err "unknown option --nonsense" && chain 2 o --time && says err "wants a value" &&
        chain 2 o --math f32 word && says err '"word" is too much' &&
        slurm 2 o --model M --corpus c --sweep "$work/none" && says err "is not there" && [ ! -e "$work/o" ] && [ ! -s "$work/calls" ] || return 1
    PATH=/usr/bin:/bin BUILD=$work/bin pipelines/slurm.sh "$work/o" --model M --corpus c --sweep "$work/sweep.yaml" >"$work/out" 2>"$work/err"
    [ $? = 2 ] && says err "sbatch is not there" && [ ! -e "$work/o" ]
}

dry_run() {
    chain 0 dry --dry-run --gpus 2 --shards 3 -- --codec klt:4 && [ ! -e "$work/dry" ] && [ ! -s "$work/calls" ] &&
        [ "$(cut -d' ' -f 1 "$work/out" | tr '\n' ' ')" = "sbatch sbatch sbatch sbatch " ] && says out "--dependency=afterok:JOB-OF-PILOT"
}

# Jobs wait for each other and have what was asked for; a folder remembers what it was begun with.
jobs_are_chained() {
    chain 0 "o ut" --shards 3 --parts 2 --partition p --time 1:00 --cpus 5 --sbatch-option --qos=q --agreement 0.9 || return 1
    [ "$(grep -c ^sbatch "$work/calls")" = 3 ] && says out "extract  job 101, tasks 0-2" && says out "collect  job 103" &&
        says out "squeue -j 101,102,103" && says out "scancel 101 102 103" || return 1
    grep extract "$work/calls" | grep -q -e "--array=0-2 --partition=p --time=1:00 --cpus-per-task=5 --qos=q --wrap" &&
        grep offramp-train "$work/calls" | grep -q -e "--array=0-1 --dependency=afterok:101 " &&
        grep offramp-collect "$work/calls" | grep -q -e "--dependency=afterok:102 " &&
        ! grep -v "requeue --signal=B:TERM@60 --kill-on-invalid-dep=yes" "$work/calls" || return 1
    WITH="ACTIVE=101" chain 0 "o ut" --shards 3 --parts 2 --agreement 0.9 && says err "nothing is submitted" && [ ! -s "$work/calls" ] || return 1
    SAYS="Unable to contact slurm controller" chain 2 "o ut" --shards 3 --parts 2 --agreement 0.9 && says err "squeue does not say" && [ ! -s "$work/calls" ] &&
        SAYS="slurm_load_jobs error: Invalid job id specified" chain 0 "o ut" --shards 3 --parts 2 --agreement 0.9 || return 1
    chain 2 "o ut" --shards 4 --parts 2 --agreement 0.9 && says err 'shards="4"' && says err "begun with other options" || return 1
    cp "$work/sweep.yaml" "$work/kept.yaml" && echo "seed: 2" >>"$work/sweep.yaml"
    chain 2 "o ut" --shards 3 --parts 2 --agreement 0.9
    local status=$?
    mv "$work/kept.yaml" "$work/sweep.yaml"
    [ $status = 0 ] && says err "begun with another sweep"
}

# Each stage runs its program.
stages_run_programs() {
    local extract="--model;M;--corpus;a b;c;--device;cpu;--seq-len;16;"
    chain 0 stages --shards 2 --parts 2 --agreement 0.9 -- --seq-len 16 && task 0 extract 1 stages && says out "$extract--out;$work/stages/store/1;--shard;1/2;" || return 1
    local train="--sweep;$work/stages/sweep.yaml;--out;$work/stages/run;--device;cpu;--store;$work/stages/store/0;--store;$work/stages/store/1;"
    WITH="SLURM_CPUS_PER_TASK=5 SLURM_CPUS_ON_NODE=9" task 0 train 0 stages && says out "$train--part;0/2;--threads;5;" &&
        WITH="SLURM_CPUS_ON_NODE=9" slurm 0 --task collect "$work/stages" && says out "$train--collect;--agreement;0.9;--threads;9;" || return 1
    chain 0 fitted --math bf16 --gpus 1 -- --codec klt:4 && grep -q "afterok:101" "$work/calls" && slurm 0 --task pilot "$work/fitted" &&
        says out "--math;bf16;--device;cuda;--codec;klt:4;--out;$work/fitted/store/pilot;--dry-run;--pilot-out;$work/fitted/codecs;" &&
        task 0 extract 0 fitted && says out "--pilot;$work/fitted/codecs;" || return 1
    chain 0 given -- --codec klt:4 --pilot P && ! grep -q offramp-pilot "$work/calls" || return 1
    chain 0 bounded --memory 3G --max-parallel 4 && task 0 extract 0 bounded && says out "--memory;3G;" && ! grep -q "max-parallel" "$work/out" &&
        task 0 train 0 bounded && says out "--memory;3G;" && says out "--max-parallel;4;" && slurm 0 --task collect "$work/bounded" &&
        says out "--max-parallel;4;" && chain 2 bounded --memory 3G && says err "begun with other options"
}

# What has ended is not run again, unless what it made is gone.
goes_on() {
    mkdir -p "$work/stages/store/1" "$work/stages/store/0" "$work/stages/run" && : >"$work/stages/store/1/data.mdb" && : >"$work/stages/run/run.json"
    local again=(stages --shards 2 --parts 2 --agreement 0.9)
    chain 0 "${again[@]}" -- --seq-len 16 && grep extract "$work/calls" | grep -q -e "--array=0 " && grep offramp-train "$work/calls" | grep -q -e "--array=1 " || return 1
    task 0 extract 0 stages && : >"$work/stages/store/0/data.mdb" && task 0 train 1 stages && : >"$work/stages/run/leaderboard.tsv" &&
        chain 0 "${again[@]}" -- --seq-len 16 && says err "nothing is left to do" && [ ! -s "$work/calls" ] || return 1
    rm "$work/stages/store/1/data.mdb"
    chain 0 "${again[@]}" -- --seq-len 16 && [ "$(grep -c ^sbatch "$work/calls")" = 2 ] && grep -q -e "--array=1 " "$work/calls"
}

# Claims that killed tasks have left are free once no job of the folder is there; those that people made are theirs.
claims_are_freed() {
    mkdir -p "$work/stages/run/parts" && echo '"slurm_job": "12 of c",' >"$work/stages/run/parts/0-of-2.claim.1" &&
        echo '"slurm_job": "",' >"$work/stages/run/parts/1-of-2.claim.1" &&
        chain 0 stages --shards 2 --parts 2 --agreement 0.9 -- --seq-len 16 && [ "$(ls "$work/stages/run/parts")" = 1-of-2.claim.1 ]
}

# All or nothing.
refused_by_sbatch() {
    WITH="REFUSE=3" chain 1 refused && says err "has refused the job of stage collect" && grep -q "^scancel 101 102$" "$work/calls"
}

# until_is SECONDS COMMAND...: waits for it
until_is() {
    local end=$((SECONDS + $1))
    shift
    while [ $SECONDS -lt $end ]; do
        ! "$@" || return 0
        sleep 0.1
    done
    echo "    not in time: $*: $(squeue -o '%i %j %T %r' 2>&1 | tr '\n' ';') $(tail -n 3 "$work"/slurm/*/logs/*.log 2>/dev/null)"
    return 1
}
# stopped STATE STATUS RESULT: a task in this state that is told to stop while its program runs, which ends with the status
stopped() {
    local pid
    stand_in "trap 'sleep 0.2; exit $2' TERM; echo \$PPID >$work/parent.new; mv $work/parent.new $work/parent; while :; do sleep 0.05; done"
    rm -f "$work/parent"
    STATE=$1 task "$3" extract 0 fitted &
    pid=$!
    until_is 20 test -e "$work/parent" && kill -TERM "$(cat "$work/parent")"
    wait $pid
}
# One that somebody cancels is not, nor one whose program ends well all the same.
stopped_is_queued_again() {
    rm "$work"/fitted/logs/*.done
    stopped RUNNING 1 0 && says calls "requeue 7_0" && says err "queued again" || return 1
    stopped COMPLETING 1 1 && ! grep -q requeue "$work/calls" && [ ! -e "$work/fitted/logs/extract-0.done" ] || return 1
    stopped RUNNING 0 0 && ! grep -q requeue "$work/calls" && [ -e "$work/fitted/logs/extract-0.done" ]
}

its_own_failure_is_not() {
    stand_in 'echo "extract: it is wrong" >&2; exit 1'
    task 1 extract 1 fitted && says err "it is wrong" && ! grep -q requeue "$work/calls" || return 1
    stand_in 'kill -KILL $$'
    task 137 extract 1 fitted && ! grep -q requeue "$work/calls" && [ ! -e "$work/fitted/logs/extract-1.done" ]
}

for name in wrong_usage dry_run jobs_are_chained stages_run_programs goes_on claims_are_freed refused_by_sbatch stopped_is_queued_again \
    its_own_failure_is_not; do
    check $name
done

# ---- on a real Slurm ----

daemons=() keys=munge skipped_munge='' munge_socket=$work/slurm/munge.socket
end_daemons() {
    [ ${#daemons[@]} = 0 ] || kill "${daemons[@]}" 2>/dev/null
    wait "${daemons[@]}" 2>/dev/null
    rm -rf "$work"
}
trap end_daemons EXIT

# Munge, by which the daemons and commands of a cluster know each other, with a key and a socket of this test. Its folder is not
# for others, which munged would rather have: --force.
start_munge() {
    local i
    command -v munged munge unmunge >/dev/null || return 1
    head -c 128 /dev/urandom >"$work/slurm/munge.key" && chmod 600 "$work/slurm/munge.key"
    munged --foreground --force --key-file="$work/slurm/munge.key" --socket="$munge_socket" --pid-file="$work/slurm/munge.pid" \
        --log-file="$work/slurm/munge.out" --seed-file="$work/slurm/munge.seed" --num-threads=2 >"$work/slurm/munge.log" 2>&1 &
    daemons+=($!)
    for ((i = 0; i < 50; i++)); do
        ! munge -S "$munge_socket" -n 2>/dev/null | unmunge -S "$munge_socket" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    return 1
}

# A controller and a node of two CPUs, without accounting and control groups.
start_slurm() {
    local root=${OFFRAMP_TEST_SLURM:-} lib port i
    lib=$root/usr/lib/$(uname -m)-linux-gnu
    export LD_LIBRARY_PATH=$lib:$lib/slurm-wlm PATH=$root/usr/bin:$root/usr/sbin:$PATH SLURM_CONF=$work/slurm/slurm.conf
    command -v slurmctld-wlm slurmd-wlm slurmstepd-wlm sbatch >/dev/null || return 1
    mkdir -p "$work/slurm/state" "$work/slurm/spool"
    start_munge || {
        skipped_munge="munge: $(tail -n 1 "$work/slurm/munge.log" 2>/dev/null | grep . || echo "munged is not there"): Slurm runs without keys"
        keys=none
    }
    port=$((20000 + $$ % 5000 * 2))
    cat >"$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/$keys
CredType=cred/$keys
$([ $keys = none ] || echo "AuthInfo=socket=$munge_socket")
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
KillWait=2
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

state() { scontrol show job -o "$1" 2>/dev/null | sed -nE "s/.* JobState=([^ ]*) .*/\1/p"; }
is() { [ "$(state "$1")" = "$2" ]; }
# Slurm holds a job that is queued again for two minutes; an administrator need not. In the second of its end, its node
# would refuse it.
let_begin() { scontrol update jobid="$1" StartTime=now 2>/dev/null; [ "$(state "$1")" != PENDING ]; }

# Programs that come to a halt the first time, when there is something to go on from: extract for the shard EXTRACT_HELD stops
# still until it is told to stop; train for the part TRAIN_HELD is killed, and its task ends when Slurm kills it.
mkdir -p "$work/held"
cat >"$work/held/extract" <<END
#!/usr/bin/env bash
case "\$*" in *" --shard \${EXTRACT_HELD:-none}/"*) ;; *) exec "$build/extract" "\$@" ;; esac
[ ! -e "\$MARK.extract" ] || exec "$build/extract" "\$@"
"$build/extract" "\$@" &
child=\$!
trap 'kill -TERM \$child; kill -CONT \$child' TERM
while kill -0 \$child 2>/dev/null && ! [ "\$(stat -c %s "\$STORES/\$EXTRACT_HELD/data.mdb" 2>/dev/null || echo 0)" -gt 600000 ]; do :; done
kill -STOP \$child || { wait \$child; exit; }
touch "\$MARK.extract"
until wait \$child || ! kill -0 \$child 2>/dev/null; do :; done
wait \$child
END
cat >"$work/held/train" <<END
#!/usr/bin/env bash
case "\$*" in *" --part \${TRAIN_HELD:-none}/"*) ;; *) exec "$build/train" "\$@" ;; esac
[ ! -e "\$MARK.train" ] || exec "$build/train" "\$@"
trap '' TERM
"$build/train" "\$@" &
child=\$!
while kill -0 \$child 2>/dev/null && ! grep -qs '"step": 3' "\$RUN"/trials/*-0.01/metrics.jsonl; do :; done
kill -KILL \$child && touch "\$MARK.train"
while :; do sleep 0.2; done
END
chmod +x "$work"/held/*
# submit OUT SHARDS PARTS CORPUS: a chain; its jobs' ids go to jobs
submit() {
    MARK=$work/held/mark.${1// /} STORES=$PWD/$1/store RUN=$PWD/$1/run BUILD=$work/held "$top/pipelines/slurm.sh" "$1" --model "$tiny" \
        --corpus "$4" --sweep "$work/sweep.yaml" --shards "$2" --parts "$3" --cpus 1 -- "${extracting[@]}" >"$work/out" 2>"$work/err" || {
        cat "$work/err"
        return 1
    }
    mapfile -t jobs < <(sed -nE 's/^[a-z]+ +job ([0-9]+).*/\1/p' "$work/out")
}
nothing_is_queued() { [ -z "$(squeue -h)" ]; }
begun_again() { [ "$(grep -c "^device: " "$1" 2>/dev/null)" = 2 ]; }

# What one process makes of each stage, without Slurm.
made_here() {
    local made=(--model "$tiny" --corpus "$ids" "${extracting[@]}" --device cpu)
    run 0 extract "${made[@]}" --out "$work/pilot" --dry-run --pilot-out "$work/codecs" &&
        run 0 extract "${made[@]}" --pilot "$work/codecs" --out "$work/whole" &&
        run 0 train --store "$work/whole" --sweep "$work/sweep.yaml" --out "$work/run" --device cpu
}
# same_as_here OUT: the heads, the leaderboard and the policy
same_as_here() {
    local trial
    for trial in "$work"/run/trials/*; do
        [ "$(cd "$trial" && ls)" = "$(cd "$1/run/trials/${trial##*/}" && ls)" ] || return 1
        [ ! -e "$trial/head.safetensors" ] || cmp "$trial/head.safetensors" "$1/run/trials/${trial##*/}/head.safetensors" || return 1
    done
    cmp "$work/run/leaderboard.tsv" "$1/run/leaderboard.tsv" && diff -r "$work/run/policy" "$1/run/policy" && [ ! -e "$1/run/parts" ]
}

# A shard is told to stop, a part is killed, a trial fails; and the folder has blanks in its name.
a_chain_with_requeued_tasks() (
    cd "$work/slurm" || return 1
    export EXTRACT_HELD=1 TRAIN_HELD=1
    made_here && grep -q failed "$work/run/leaderboard.tsv" && submit "the chain" 2 2 "$ids" && [ ${#jobs[@]} = 4 ] || return 1
    local extract=${jobs[1]} train=${jobs[2]} collect=${jobs[3]}
    until_is 60 test -e "$work/held/mark.thechain.extract" && scancel --batch --signal=TERM "${extract}_1" &&
        until_is 20 grep -q "slurm.sh: extract 1 was told to stop; it is queued again" "the chain/logs/extract-1.log" &&
        is "$train" PENDING && sleep 2 && until_is 20 let_begin "${extract}_1" || return 1
    until_is 60 test -e "$work/held/mark.thechain.train" && scontrol requeue "${train}_1" && until_is 20 is "${train}_1" PENDING &&
        sleep 2 && until_is 20 let_begin "${train}_1" && until_is 60 is "$collect" COMPLETED || return 1
    # The last task's number is the array's, too: the others were left alone.
    begun_again "the chain/logs/extract-1.log" && begun_again "the chain/logs/train-1.log" && ! begun_again "the chain/logs/extract-0.log" &&
        grep -q "goes on for a train that was killed" "the chain/logs/train-1.log" && same_as_here "the chain" || {
        tail -n 5 "the chain"/logs/*
        return 1
    }
    submit "the chain" 2 2 "$ids" && grep -q "nothing is left to do" "$work/err"
)

# Where a task fails, what is behind it does not run. The same command goes on; also after all was cancelled.
a_task_fails_then_all_is_cancelled() (
    cd "$work/slurm" || return 1
    export TRAIN_HELD=0
    submit broken 1 1 "$work/later.u16" && until_is 20 is "${jobs[0]}" FAILED && until_is 20 is "${jobs[3]}" CANCELLED &&
        grep -q "later.u16: No such file" broken/logs/pilot.log || return 1
    cp "$ids" "$work/later.u16"
    submit broken 1 1 "$work/later.u16" && until_is 60 test -e "$work/held/mark.broken.train" && scancel "${jobs[@]}" && until_is 20 is "${jobs[3]}" CANCELLED &&
        ! grep -q "queued again" broken/logs/* && until_is 20 nothing_is_queued || return 1
    submit broken 1 1 "$work/later.u16" && [ "$(sed -n 's/ .*//p' "$work/out" | head -n 2 | tr '\n' ' ')" = "train collect " ] &&
        until_is 60 is "${jobs[1]}" COMPLETED && same_as_here broken
)

# A command with another key is nobody.
keys_are_asked_for() {
    sinfo -h >/dev/null && ! sed 's,munge.socket,none.socket,' "$SLURM_CONF" | SLURM_CONF=/dev/stdin sinfo -h >/dev/null 2>&1
}

if start_slurm; then
    if [ $keys = munge ]; then check keys_are_asked_for; else
        skipped=$((skipped + 1))
        echo "    skipped: $skipped_munge"
    fi
    check a_chain_with_requeued_tasks
    check a_task_fails_then_all_is_cancelled
else
    skipped=$((skipped + 2))
    echo "    skipped: a real Slurm: there is none, or it does not start here (pipelines/setup.sh slurm fetches one)"
fi
finish
