#!/usr/bin/env bash
# Everything that a machine with a GPU is wanted for, in steps of under ten minutes each:
#
#   benchmarks/on_gpu.sh --list       the steps, and which are done
#   benchmarks/on_gpu.sh              the steps that are not done yet, as many as fit into the time limit; call it again
#   benchmarks/on_gpu.sh STEP...      these steps, done or not
#   benchmarks/on_gpu.sh --forget     no step is done any more
#
#   IMAGES=FOLDER       pictures to measure with (needed by all steps but `tests`)
#   PYTHON=python3      the interpreter, with torch, ffx's dependencies and (for `tests`) pytest; no network is needed
#   STATE=runs/on_gpu   what is kept from call to call: finished steps, rows, files that were written to be read
#   OUT=FOLDER          rows and the steps' output are copied to it after each step
#   LIMIT_SECONDS=570   a call starts no step that would not fit, and ends one that takes longer
#   BENCHMARKS_COMMIT   the commit, for rows of a copy without its history
#
# Exit status: 0 all that was asked for is done; 1 a step failed; 2 wrong use; 3 steps are left for the next call;
# 4 something is missing, which is said.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

python=${PYTHON:-python3}
state=${STATE:-runs/on_gpu}
limit=${LIMIT_SECONDS:-570}
images=${IMAGES:-}
rows=$state/results
finished=$state/finished
SKIPPED=77

# Name, seconds that it takes at most on a current GPU with 16 cores, arguments of `python -m`.
steps() {
    local common="--images $images --cache $state/cache --limit 500"
    local training="$common --samples 16000 --epochs 1"
    echo "tests 400 pytest -m gpu -q -p no:cacheprovider"
    echo "scaling 400 benchmarks scaling $common --samples 6000 --rounds 5 --out $rows/scaling.jsonl"
    local network size
    for network in resnet18 resnet50; do
        for size in 160 192 224; do
            echo "feeding-$network-$size 350 benchmarks feeding $training --networks $network --sizes $size" \
                "--out $rows/feeding.jsonl"
        done
    done
    for network in resnet18 resnet50; do
        echo "timetable-$network 450 benchmarks timetable $training --networks $network --out $rows/timetable.jsonl"
        echo "timetable-$network-bf16 450 benchmarks timetable $training --networks $network --precision bf16" \
            "--out $rows/timetable.jsonl"
        echo "timetable-$network-compiled 560 benchmarks timetable $training --networks $network --compile" \
            "--out $rows/timetable.jsonl"
    done
    local file="--images $images --cache $state/cache --limit 500"
    echo "device_crop 300 benchmarks device_crop $file --rounds 5 --out $rows/device_crop.jsonl"
    echo "trace 200 benchmarks trace $file --ways host streamed resident --out $rows/trace"
    local peers="ffx ffx-to-gpu ffcv dali-cpu dali-gpu"
    echo "loader-1 500 benchmarks loader $common --kinds jpg500 --sizes 224 --peers $peers --rounds 5" \
        "--reference dali-gpu --out $rows/loader.jsonl"
    echo "loader-all 400 benchmarks loader $common --kinds jpg500 --sizes 224 --peers $peers --rounds 5" \
        "--reference dali-gpu --samples 48000 --batch-size 512 --workers $(cores) --out $rows/loader.jsonl"
}

cores() { nproc 2> /dev/null || echo 1; }

names() { steps | cut -d' ' -f1; }

is_finished() { [ -f "$finished" ] && grep -qxF -- "$1" "$finished"; }

missing() { # step name -> what it lacks, in words
    if [ "$1" = tests ]; then
        "$python" -c 'import pytest' 2> /dev/null || { echo "pytest is not installed"; return; }
    elif [ -z "$images" ]; then
        echo "IMAGES names no folder with pictures"; return
    elif [ ! -d "$images" ]; then
        echo "IMAGES=$images is no folder"; return
    fi
    case $1 in scaling) return ;; esac
    [ -n "$no_gpu" ] && echo "$no_gpu"
}

copy_results() {
    [ -n "${OUT:-}" ] || return 0
    mkdir -p "$OUT" && cp -r "$rows" "$state/output" "$finished" "$OUT"/ 2> /dev/null
    return 0
}

run_step() { # name, seconds, arguments of python -m
    local name=$1 seconds=$2
    shift 2
    local left=$((limit - SECONDS)) status=0
    # For `timeout`, 0 is no limit.
    [ "$left" -ge 1 ] || left=1
    echo "== $name: python -m $*"
    mkdir -p "$rows" "$state/output"
    timeout --kill-after=15 "$left" "$python" -m "$@" > "$state/output/$name.txt" 2>&1 || status=$?
    tail -n 40 "$state/output/$name.txt"
    case $status in
        0) is_finished "$name" || echo "$name" >> "$finished" ;;
        "$SKIPPED") echo "== $name: left out, as said above" ;;
        124 | 137) echo "== $name: ended after $left seconds, the time left in this call" ;;
        *) echo "== $name: failed with status $status" ;;
    esac
    copy_results
    return "$status"
}

main() {
    case ${1:-} in
        --list)
            names | while read -r name; do is_finished "$name" && echo "$name (done)" || echo "$name"; done
            return 0 ;;
        --forget) rm -f "$finished"; return 0 ;;
        -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; return 0 ;;
        -*) echo "on_gpu.sh: unknown option $1 (--list, --forget, --help)" >&2; return 2 ;;
    esac
    command -v "$python" > /dev/null || { echo "on_gpu.sh: no $python: set PYTHON" >&2; return 4; }
    local name
    for name in "$@"; do
        names | grep -qxF -- "$name" || { echo "on_gpu.sh: no step $name; there are: $(names | xargs)" >&2; return 2; }
    done
    mkdir -p "$state"
    local ask='import torch; print("" if torch.cuda.is_available() else "torch sees no CUDA device")'
    no_gpu=$("$python" -c "$ask" 2> /dev/null) || no_gpu="torch cannot be imported by $python"
    run_all "$@"
}

run_all() { # the named steps, or all that are not finished
    local wanted=" $* " failed=0 lacking=0 started=0 name seconds arguments why
    while read -r name seconds arguments; do
        if [ $# -gt 0 ]; then
            [[ $wanted == *" $name "* ]] || continue
        elif is_finished "$name"; then
            echo "== $name: done before"
            continue
        fi
        why=$(missing "$name")
        if [ -n "$why" ]; then
            echo "== $name: left out: $why"
            lacking=1
            continue
        fi
        # The first step of a call always starts: otherwise a short limit would never get anywhere.
        if [ "$started" -gt 0 ] && [ $((SECONDS + seconds)) -gt "$limit" ]; then
            echo "== $name and what follows: no time left in this call, call again"
            return 3
        fi
        started=$((started + 1))
        # Paths with spaces would need an array; the arguments are this script's own, the folders the caller's.
        # shellcheck disable=SC2086
        run_step "$name" "$seconds" $arguments < /dev/null || {
            [ $? -eq "$SKIPPED" ] && lacking=1 || failed=1
        }
    done < <(steps)
    [ "$failed" = 0 ] || return 1
    [ "$lacking" = 0 ] || return 4
    return 0
}

no_gpu=""
main "$@"
