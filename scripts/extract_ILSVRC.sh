#!/usr/bin/env bash
# The script itself is writer/extract_ILSVRC.sh; this name is where some look for it.
exec "$(dirname "${BASH_SOURCE[0]}")/../writer/extract_ILSVRC.sh" "$@"
