"""Write the JSON schemas of workflow_config.yaml and of overlays, which editors use for completion and checks."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to write."""
    parser.add_argument("--folder", type=Path, default=Path("schemas"), help="folder of the schemas (default: schemas)")


def run(args: argparse.Namespace) -> int:
    """Generate the schemas from the configuration models."""
    from lowbit.atomic import write_text
    from lowbit.config import json_schemas

    for name, text in json_schemas().items():
        write_text(args.folder / name, text)
        print(args.folder / name)
    return 0
