#!/usr/bin/env bash
# Write the training and the validation file of an ImageNet in PyTorch's layout.
set -euo pipefail
# It would make `cd` print.
unset CDPATH

usage() {
    cat << 'USAGE'
usage: IMAGENET_DIR=FOLDER WRITE_DIR=FOLDER ./write_dataset.sh MAXSIDE PROBABILITY QUALITY [OPTION...]

  MAXSIDE      longest side in pixels; larger images are made smaller (400)
  PROBABILITY  share of the images that are stored as JPEG, from 0 to 1; the others are raw pixels (0.10)
  QUALITY      quality of these JPEGs, from 1 to 100 (90)
  OPTION...    further options for write_imagenet.py, for instance --cfg.subset=1000, or
               --cfg.raw_format=yuv420: raw pixels take half the memory, and FFCV cannot read the file

  IMAGENET_DIR folder with the folders train and val, each with one folder of images for each class
  IMAGENET_TARS
               instead of IMAGENET_DIR: folder with ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar, and valprep.sh or
               ILSVRC2012_devkit_t12.tar.gz; nothing is unpacked, the files are the same
  WRITE_DIR    folder for the result, made if it is not there
  NUM_WORKERS  processes (as many as there are processors)
  PYTHON       interpreter (that of .venv, if `make` made one, else python3)
  WRITE_SHARD, WRITE_SHARDS
               write only part WRITE_SHARD, counted from 0, of so many, to train_400_0.10_90.shard-3-of-16.ffcv and so on;
               of all of them `ffx merge train_400_0.10_90.ffcv train_400_0.10_90.shard-*-of-16.ffcv` makes one file

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

# What follows needs no unpacked pictures: the archives, and one of two tables of the validation pictures' classes.
check_archives() {
    for split in train val; do
        [ -f "$IMAGENET_TARS/ILSVRC2012_img_$split.tar" ] ||
            fail "IMAGENET_TARS=$IMAGENET_TARS has no ILSVRC2012_img_$split.tar"
    done
    if [ -f "$IMAGENET_TARS/valprep.sh" ]; then
        classes=--cfg.valprep_script=$IMAGENET_TARS/valprep.sh
    elif [ -f "$IMAGENET_TARS/ILSVRC2012_devkit_t12.tar.gz" ]; then
        classes=--cfg.devkit=$IMAGENET_TARS/ILSVRC2012_devkit_t12.tar.gz
    else
        fail "IMAGENET_TARS=$IMAGENET_TARS has neither valprep.sh nor ILSVRC2012_devkit_t12.tar.gz"
    fi
}

check_environment() {
    [ -n "${IMAGENET_DIR:-}${IMAGENET_TARS:-}" ] ||
        fail "IMAGENET_DIR is not set: the folder that holds train and val (or IMAGENET_TARS: that of the archives)"
    [ -z "${IMAGENET_DIR:-}" ] || [ -z "${IMAGENET_TARS:-}" ] || fail "IMAGENET_DIR and IMAGENET_TARS are both set"
    [ -n "${WRITE_DIR:-}" ] || fail "WRITE_DIR is not set: the folder for the files to write"
    if [ -n "${IMAGENET_TARS:-}" ]; then
        check_archives
    else
        for split in train val; do
            [ -d "$IMAGENET_DIR/$split" ] || fail "IMAGENET_DIR=$IMAGENET_DIR has no folder $split"
        done
    fi
    if [ -n "${WRITE_SHARD:-}${WRITE_SHARDS:-}" ]; then
        [[ ${WRITE_SHARDS:-} =~ ^[1-9][0-9]*$ ]] || fail "WRITE_SHARDS: expected a number of parts such as 16, found '${WRITE_SHARDS:-}'"
        if ! [[ ${WRITE_SHARD:-} =~ ^(0|[1-9][0-9]*)$ ]] || [ "$WRITE_SHARD" -ge "$WRITE_SHARDS" ]; then
            fail "WRITE_SHARD: expected 0 to $((WRITE_SHARDS - 1)), found '${WRITE_SHARD:-}'"
        fi
    fi
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

for argument in "$@"; do
    case $argument in
        --cfg.shard=* | --cfg.shards=*)
            fail "expected WRITE_SHARD and WRITE_SHARDS in the environment, so that each part has a name of its own; found $argument"
            ;;
    esac
done
part=
if [ -n "${WRITE_SHARD:-}" ]; then
    part=.shard-$WRITE_SHARD-of-$WRITE_SHARDS
    set -- --cfg.shard="$WRITE_SHARD" --cfg.shards="$WRITE_SHARDS" "$@"
fi

for split in train val; do
    file=$WRITE_DIR/${split}_${maxside}_${probability}_${quality}$part.ffcv
    echo "writing $file"
    if [ -n "${IMAGENET_TARS:-}" ]; then
        pictures=(--cfg.data_dir="$IMAGENET_TARS/ILSVRC2012_img_$split.tar")
        [ "$split" = train ] || pictures+=("$classes")
    else
        pictures=(--cfg.data_dir="$IMAGENET_DIR/$split")
    fi
    "$PYTHON" "$here/write_imagenet.py" \
        --cfg.dataset=imagenet \
        --cfg.split="$split" \
        "${pictures[@]}" \
        --cfg.write_path="$file" \
        --cfg.max_resolution="$maxside" \
        --cfg.write_mode=proportion \
        --cfg.compress_probability="$probability" \
        --cfg.jpeg_quality="$quality" \
        --cfg.num_workers="$workers" \
        "$@"
done
