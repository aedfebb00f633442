"""Compare every file under a results folder with the checksums written beside it.

Exit status: 0 when all is as it was written, 1 when a file is missing, altered or unlisted, 2 when nothing was written.
"""

import argparse
import functools
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder to verify."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"), help="results, or any folder in it")


def run(args: argparse.Namespace) -> int:
    """Print one line per fault and a total."""
    from tqdm import tqdm

    from lowbit import manifest

    bar = functools.partial(tqdm, desc="verify", unit=" folders", disable=None, leave=False)
    report = manifest.verify(args.folder, progress=bar)
    if report.folders == 0:
        print(f"{args.folder}: no {manifest.NAME} below this folder; run snakemake first", file=sys.stderr)
        return 2
    for fault in report.faults:
        print(f"{fault.kind:10} {fault.path}" + (f": {fault.detail}" if fault.detail else ""))
    print(f"files {report.files}, manifests {report.folders}, faults {len(report.faults)}")
    if report.faults:
        print("To make the faulty folders anew: snakemake --forcerun", *report.faulty)
    return int(bool(report.faults))
