#!/bin/sh
# State of a Slurm job for Snakemake: prints success, running or failed.

job="${1%%;*}" # sbatch --parsable adds ;CLUSTER when there are several

# The controller knows a job for some minutes after its end (MinJobAge), the accounting database for good.
answer=$(scontrol --oneliner show job "$job" 2>&1)
state=$(printf '%s\n' "$answer" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p')
if [ -z "$state" ]; then
    state=$(sacct --noheader --parsable2 --allocations --format=State --jobs="$job" 2>/dev/null | sed -n '1s/[ +].*//;1p')
fi

case "${state:-$answer}" in
COMPLETED)
    echo success
    ;;
BOOT_FAIL | CANCELLED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | REVOKED | TIMEOUT)
    echo failed
    ;;
*"Invalid job id"*)
    # Forgotten by both: what it wrote cannot be told from what it left unfinished.
    echo failed
    ;;
*)
    # Pending, running, completing or requeued; and a controller that does not answer is no reason to submit again.
    echo running
    ;;
esac
