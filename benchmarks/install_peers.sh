#!/usr/bin/env bash
# Install the systems that ffx is measured beside, into ffx's environment: FFCV (also for the tests that compare with
# it), NVIDIA DALI and SPDL. Without arguments all of them; `install_peers.sh ffcv` installs one.
#
# A peer that cannot be installed is named, and the others go on; the benchmarks leave out what is not there.
# FFCV is compiled here, and SPDL looks for FFmpeg's libraries: on Debian and Ubuntu the system's packages are fetched
# first (as root); elsewhere install OpenCV's and libjpeg-turbo's development files, pkg-config and FFmpeg by yourself.
#
#   PYTHON=…    the environment's interpreter (default: .venv/bin/python)
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" > /dev/null || { echo "install_peers.sh: no $python: run make setup, or set PYTHON" >&2; exit 2; }

system_packages() {
    command -v apt-get > /dev/null || return 0
    if [ "$(id -u)" = 0 ]; then
        apt-get update && apt-get install --yes --no-install-recommends "$@"
    else
        echo "install_peers.sh: not root; expecting $* to be there"
    fi
}

install_ffcv() {
    system_packages g++ pkg-config libopencv-dev libturbojpeg0-dev || return
    pkg-config --exists opencv4 libturbojpeg || {
        echo "install_peers.sh: pkg-config does not find opencv4 and libturbojpeg: install their development files" >&2
        return 1
    }
    # FFCV's build imports NumPy and setuptools from the environment, and would bring in a second OpenCV.
    "$python" -m pip install "setuptools>=77" wheel &&
        "$python" -m pip install assertpy psutil pytorch-pfn-extras terminaltables fastargs tqdm &&
        "$python" -m pip install --no-build-isolation --no-deps "ffcv==1.0.2" &&
        "$python" -c 'import ffcv.loader'
}

install_dali() {
    # Its wheels are made for a major version of CUDA, which should be torch's; without a GPU any decodes on the CPU.
    local major
    major=$("$python" -c 'import torch; print((torch.version.cuda or "12").split(".")[0])') || return
    "$python" -m pip install "nvidia-dali-cuda${major}0" && "$python" -c 'import nvidia.dali'
}

install_spdl() {
    system_packages ffmpeg || return
    "$python" -m pip install spdl && "$python" -c 'import spdl.io; spdl.io.demux_config; spdl.io.ImagePackets'
}

failed=()
for peer in "${@:-all}"; do
    case $peer in
        all) chosen=(ffcv dali spdl) ;;
        ffcv | dali | spdl) chosen=("$peer") ;;
        *) echo "install_peers.sh: unknown peer $peer: ffcv, dali or spdl" >&2; exit 2 ;;
    esac
    for name in "${chosen[@]}"; do
        if "install_$name"; then
            echo "install_peers.sh: $name is installed"
        else
            echo "install_peers.sh: $name could not be installed; the benchmarks will leave it out" >&2
            failed+=("$name")
        fi
    done
done
[ ${#failed[@]} = 0 ]
