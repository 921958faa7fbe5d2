#!/usr/bin/env bash
# Twelve ways to train with run.py:
#
#   bash examples.sh                                   lists them
#   bash examples.sh 2                                 runs the second, on ./imagenet
#   bash examples.sh 2 -- --data-path /fast/imagenet   options behind -- are added to each command of the example
#
#   PYTHON=python3 GPUS=2   the interpreter; processes of the examples for several GPUs, instead of those named below
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python}

descriptions=(
    "Single GPU, basic: fp16, MultiStepLR, batch 256"
    "Single GPU, recommended: progressive resizing and OneCycle"
    "2 GPUs: like 1, DDP"
    "4 GPUs: DDP, progressive resizing and OneCycle"
    "4 GPUs, bf16 (A100, H100): DDP"
    "Progressive resizing with a schedule of one's own"
    "AdamW instead of SGD"
    "Schedulers compared: MultiStepLR, CosineAnnealingLR, OneCycleLR"
    "Precisions compared: fp32, fp16, bf16"
    "Debugging: 5 epochs, batch 32"
    "Production: all optimizations on 4 GPUs, checkpoints every ten minutes, goes on after a break"
    "Monitoring: the GPU's state every five seconds, the loss beside the bar"
)

usage() {
    echo "usage: bash examples.sh NUMBER [-- options of run.py]"
    for index in "${!descriptions[@]}"; do
        printf '  %2d  %s\n' $((index + 1)) "${descriptions[$index]}"
    done
}

# Shows a command and runs it.
show() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

run() {
    show "$python" "$here/run.py" "$@" "${more[@]}"
}

# The first argument is the number of GPUs.
run_on_gpus() {
    local gpus=${GPUS:-$1}
    shift
    show "$python" -m torch.distributed.run --standalone --nproc_per_node="$gpus" \
        "$here/run.py" --distributed "$@" "${more[@]}"
}

example_1() {
    run --epochs 90 --batch-size 256 --amp fp16 --scheduler multistep
}

example_2() {
    run --epochs 90 --progressive-resize --scheduler onecycle
}

example_3() {
    run_on_gpus 2 --epochs 90 --batch-size 256 --amp fp16 --scheduler multistep
}

example_4() {
    run_on_gpus 4 --epochs 90 --progressive-resize --scheduler onecycle
}

example_5() {
    run_on_gpus 4 --epochs 90 --amp bf16
}

example_6() {
    run --epochs 18 --scheduler onecycle --progressive-schedule "0,96,2048;4,128,1024;8,160,512;12,224,256"
}

example_7() {
    run --epochs 90 --optimizer adamw --lr 0.001 --weight-decay 0.05 --scheduler cosine --no-bn-weight-decay
}

example_8() {
    local scheduler
    for scheduler in multistep cosine onecycle; do
        run --epochs 90 --scheduler "$scheduler" --checkpoint-dir "checkpoints/$scheduler" --log-dir "logs/$scheduler"
    done
}

example_9() {
    local amp
    for amp in off fp16 bf16; do
        run --epochs 90 --amp "$amp" --checkpoint-dir "checkpoints/$amp" --log-dir "logs/$amp"
    done
}

example_10() {
    run --epochs 5 --batch-size 32
}

example_11() {
    run_on_gpus 4 --epochs 90 --amp bf16 --progressive-resize --scheduler onecycle --no-bn-weight-decay \
        --channels-last --checkpoint-dir checkpoints/production --log-dir logs/production \
        --checkpoint-minutes 10 --resume auto
}

example_12() {
    run --epochs 90 --progressive-resize --scheduler onecycle --telemetry 5 --set logging.log_level=2
}

if (($# == 0)); then
    usage
    exit 0
fi
number=$1
shift
if ! [[ $number =~ ^([1-9]|1[0-2])$ ]]; then
    echo "examples.sh: expected a number from 1 to 12, found '$number'" >&2
    usage >&2
    exit 2
fi
if (($# > 0)) && [[ $1 != -- ]]; then
    echo "examples.sh: options of run.py stand behind --, found '$1'" >&2
    exit 2
fi
more=("${@:2}")
"example_$number"
