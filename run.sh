#!/bin/sh
# Train, or whatever main.py is asked to do:
#     sh run.sh                                       the default job, configs/sample_joint.yaml
#     sh run.sh --epochs 3 --use_fgm true             the default job with other values
#     sh run.sh --config configs/my_job.yaml          another job
#     NOHUP=1 sh run.sh                               in the background, with a log file in logs/
# NGPU      number of processes on this machine (default: one per visible GPU, one if there is none)
# PYTHON    the interpreter (default: .venv, else the active one; see setup_env.sh)
# NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT         several machines: the same command on each, NODE_RANK counts from 0
# NNODES=1:4, MASTER_ADDR, MASTER_PORT, RDZV_ID       as many machines as are there; they may leave and come back
# MAX_RESTARTS    how often all processes start again from the last state when one was killed (default 3; not if alone)
# DIST_TIMEOUT    seconds after which a process no longer waits for another (default 1800)
# More on several GPUs and machines, and on what happens when one fails: docs/multi_gpu.md
# Relative paths in the arguments are relative to this folder, whatever folder you call from.

CDPATH='' cd -- "$(dirname -- "$0")" || exit 1
. ./setup_env.sh

# The default config comes first, so that the given values win over it.
default_config=yes
only_asks=
for argument; do
    case $argument in
    --config | --config=*) default_config= ;;
    -h | --help | --show_all_args | --show_all_args=*) only_asks=yes ;;
    esac
done
if [ -n "$default_config" ] && [ -z "$only_asks" ]; then
    set -- --config configs/sample_joint.yaml "$@"
fi

count_gpus() {
    if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then # like CUDA: the list ends at the first -1
        printf '%s\n' "$CUDA_VISIBLE_DEVICES" | tr , '\n' | sed '/^ *-/,$d' | grep -c '[^ ]'
    else
        nvidia-smi -L 2>/dev/null | grep -c '^GPU '
    fi
}
processes=${NGPU:-$(count_gpus)}
case $processes in
*[!0-9]*) die 2 "NGPU=$NGPU: must be a number of processes" ;;
esac

elastic=
case ${NNODES:-1} in
[0-9]*:*[0-9]) elastic=yes ;;
*[!0-9]*) die 2 "NNODES=$NNODES: must be a number of machines, or a range like 1:4" ;;
esac

torchrun=
if [ -n "$only_asks" ]; then # answered once, and here
    NOHUP=
elif [ -n "$elastic" ]; then
    [ -n "${MASTER_ADDR:-}" ] || die 2 "NNODES=$NNODES needs MASTER_ADDR too"
    endpoint=$MASTER_ADDR:${MASTER_PORT:-29500}
    torchrun="--nnodes=$NNODES --rdzv_backend=c10d --rdzv_endpoint=$endpoint --rdzv_id=${RDZV_ID:-${SLURM_JOB_ID:-run}}"
elif [ "${NNODES:-1}" -gt 1 ]; then
    [ -n "${NODE_RANK:-}" ] && [ -n "${MASTER_ADDR:-}" ] || die 2 "NNODES=$NNODES needs NODE_RANK and MASTER_ADDR too"
    torchrun="--nnodes=$NNODES --node_rank=$NODE_RANK --master_addr=$MASTER_ADDR --master_port=${MASTER_PORT:-29500}"
elif [ "$processes" -gt 1 ]; then
    torchrun=--standalone
fi

if [ -n "$torchrun" ]; then
    [ "$processes" -gt 0 ] || processes=1
    torchrun="$torchrun --max_restarts=${MAX_RESTARTS:-3}"
    set -- -m trainer.launch $torchrun --nproc_per_node="$processes" -- main.py "$@"
    # The processes share the cores. Without this torchrun gives each a single thread, which is slow on a CPU.
    cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    threads=$((cores / processes))
    [ "$threads" -gt 0 ] || threads=1
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}"
    # Stopped by a signal, torchrun kills the processes after 30 s; a last/ that is being written may take longer.
    export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}"
else
    set -- main.py "$@"
fi
set -- "$PYTHON" "$@"

if [ -z "${NOHUP:-}" ] || [ "$NOHUP" = 0 ]; then
    exec "$@"
fi

mkdir -p logs
log=logs/run-$(date +%Y%m%d-%H%M%S)-$$.log
# setsid because torchrun listens to SIGHUP again although nohup told it not to: it would die with your ssh session.
if command -v setsid >/dev/null 2>&1; then
    set -- setsid "$@"
fi
nohup "$@" >"$log" 2>&1 </dev/null &
echo "started: pid $!, log $log"
echo "follow:  tail -f $PWD/$log"
echo "stop:    kill $!        (the same command then goes on from the last saved state)"
