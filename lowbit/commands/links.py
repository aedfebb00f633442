"""Measure exchanges and training over links of a known rate, for the network study.

  python -m lowbit links --spec '{"links": {"fitted": ["100mbit", "10gbit"]}}' --folder results/by_hand

A table by hand: `python -m lowbit netbench`.
"""

import argparse
import platform
import shutil
from contextlib import ExitStack
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and where it goes."""
    parser.add_argument("--spec", required=True, metavar="FILE|JSON", help="of the run")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the run")


def run(args: argparse.Namespace) -> int:
    """Measure the links that are not kept from an interrupted run, and write the run folder.

    Raises:
        UserError: for links that this kernel cannot make, or when a rank is lost.
    """
    import os

    import torch

    from lowbit import manifest
    from lowbit.atomic import replacing
    from lowbit.commands._flags import spec_of
    from lowbit.commands._progress import progress
    from lowbit.commands.benchmark import header
    from lowbit.distributed import links
    from lowbit.network_spec import NetworkSpec
    from lowbit.pieces import measured, publish
    from lowbit.train.machine import processor

    spec = spec_of(NetworkSpec, args.spec)
    why = links.why_loopback(spec)
    print(header(spec.threads))
    if why:
        print(f"loopback only: {why}")
    hardware = {"processor": processor(), "cores": os.cpu_count(), "threads": spec.threads}
    identity = {"spec": spec.to_json(), "code": spec.code_digest, "hardware": hardware, "loopback": bool(why)}
    scratch = args.folder / manifest.SCRATCH
    with ExitStack() as stack:
        asked = links.pieces(spec, why, scratch, stack)
        records = measured(asked, args.folder, identity, lambda items: progress(items, "links", "part"))
    summary = {
        "device": spec.device,
        "machine": hardware,
        "why_loopback": why,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "records": len(records),
    }
    for name in links.TRACES.values():
        with replacing(args.folder / name) as temporary:  # not moved: a run that is killed here starts again from it
            shutil.copyfile(scratch / name, temporary)
    publish(args.folder, records, spec.to_json(), summary)
    print(f"{args.folder}: {len(records)} measurements on {', '.join(asked)}")
    return 0
