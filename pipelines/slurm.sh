#!/usr/bin/env bash
# slurm.sh: from a model and a text to an early-exit model on a Slurm cluster: extraction and training are job arrays.
#
#   pipelines/slurm.sh OUT --model M --corpus C... --sweep S.yaml [OPTION...] [-- OPTION OF EXTRACT...]
#
#   OUT   a folder that all nodes see; gets store/0, store/1 ... (hidden states), run/ (trials, leaderboard.tsv, report.html,
#         policy/), logs/
#
#   --shards N            tasks of extraction (default: 4); each makes a store of a part of the text
#   --parts N             tasks of training (default: 1); each trains a part of the sweep's trials
#   --agreement SHARE, --threshold P, --exits TAP,...   of the policy, as train takes them
#   --math M              of extraction and training
#   --memory SIZE         that each program may take, such as 24G: below --mem, which bounds the whole task
#   --max-parallel N      trials that are trained at a time
#   --partition P, --time T, --gpus N, --cpus N, --mem M, --account A   of each task, as Slurm's sbatch takes them; with
#                         --gpus N the programs compute on a GPU, without it on the CPU
#   --sbatch-option O     another option of sbatch, such as --sbatch-option --qos=night; may be given again
#   --dry-run             only prints what would be submitted
#
# The stages are jobs, each of which waits until the one before has ended well: the pilot of the codecs, where one of them is
# fitted (klt); extraction; training; and collecting, which makes leaderboard, report and policy. A task that runs out of time,
# or is told to stop, keeps what it has and is queued again. Where a task fails, the jobs behind it are cancelled.
# The same command again submits what is left to do, and tasks go on where they stopped.
#
# The programs are taken from beside this script, or from the folder that BUILD names; all nodes must see them.
set -euo pipefail
say() { echo "slurm.sh: $*" >&2; }
usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" | sed "s|pipelines/slurm\.sh|$0|"
    exit "$1"
}
wrong() {
    say "$1; --help says how it is used"
    exit 2
}
script=$(readlink -f "$0")
[ -f "${script%/*}/programs.sh" ] || wrong "programs.sh is not beside $script"
# shellcheck source=pipelines/programs.sh
. "${script%/*}/programs.sh"

# ---- a task: slurm.sh --task STAGE OUT, as Slurm starts it ----

# field NAME: what Slurm says of this task; nothing where it says nothing
field() { scontrol show job -o "$name" 2>/dev/null | sed -nE "s/.* $1=([^ ]*) .*/\1/p" || true; }

child='' stopped=''
stop() {
    stopped=1
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}

# attend COMMAND...: runs it so that this script hears TERM meanwhile; returns its status
attend() {
    local status=0
    trap stop TERM
    trap '[ -z "$child" ] || kill -TERM "$child" || true; exit 130' INT # what is started with & does not hear it
    "$@" &
    child=$!
    [ -z "$stopped" ] || stop
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do # a signal ended the wait, not the program
        status=0
        wait "$child" || status=$?
    done
    return "$status"
}

# What the task runs, into command.
choose_command() {
    local store extract train
    extract=$(program extract) train=$(program train)
    local of_extract=("$extract" --model "$model" --corpus "${corpus[@]}" "${computing[@]}" "${extracting[@]}")
    local of_train=("$train" --sweep "$out/sweep.yaml" --out "$out/run" "${computing[@]}" "${training[@]}")
    for ((store = 0; store < shards; store++)); do of_train+=(--store "$out/store/$store"); done
    case $stage in
    pilot) command=("${of_extract[@]}" --out "$out/store/pilot" --dry-run --pilot-out "$out/codecs") ;;
    extract)
        [ -z "$pilot" ] || of_extract+=(--pilot "$out/codecs")
        command=("${of_extract[@]}" --out "$out/store/$task" --shard "$task/$shards")
        ;;
    train) command=("${of_train[@]}" --part "$task/$parts") ;;
    collect) command=("${of_train[@]}" --collect "${policy[@]}") ;;
    *) wrong "there is no stage $stage" ;;
    esac
    local threads=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-}}
    [ -z "$threads" ] || command+=(--threads "$threads")
}

