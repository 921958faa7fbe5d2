#!/usr/bin/env bash
# Unpack ILSVRC2012's archives the plain way, one tar after the other: slow, for comparison with extract_ILSVRC_mp.py.
set -euo pipefail
# It would lead `cd` elsewhere, and make it print.
unset CDPATH

usage() {
    cat << 'USAGE'
usage: extract_ILSVRC.sh [ARCHIVES [OUTPUT]]

  ARCHIVES   folder with ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and valprep.sh (the current folder)
  OUTPUT     folder for train/ and val/ (the same as ARCHIVES)

valprep.sh is run, 50,000 times mv; it is your own, so look into it first. Needs room for everything twice over at its worst
moment. It cannot go on where it was ended: remove train/ and val/ and begin anew. extract_ILSVRC_mp.py can, and is faster.
USAGE
}

fail() {
    printf 'extract_ILSVRC.sh: %s\n' "$@" >&2
    exit 2
}

case ${1:-} in
    -h | --help)
        usage
        exit 0
        ;;
esac
[ $# -le 2 ] || fail "expected at most ARCHIVES and OUTPUT, found $# arguments"

archives=$(cd -- "${1:-.}" && pwd -P) || fail "there is no folder $1"
for name in ILSVRC2012_img_train.tar ILSVRC2012_img_val.tar valprep.sh; do
    [ -f "$archives/$name" ] || fail "$archives has no $name"
done
mkdir -p -- "${2:-$archives}"
output=$(cd -- "${2:-$archives}" && pwd -P)
for split in train val; do
    [ ! -e "$output/$split" ] || fail "$output/$split is there already: remove it, or name another folder"
done

mkdir "$output/train"
cd "$output/train"
tar -xf "$archives/ILSVRC2012_img_train.tar"
for class in *.tar; do
    mkdir "${class%.tar}"
    tar -xf "$class" -C "${class%.tar}"
    rm "$class"
done

mkdir "$output/val"
cd "$output/val"
tar -xf "$archives/ILSVRC2012_img_val.tar"
bash "$archives/valprep.sh"
