"""Remove a Snakemake lock whose owner has died.

Exit status: 0 when nothing is locked any more, 1 when a living Snakemake holds the lock.
"""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder to unlock."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="where snakemake runs (default: here)")


def run(args: argparse.Namespace) -> int:
    """Remove a stale lock, and say what was done."""
    from lowbit.processes import LockHeld, remove_stale_lock

    try:
        removed = remove_stale_lock(args.folder)
    except LockHeld as error:
        print(error, file=sys.stderr)
        return 1
    print("Removed the lock of a Snakemake that was killed." if removed else "No Snakemake lock here.")
    return 0
