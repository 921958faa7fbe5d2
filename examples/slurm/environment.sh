# shellcheck shell=bash
# Sourced by the jobs: what makes `python` the one with torch. Where there are no modules or no conda, PATH says which it is.
# Others than the Kempner cluster's: change the names here, in one place.
if type module > /dev/null 2>&1; then
    module load python/3.12.8-fasrc01
    module load cuda/12.4.1-fasrc01
    module load cudnn/9.5.1.17_cuda12-fasrc01
fi
if type conda > /dev/null 2>&1; then
    eval "$(conda shell.posix hook)"
    conda activate "${CONDA_ENVIRONMENT:-resnet_pytorch_env}" || exit 1
fi
