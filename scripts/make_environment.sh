#!/usr/bin/env bash
# Make a virtual environment in the given folder with the first Python that ffx supports.
# PYTHON names one; otherwise the usual names are tried, those that every dependency has wheels for first.
set -euo pipefail

folder=${1:?usage: make_environment.sh FOLDER}

supported() {
    command -v "$1" > /dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' > /dev/null 2>&1
}

can_make_environments() {
    "$1" -c 'import ensurepip, venv' > /dev/null 2>&1
}

fail() {
    printf 'make: %s\n' "$@" >&2
    exit 1
}

if [ -n "${PYTHON:-}" ]; then
    supported "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.10 to 3.13 ($("$PYTHON" --version 2>&1 || echo 'not found'))"
    candidates=("$PYTHON")
else
    candidates=(python3 python python3.12 python3.11 python3.13 python3.10)
fi

found_without_venv=""
for candidate in "${candidates[@]}"; do
    supported "$candidate" || continue
    if can_make_environments "$candidate"; then
        "$candidate" -m venv "$folder"
        echo "made $folder with $("$folder/bin/python" --version)"
        exit 0
    fi
    found_without_venv=$candidate
done

if [ -n "$found_without_venv" ]; then
    fail "$found_without_venv fits, but cannot make virtual environments: install its venv package" \
        "(Debian, Ubuntu: apt-get install python3-venv) or name another one: make PYTHON=/path/to/python3.12"
fi
fail "no Python 3.10 to 3.13 found ($(python3 --version 2>&1 || echo 'no python3 at all'))" \
    "install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12"
