#!/usr/bin/env bash
# The script itself is writer/write_dataset.sh; this name is where FFCV's users look for it.
exec "$(dirname "${BASH_SOURCE[0]}")/writer/write_dataset.sh" "$@"
