#!/usr/bin/env bash
# Submit an array of jobs that write a data set in parts, and one behind them that merges the parts. Prints the last one's number.
set -euo pipefail

usage() {
    cat << 'USAGE'
usage: ./write_dataset.sh SHARDS DATA_DIR WRITE_PATH [OPTION of write_imagenet.py ...]

  ./write_dataset.sh 16 /data/imagenet/train /fast/train.ffcv --cfg.dataset=imagenet --cfg.split=train \
      --cfg.max_resolution=400 --cfg.write_mode=proportion --cfg.compress_probability=0.10

SBATCH_OPTIONS   further options of sbatch for both, such as "--partition=shared --account=lab"
Training can wait for it, and is submitted from its own folder:
  train=$(./write_dataset.sh 16 ... /fast/train.ffcv ...) val=$(./write_dataset.sh 2 ... /fast/val.ffcv ...)
  cd run_results/A100 && DATA=/fast sbatch --dependency="afterok:$train:$val" gpus_008.sh
USAGE
}

case ${1:-} in
    -h | --help)
        usage
        exit 0
        ;;
esac
if [ $# -lt 3 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
    echo "write_dataset.sh: expected SHARDS DATA_DIR WRITE_PATH, found: $*" >&2
    usage >&2
    exit 2
fi
shards=$1
if ! [ -e "$2" ]; then
    echo "write_dataset.sh: DATA_DIR: expected a folder of class folders or an archive, found no $2" >&2
    exit 2
fi
DATA_DIR=$(realpath "$2") WRITE_PATH=$(realpath -m "$3") SHARDS=$shards
export DATA_DIR WRITE_PATH SHARDS
# The parts are named by what stands before and behind its last dot, which must not be that of a folder.
if ! [[ ${WRITE_PATH##*/} =~ ^.+\.[^.]+$ ]]; then
    echo "write_dataset.sh: WRITE_PATH: expected a file's name with its ending, such as train.ffcv, found $WRITE_PATH" >&2
    exit 2
fi
shift 3
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p logs "$(dirname "$WRITE_PATH")"
read -r -a options <<< "${SBATCH_OPTIONS:-}"
array=$(sbatch --parsable ${options[@]+"${options[@]}"} --array="0-$((shards - 1))" write_shards.sbatch "$@")
# Where one part fails, the merging job must not wait for ever.
sbatch --parsable ${options[@]+"${options[@]}"} --dependency="afterok:${array%%;*}" --kill-on-invalid-dep=yes merge_shards.sbatch
