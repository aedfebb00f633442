"""Progress over the parts of a job: a bar on a terminal, and in a log a line now and then."""

import sys
from collections.abc import Collection, Iterable

from tqdm import tqdm

LOG_SECONDS = 30


def progress(items: Collection, title: str, unit: str) -> Iterable:
    """The items; how many are done is told on stderr.

    Args:
        items: to go through.
        title: of the bar.
        unit: name of one item.
    """
    if sys.stderr.isatty():
        return tqdm(items, desc=title, unit=unit, dynamic_ncols=True)
    return tqdm(
        items, desc=title, unit=unit, delay=LOG_SECONDS, mininterval=LOG_SECONDS, miniters=1,
        bar_format="{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}, about {remaining} left\n",
    )  # fmt: skip