run_task() {
    stage=$1 out=$2 task=${SLURM_ARRAY_TASK_ID:-}
    # Not SLURM_JOB_ID: of an array's last task it is the number of the whole array.
    name=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$task}
    name=${name:-${SLURM_JOB_ID:-}}
    local command status=0
    training=() # a folder of before there were any has none
    # shellcheck source=/dev/null
    . "$out/chain"
    choose_command
    attend "${command[@]}" || status=$?
    [ "$status" != 0 ] || : >"$out/logs/$stage${task:+-$task}.done"
    # A job that was cancelled must not come back: it is queued again only when it still runs.
    if [ -n "$stopped" ] && [ "$status" != 0 ] && [ "$(field JobState)" = RUNNING ]; then
        say "$stage${task:+ $task} was told to stop; it is queued again and goes on from there"
        scontrol requeue "$name" && exit 0
    fi
    exit "$status"
}

if [ "${1:-}" = --task ]; then run_task "${2:-}" "${3:-}"; fi

# ---- submitting ----

number() { [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || wrong "$1 $2 is not a number from 1 on"; }

out='' model='' corpus=() sweep='' shards=4 parts=1 policy=() computing=() extracting=() training=() resources=() gpus='' dry='' corpora=''
[ $# -gt 0 ] || usage 2 >&2
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage 0 ;;
    --dry-run) dry=1 ;;
    --) break ;;
    --*)
        [ $# -ge 2 ] || wrong "$1 wants a value"
        [[ $1 = --corpus ]] && corpora=1 || corpora=''
        case $1 in
        --model) model=$2 ;;
        --corpus) corpus+=("$2") ;;
        --sweep) sweep=$2 ;;
        --shards) number "$1" "$2" && shards=$2 ;;
        --parts) number "$1" "$2" && parts=$2 ;;
        --agreement | --threshold | --exits) policy+=("$1" "$2") ;;
        --math | --memory) computing+=("$1" "$2") ;;
        --max-parallel) number "$1" "$2" && training=("$1" "$2") ;;
        --gpus) number "$1" "$2" && gpus=$2 && resources+=("$1=$2") ;;
        --cpus) number "$1" "$2" && resources+=("--cpus-per-task=$2") ;;
        --partition | --time | --mem | --account) resources+=("$1=$2") ;;
        --sbatch-option) resources+=("$2") ;;
        *) wrong "unknown option $1" ;;
        esac
        shift
        ;;
    *) if [ -n "$corpora" ]; then corpus+=("$1"); elif [ -z "$out" ]; then out=$1; else wrong "\"$1\" is too much"; fi ;;
    esac
    shift
