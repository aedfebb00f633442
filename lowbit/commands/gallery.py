"""Tabulate every surrogate: its derivative, the function that it is the derivative of, and its mass.

example:
  python -m lowbit gallery --output surrogates.csv

One row per surrogate, setting and u in [-3, 3]; `default` is the surrogate without any setting, what is set is named as
in a configuration.
"""

import argparse
from pathlib import Path

NAMED = {
    "window": ({"width": 0.5}, {"width": 2.0}, {"width": 0.5, "normalized": True}, {"width": 2.0, "normalized": True}),
    "swish_sign": ({"b": 2.0}, {"b": 10.0}),
    "ede": ({"progress": 0.5}, {"progress": 1.0}),
    "dsq": ({"progress": 0.5}, {"progress": 1.0}),
    "reste": ({"progress": 0.5}, {"progress": 1.0}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to write."""
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="CSV file to write")


def run(args: argparse.Namespace) -> int:
    """Evaluate every surrogate, with its defaults and with the settings named above, on one grid."""
    import pandas as pd
    import torch

    from lowbit import catalog
    from lowbit.analysis import tables

    u = torch.arange(-300, 301, dtype=torch.float64) / 100
    pieces = []
    for name in catalog.available("surrogates"):
        for settings in ({}, *NAMED.get(name, ())):
            surrogate = catalog.build("surrogates", {"name": name, **settings})
            columns = {
                "surrogate": name,
                "setting": ", ".join(f"{key}={value}" for key, value in settings.items()) or "default",
                "u": u.numpy(),
                "surrogate_gradient": surrogate.surrogate_gradient(u).numpy(),
                "antiderivative": surrogate.antiderivative(u).numpy(),
                "mass": surrogate.mass,
            }
            pieces.append(pd.DataFrame(columns))
    table = pd.concat(pieces, ignore_index=True)
    tables.write(args.output, table)
    print(f"{args.output}: {len(table)} rows, {len(pieces)} surrogates and settings")
    return 0
