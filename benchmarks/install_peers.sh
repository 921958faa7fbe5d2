#!/usr/bin/env bash
# Install FFCV beside ffx, for measuring and for the tests that compare with it. FFCV is compiled here:
# on Debian and Ubuntu its system libraries are fetched first (as root); elsewhere install OpenCV's and
# libjpeg-turbo's development files and pkg-config by yourself.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" > /dev/null || { echo "install_peers.sh: no $python: run make setup, or set PYTHON" >&2; exit 2; }

if command -v apt-get > /dev/null; then
    if [ "$(id -u)" = 0 ]; then
        apt-get update
        apt-get install --yes --no-install-recommends g++ pkg-config libopencv-dev libturbojpeg0-dev
    else
        echo "install_peers.sh: not root; expecting g++, pkg-config, libopencv-dev and libturbojpeg0-dev to be there"
    fi
fi
pkg-config --exists opencv4 libturbojpeg || {
    echo "install_peers.sh: pkg-config does not find opencv4 and libturbojpeg: install their development files" >&2
    exit 2
}

# FFCV's build imports NumPy and setuptools from the environment, and would bring in a second OpenCV.
"$python" -m pip install "setuptools>=77" wheel
"$python" -m pip install assertpy psutil pytorch-pfn-extras terminaltables fastargs tqdm
"$python" -m pip install --no-build-isolation --no-deps "ffcv==1.0.2"
"$python" -c 'import ffcv.loader; print("ffcv is installed")'
