#!/bin/bash
#SBATCH --job-name=resnet50_128
#SBATCH --nodes=32
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=8G
#SBATCH --time=2:00:00
#SBATCH --output=logs/%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
# ResNet-50 on 128 GPU(s), 256 images each. Made by submissions.py from template.sbatch: change that one.
#
#   cd run_results/A100 && DATA=/data/imagenet sbatch --partition=... --account=... gpus_128.sh [OPTION of main.py ...]
#
# Preempted, out of time (--signal) or requeued by hand, it goes on from its checkpoint. `scancel` ends it.
here=${SLURM_SUBMIT_DIR:-$PWD}
slurm=${FFX_SLURM:-$here/../..}
if [ ! -f "$slurm/main.py" ]; then
    echo "gpus_128.sh: there is no $slurm/main.py: submit it from its own folder, or set FFX_SLURM to that of main.py" >&2
    exit 2
fi
if [ -z "${DATA:-}" ]; then
    echo "gpus_128.sh: DATA is not set: the folder with train/ and val/, or with train*.ffcv and val*.ffcv" >&2
    exit 2
fi
source "$slurm/environment.sh"
# Jobs that share a node must not share a port.
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
ended=
# SLURM ends the job: whether it comes again is not for this script to say. But the checkpoint is waited for.
trap 'ended=1' TERM

# srun does not take --cpus-per-task from above.
srun --cpus-per-task=16 python "$slurm/main.py" -a resnet50 -b 32768 --lr 6.4 -j 16 -p 100 \
    --checkpoint-minutes 15 --output-dir "${OUTPUT:-$here/output}/$SLURM_JOB_ID" --resume auto "$@" "$DATA" &
while :; do
    wait $!
    status=$?
    # Behind a trap, `wait` has come back and srun is still there.
    kill -0 $! 2> /dev/null || break
done
# 85: a checkpoint was written because of a signal.
if [ "$status" -eq 85 ] && [ -z "$ended" ]; then
    scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit "$status"
