"""Check a configuration with its overlays, and list the runs it resolves to.

python -m lowbit check workflow_config.yaml studies/cifar10.yaml
"""

import argparse
from collections import Counter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, in the order in which they are laid over each other."""
    parser.add_argument("files", nargs="*", default=["workflow_config.yaml"], help="configuration, then overlays")
    parser.add_argument("--specs", action="store_true", help="print every resolved spec as JSON, one per line")


def run(args: argparse.Namespace) -> int:
    """Print a line per study, task and arm."""
    from lowbit.config import load

    config = load(*args.files)
    if args.specs:
        for spec in (*config.pretraining, *config.runs):
            print(spec.model_dump_json())
        return 0
    counts = Counter((run.study, run.task, run.arm) for run in (*config.pretraining, *config.runs))
    for (study, task, arm), seeds in counts.items():
        print(f"{study}/{task}/{arm}: {seeds} seed{'s' if seeds > 1 else ''}")
    print(f"{counts.total()} runs on {config.resolved_device}; results go to {config.results}")
    return 0
