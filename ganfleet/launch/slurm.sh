#!/bin/bash
# ganfleet on Slurm, one task per node, eight cards each:
#
#   sbatch launch/slurm.sh --config stylegan_ffhq1024 run.dir=/shared/runs run.name=ffhq
#
# Change the lines below for your cluster; options of sbatch go before them. The ranks get SIGTERM five minutes before the
# time is up, write a checkpoint and end with 75; then the job queues again and goes on from there. No Slurm was at hand:
# a test runs this script with commands in place of Slurm's.
#SBATCH --job-name=ganfleet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --gres=npu:8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=ganfleet-%j.log

set -u
RANKS=${RANKS:-8} # on each node

case " $* " in
*" run.name="*) ;;
*)
    echo "slurm.sh: give run.name=NAME, or each start is a run of its own" >&2
    exit 2
    ;;
esac

# Slurm may send SIGTERM to this shell too: it has to live until the ranks have ended.
trap : TERM

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# Without --mpi=none, Slurm's variables would make each task a rank of MPI.
srun --mpi=none ganfleet doctor versions device hccl memory limits || exit

# shellcheck disable=SC2016 # the tasks expand these, each for itself
srun --mpi=none --kill-on-bad-exit=0 bash -c '
    ranks=$1 head=$2
    shift 2
    exec ganfleet launch -n "$ranks" --nodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" --master-addr "$head" \
        --max-restarts 3 -- "$@"
' launch "$RANKS" "$head" "$@"
code=$?

if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
