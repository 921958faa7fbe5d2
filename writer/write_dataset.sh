#!/usr/bin/env bash
# Write the training and the validation file of an ImageNet in PyTorch's layout.
set -euo pipefail

usage() {
    cat << 'USAGE'
usage: IMAGENET_DIR=FOLDER WRITE_DIR=FOLDER ./write_dataset.sh MAXSIDE PROBABILITY QUALITY [OPTION...]

  MAXSIDE      longest side in pixels; larger images are made smaller (400)
  PROBABILITY  share of the images that are stored as JPEG, from 0 to 1; the others are raw pixels (0.10)
  QUALITY      quality of these JPEGs, from 1 to 100 (90)
  OPTION...    further options for write_imagenet.py, for instance --cfg.subset=1000, or
               --cfg.raw_format=yuv420: raw pixels take half the memory, and FFCV cannot read the file

  IMAGENET_DIR folder with the folders train and val, each with one folder of images for each class
  WRITE_DIR    folder for the result, made if it is not there
  NUM_WORKERS  processes (as many as there are processors)
  PYTHON       interpreter (that of .venv, if `make` made one, else python3)

  ./write_dataset.sh 400 0.10 90   writes  $WRITE_DIR/train_400_0.10_90.ffcv
                                   and     $WRITE_DIR/val_400_0.10_90.ffcv

Which parameters?
  more than 500 GB of memory, more than 46 cores    400 0.10 90    little to decode
  300 to 500 GB of memory, more than 24 cores       350 0.10 90    smaller images
  less memory than the raw images take              500 0.5  90    half of them JPEG
  little memory, a network or slow disk             500 1.0  90    all JPEG: smallest file, most work to load
The file should fit into memory, and loading should be fast enough for the GPU: writer/README.md says more.
USAGE
}

fail() {
    printf 'write_dataset.sh: %s\n' "$@" >&2
    echo "write_dataset.sh: --help shows how it is used" >&2
    exit 2
}

check_arguments() {
    [ $# -ge 3 ] || fail "expected MAXSIDE PROBABILITY QUALITY, found $# argument(s): $*"
    [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "MAXSIDE: expected a number of pixels such as 400, found '$1'"
    [[ $2 =~ ^(0(\.[0-9]*)?|\.[0-9]+|1(\.0*)?)$ ]] || fail "PROBABILITY: expected 0 to 1, such as 0.10, found '$2'"
    [[ $3 =~ ^([1-9][0-9]?|100)$ ]] || fail "QUALITY: expected 1 to 100, such as 90, found '$3'"
}

check_environment() {
    [ -n "${IMAGENET_DIR:-}" ] || fail "IMAGENET_DIR is not set: the folder that holds train and val"
    [ -n "${WRITE_DIR:-}" ] || fail "WRITE_DIR is not set: the folder for the files to write"
    local split
    for split in train val; do
        [ -d "$IMAGENET_DIR/$split" ] || fail "IMAGENET_DIR=$IMAGENET_DIR has no folder $split"
    done
    mkdir -p "$WRITE_DIR" || fail "WRITE_DIR=$WRITE_DIR cannot be made"
}

for argument in "$@"; do
    case $argument in
        -h | --help)
            usage
            exit 0
            ;;
    esac
done
check_arguments "$@"
check_environment

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(dirname "$here")
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ ! -x "$root/.venv/bin/python" ] || PYTHON=$root/.venv/bin/python
fi
command -v "$PYTHON" > /dev/null || fail "no Python interpreter '$PYTHON': install it, or set PYTHON"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

maxside=$1 probability=$2 quality=$3
shift 3
workers=${NUM_WORKERS:-$(nproc 2> /dev/null || getconf _NPROCESSORS_ONLN)}

for split in train val; do
    file=$WRITE_DIR/${split}_${maxside}_${probability}_${quality}.ffcv
    echo "writing $file"
    "$PYTHON" "$here/write_imagenet.py" \
        --cfg.dataset=imagenet \
        --cfg.split="$split" \
        --cfg.data_dir="$IMAGENET_DIR/$split" \
        --cfg.write_path="$file" \
        --cfg.max_resolution="$maxside" \
        --cfg.write_mode=proportion \
        --cfg.compress_probability="$probability" \
        --cfg.jpeg_quality="$quality" \
        --cfg.num_workers="$workers" \
        "$@"
done