done
[ $# = 0 ] || extracting=("${@:2}")
[ -n "$out" ] || wrong "OUT is wanted"
if [ -z "$model" ] || [ ${#corpus[@]} = 0 ] || [ -z "$sweep" ]; then wrong "--model, --corpus and --sweep are wanted"; fi
[ -f "$sweep" ] || wrong "--sweep $sweep is not there"
computing+=(--device "$([ -n "$gpus" ] && echo cuda || echo cpu)")
# A codec that is fitted to the corpus takes its parameters from one pilot for all shards.
pilot=''
for word in "${extracting[@]}"; do
    [[ $word != *klt* ]] || pilot=1
    [[ $word != --pilot && $word != --pilot=* ]] || { pilot='' && break; }
done
for needed in extract train; do program $needed >/dev/null; done
[ -z "${BUILD:-}" ] || BUILD=$(realpath "$BUILD")
out=$(realpath -m "$out") folder=$PWD
chain=$(declare -p folder model corpus shards parts policy computing extracting pilot)
[ ${#training[@]} = 0 ] || chain+=$'\n'$(declare -p training)

# The jobs of the folder that are queued or at work. Of jobs that are long over Slurm says that their ids are invalid.
jobs_at_work() {
    local answer
    [ -s "$out/jobs" ] || return 0
    if answer=$(squeue -h -o %i -j "$(paste -sd, "$out/jobs")" 2>&1); then
        paste -sd' ' <<<"$answer"
    elif [[ $answer != *Invalid\ job\ id* ]]; then
        wrong "squeue does not say whether jobs of $out are at work: $answer"
    fi
}

# What a folder was begun with must not change.
if [ -e "$out/chain" ] && [ "$chain" != "$(cat "$out/chain")" ]; then
    diff <(cat "$out/chain") - <<<"$chain" | sed -n 's/^\([<>]\) declare -[^ ]* /    \1 /p' >&2 || true
    wrong "$out was begun with other options (above, before >): take those, or another folder"
fi
if [ -e "$out/sweep.yaml" ] && ! cmp -s "$sweep" "$out/sweep.yaml"; then
    wrong "$out was begun with another sweep, $out/sweep.yaml: take that, or another folder"
fi
if [ -z "$dry" ]; then
    command -v sbatch >/dev/null || wrong "sbatch is not there: this is not a machine of a Slurm cluster"
    active=$(jobs_at_work)
    if [ -n "$active" ]; then
        say "jobs of $out are queued or at work ($active): nothing is submitted; scancel $(paste -sd' ' "$out/jobs") stops them"
        exit 0
    fi
    mkdir -p "$out/logs"
    [ -e "$out/sweep.yaml" ] || { cp "$sweep" "$out/sweep.yaml.new" && mv "$out/sweep.yaml.new" "$out/sweep.yaml"; }
    [ -e "$out/chain" ] || { echo "$chain" >"$out/chain.new" && mv "$out/chain.new" "$out/chain"; }
    : >"$out/jobs"
    # No job of this folder is left: what its tasks had claimed, and could not release, is free.
    { grep -ls '"slurm_job": "[^"]' "$out"/run/parts/*.claim.* || true; } | tr '\n' '\0' | xargs -0r rm -f
fi

quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }
# left STAGE TASKS RESULT: those of 0 .. TASKS-1 that have not ended, or whose RESULT (a path with TASK in it) is gone, as Slurm
# writes them: 0-3,7
left() {
    local i first='' list=''
    for ((i = 0; i <= $2; i++)); do
        if [ "$i" = "$2" ] || { [ -e "$out/logs/$1-$i.done" ] && [ -e "${3//TASK/$i}" ]; }; then
            [ -z "$first" ] || list+=${list:+,}$first$([ $((i - 1)) = "$first" ] || echo "-$((i - 1))")
            first=''
        else
            first=${first:-$i}
        fi
    done
    echo "$list"
}
ids=() before=''
# submit STAGE ARRAY: behind the job `before`, which then is this one
submit() {
    local stage=$1 array=$2 id log words
    log=${out//%/%%}/logs/$stage${array:+-%a}.log
    words=(sbatch --parsable "--job-name=offramp-$stage" "--chdir=$folder" "--output=$log" --open-mode=append --requeue
        --signal=B:TERM@60 --kill-on-invalid-dep=yes ${array:+"--array=$array"} ${before:+"--dependency=afterok:$before"} "${resources[@]}"
        --wrap "exec ${BUILD:+env BUILD=$(quote "$BUILD") }$(quote "$script") --task $stage $(quote "$out")")
    if [ -n "$dry" ]; then
        printf '%q ' "${words[@]}" && echo
        before=JOB-OF-${stage^^}
        return
    fi
    if ! id=$("${words[@]}"); then
        [ ${#ids[@]} = 0 ] || scancel "${ids[@]}"
        say "sbatch has refused the job of stage $stage: nothing is submitted"
        exit 1
    fi
    before=${id%%;*}
    ids+=("$before")
    echo "$before" >>"$out/jobs"
    printf '%-8s job %s%s\n' "$stage" "$before" "${array:+, tasks $array}"
}

extract_left=$(left extract "$shards" "$out/store/TASK/data.mdb")
train_left=$(left train "$parts" "$out/run/run.json")
[ -z "$pilot" ] || [ -e "$out/codecs" ] || [ -z "$extract_left" ] || submit pilot ''
[ -z "$extract_left" ] || submit extract "$extract_left"
[ -z "$train_left" ] || submit train "$train_left"
if [ -n "$before" ] || [ ! -e "$out/logs/collect.done" ] || [ ! -e "$out/run/leaderboard.tsv" ]; then submit collect ''; fi
[ -z "$dry" ] || exit 0
if [ ${#ids[@]} = 0 ]; then
    say "nothing is left to do: $out/run/report.html, $out/run/policy"
    exit 0
fi
cat <<END

watch   squeue -j $(IFS=, && echo "${ids[*]}")
read    tail -n 5 $(quote "$out")/logs/*.log
cancel  scancel ${ids[*]}

Where a task fails, the jobs behind it are cancelled, and its log says why. The same command again goes on where it stopped. At
the end $out/run has report.html and policy/.
END
