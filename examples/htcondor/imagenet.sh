#!/usr/bin/env bash
# What a job does: fetch and unpack the data, train, clean up, whatever happens. Outside of a job nothing is removed.
#
#   imagenet.sh train DATA [options of imagenet_resnet50.py]
#   imagenet.sh shard PART MAXSIDE SHARE QUALITY
#
# DATA: an archive that HTCondor has brought (its address or its name); an address of an archive, https://..., which is fetched
# here; or a file of ffx or its address, which is read where it lies.
#
# In the environment:
#   CHECKPOINT_MINUTES   so often the training is asked for a checkpoint and the job ends with 85 (0, the default: never);
#                        HTCondor then keeps checkpoints/ and starts the job again where it stands
#   DATA_MD5             MD5 sum of an archive that is fetched here
#   VAL_DATA             what to evaluate on: a file that HTCondor has brought, a file, or the address of one
#   FFX_HOME             where the code is; otherwise ffx.tar.gz is unpacked, and what it needs installed beside it
#   PYTHON               default: python3
set -uo pipefail

CHECKPOINTED=85
here="${_CONDOR_SCRATCH_DIR:-$PWD}"
cd "$here" || exit 1
python="${PYTHON:-python3}"
child=0
ticker=0
command="${1:-}"

# The shell would act on a signal only when the command in front of it has ended: so that runs behind, and gets it at once.
asked=0
signalled=0
pass_on() {
    signal="$1"
    asked=1
    signalled=1
    [ "$child" -ne 0 ] && kill -s "$signal" "$child" 2> /dev/null
}
trap 'pass_on TERM' TERM
trap 'pass_on USR1' USR1

run() {
    [ "$asked" -eq 1 ] && return "$CHECKPOINTED"
    "$@" &
    child=$!
    # It came before there was anybody to pass it on to.
    [ "$asked" -eq 1 ] && kill -s "$signal" "$child"
    signalled=0
    wait "$child"
    status=$?
    # A signal ends `wait` before the command has ended. 127: it had, and its status is known.
    while [ "$signalled" -eq 1 ]; do
        signalled=0
        wait "$child" 2> /dev/null
        again=$?
        [ "$again" -ne 127 ] && status="$again"
    done
    child=0
    # Whatever was not the training has nothing to save; it is done again.
    [ "$asked" -eq 1 ] && [ "$status" -gt 128 ] && status="$CHECKPOINTED"
    return "$status"
}

# Asks this script for a checkpoint after so many minutes.
tick() {
    sleep "$(($1 * 60))" &
    sleeper=$!
    trap 'kill "$sleeper"' TERM
    wait "$sleeper" && kill -s USR1 $$
}

# Whether this folder is a job's own, which goes with the job.
in_job() {
    [ . -ef "${_CONDOR_SCRATCH_DIR:-}" ]
}

clean_up() {
    status=$?
    [ "$ticker" -ne 0 ] && kill "$ticker" 2> /dev/null
    # Elsewhere it is somebody's folder, with files of theirs.
    in_job || exit "$status"
    # A job that stopped at a checkpoint goes on here, or HTCondor removes all of it.
    if [ "$status" -ne "$CHECKPOINTED" ]; then
        rm -rf data checkpoints checkpoints_training_sample code packages cache constraints.txt ffx.tar.gz \
            ./*.tar ./*.zip ./*.part ./*.part.version
    fi
    if [ "$command" = train ]; then
        # HTCondor holds a job that lacks one of its output files, instead of telling how it ended.
        mkdir -p checkpoints
        [ -e imagenet_resnet50.pt ] || : > imagenet_resnet50.pt
    fi
    exit "$status"
}

get_code() {
    if [ -z "${FFX_HOME:-}" ]; then
        export FFX_HOME="$here/code"
        if [ ! -d code ]; then
            mkdir -p code.part && tar -xzf ffx.tar.gz -C code.part || return 1
            mv code.part code
        fi
        export PYTHONUSERBASE="$here/packages"
        export FFX_CACHE_DIR="${FFX_CACHE_DIR:-$here/cache/ffx}"
        if ! "$python" -c "import numba, cv2, fastargs, torch" 2> /dev/null; then
            # The image's torch was built for the image's NumPy.
            "$python" -c "import numpy; print('numpy==' + numpy.__version__)" > constraints.txt &&
                run "$python" -m pip install --quiet --user --constraint constraints.txt "${FFX_HOME}[remote]" || return
        fi
    fi
    export PYTHONPATH="$FFX_HOME${PYTHONPATH:+:$PYTHONPATH}"
    tools="$FFX_HOME/examples/htcondor"
}

# The name of a file that HTCondor has brought; otherwise what was given, which is read where it lies, by ranges.
brought() {
    name="$(basename "${1%%\?*}")"
    [ -f "$name" ] || name="$1"
    printf '%s\n' "$name"
}

# Sets `data` to what the training reads.
get_data() {
    data="$1"
    archive="$(basename "${data%%\?*}")"
    case "${data%%\?*}" in
        *.ffcv | *.beton | *.ffx)
            data="$(brought "$data")"
            return 0
            ;;
        https://* | http://*)
            # Nothing to fetch for a job that goes on in its place.
            if [ ! -d data/train ] && [ ! -e "$archive" ]; then
                run "$python" "$tools/fetch_archive.py" "$data" ${DATA_MD5:+--md5 "$DATA_MD5"} || return
            fi
            ;;
    esac
    data=data/train
    remove=
    in_job && remove=--remove
    [ -d data/train ] || run "$python" "$tools/unpack_archive.py" "$archive" --output data --threads 6 ${remove:+"$remove"}
}

train() {
    mkdir -p checkpoints
    get_data "$1" || return
    shift
    if [ "${CHECKPOINT_MINUTES:-0}" -gt 0 ]; then
        tick "$CHECKPOINT_MINUTES" &
        ticker=$!
    fi
    run "$python" "$tools/imagenet_resnet50.py" --data "$data" ${VAL_DATA:+--val-data "$(brought "$VAL_DATA")"} \
        --cache-dir "$here/cache/data" "$@"
}

shard() {
    run "$python" "$tools/write_shard.py" "$@" || return
    # By the name of the part.
    mv shard-*.ffcv "$(basename "$1" .tar).ffcv"
}

case "$command" in
    train | shard)
        shift
        [ $# -gt 0 ] || { echo "imagenet.sh: $command: expected the data" >&2; exit 2; }
        trap clean_up EXIT
        get_code || exit
        "$command" "$@"
        ;;
    *)
        echo "imagenet.sh: expected train DATA or shard PART, found '$command'" >&2
        exit 2
        ;;
esac
