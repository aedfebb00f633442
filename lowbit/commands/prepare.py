"""Prepare a dataset: read its source, and write a folder of arrays with a manifest.

Example: python -m lowbit prepare --dataset tiny --settings '{"name": "npz", "file": "tiny.npz"}' --data-root ~/data
"""

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is prepared and where it goes."""
    parser.add_argument("--dataset", required=True, metavar="NAME", help="what the prepared dataset is called")
    parser.add_argument("--settings", metavar="JSON", help='variant and its settings (default: {"name": NAME})')
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder with your own raw data")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="folder to write (default: results/data/NAME)")


def run(args: argparse.Namespace) -> int:
    """Prepare, and print what came out.

    Raises:
        UserError: when the settings are wrong, or the source is missing or damaged.
    """
    folder = args.folder or Path("results/data") / args.dataset
    manifest = _dataset(args).prepare(folder, args.data_root)
    print(f"{args.dataset}: {folder}")
    for line in _description(manifest):
        print(f"  {line}")
    return 0


def _dataset(args: argparse.Namespace):
    from pydantic import ValidationError

    from lowbit import catalog
    from lowbit.config_errors import explain
    from lowbit.errors import UserError

    try:
        settings = json.loads(args.settings) if args.settings else {"name": args.dataset}
    except ValueError as error:
        raise UserError(f"--settings: not JSON ({error}): {args.settings}") from None
    if not isinstance(settings, dict) or settings.get("name") not in catalog.available("data"):
        name = settings.get("name") if isinstance(settings, dict) else settings
        raise UserError(f"--settings: name: {name!r} {catalog.suggestion(name, catalog.available('data'))}")
    model = catalog.settings_model("data", settings["name"])
    try:
        return catalog.build("data", model.model_validate(settings))
    except ValidationError as error:
        raise UserError(explain(error, settings, model, "--settings")) from None


def _description(manifest: dict[str, Any]) -> list[str]:
    """The manifest for readers: a line per split and a line per other entry that is short."""
    lines = [f"source      {manifest['source']}"]
    for split, arrays in manifest["splits"].items():
        shapes = (f"{name} {'x'.join(map(str, a['shape']))} {a['dtype']}" for name, a in arrays.items())
        lines.append(f"{split:<11} {', '.join(shapes)}")
    if manifest["kind"] == "images":
        mean, std = (" ".join(f"{x:.4f}" for x in manifest[key]) for key in ("mean", "std"))
        lines += [f"classes     {len(manifest['classes'])}", f"mean, std   {mean}, {std}"]
    else:
        counts = ", ".join(f"{split} {n}" for split, n in manifest["documents"].items())
        lines += [f"documents   {counts}", f"tokens      {manifest['tokenizer']}, vocabulary {manifest['vocabulary']}"]
    return lines + [f"ignored     {what}" for what in manifest.get("ignored", [])]
