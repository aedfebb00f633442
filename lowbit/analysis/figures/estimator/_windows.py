"""The sweep of the straight-through window: measures by width, with the ordinary clipped estimator at width 1."""

import pandas as pd

from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

ARM, CLIPPED = "window", "ste"


def sweep(tables: Tables, task: str) -> pd.DataFrame:
    """Layers and estimates of the windows on a task in one table: each measure has its own rows."""
    layers = _panels.at(tables.further["layers"], task=task, tensor="all")
    if "width" not in layers:
        return layers.iloc[:0]
    estimates = _panels.at(tables.runs, task=task)
    both = pd.concat([layers, estimates.assign(pass_rate=100 * estimates["pass_rate"])], ignore_index=True)
    both = both[both["arm"].isin((ARM, CLIPPED))]
    return both.assign(width=both["width"].where(both["arm"] != CLIPPED, 1.0))
