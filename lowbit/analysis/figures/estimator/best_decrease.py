"""Largest decrease of the loss that each estimator's direction gives, against the dimension.

Each batch is measured with the variant of an arm that does best on the other batches, at the step that lowers the loss
of its own searched batch furthest, and on a held-out batch: trying many settings buys nothing. A hollow mark had its
best step at the lower end of the grid on most batches: no step of the grid helps there. A half-filled one had it at the
upper end: a longer step might help more.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.estimate_comparisons import cross_fitted_rows
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.statistics import band
from lowbit.analysis.tables import Tables

_MEASURE = "percent_held_out"
_DODGE = 0.022


def draw(tables: Tables) -> Figure:
    """A panel per start."""
    shown = cross_fitted_rows(_panels.at(tables.runs, task=_panels.TASK), _MEASURE)
    starts = _panels.levels(shown, "start_from")
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 3.4), layout="constrained")
    grid = figure.subplots(1, len(starts), squeeze=False)[0]
    for axes, start in zip(grid, starts, strict=True):
        rows = _panels.at(shown, start_from=start)
        axes.set(title=_panels.words(start=start), xlabel="units per layer")
        if rows.empty or _panels.levels(rows, "dim") == (None,):
            _panels.absent(axes, f"no task {_panels.TASK} with an axis dim")
            continue
        _panel(axes, tables, rows)
    grid[0].set_ylabel("decrease on held-out batches (%)")
    _panels.legend(figure, _panels.arm_keys(tables, _panels.arms_in(tables, shown)))
    text = (
        "Percent of the loss at the start. Each batch with the arm's variant that is best on the other batches (on the "
        "other seeds, of a single batch). Marks: mean over seeds, moved sideways so that arms can be told apart; bars: "
        "95 % t interval over seeds, cut by the axes. Best step at an end of the grid on most batches: hollow, lower; "
        "half filled, upper."
    )
    style.caption(figure, tables, text, tasks=(_panels.TASK,))
    return figure


def _panel(axes: Axes, tables: Tables, rows: pd.DataFrame) -> None:
    styles, arms = _panels.arm_styles(tables), _panels.arms_in(tables, rows)
    _panels.number_ticks(axes, _panels.levels(rows, "dim"))
    for i, arm in enumerate(arms):
        look, own = styles[arm], _panels.at(rows, arm=arm)
        dims, values = _panels.over_seeds(own, "dim", _MEASURE)
        x, mean = dims * np.exp(_DODGE * (i - (len(arms) - 1) / 2)), band(values)[0]
        _panels.interval(axes, x, values, **{**look.line, "linewidth": 1.2})
        for place, value, dim in zip(x, mean, dims, strict=True):
            face = _at_grid_end(_panels.at(own, dim=dim), look.colour)
            axes.plot(place, value, **{**_panels.dots(look), **face}, zorder=20 + i)
    axes.axhline(0.0, color="0.25", linewidth=0.9, zorder=2)
    style.fit_to_lines(axes)


def _at_grid_end(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    """How a mark says that most best steps are at an end of the grid."""
    edge = {"markeredgecolor": colour, "markeredgewidth": 1.2}
    if (rows["at_grid_end"] == "low").mean() > 0.5:
        return {"markerfacecolor": "white", **edge}
    if (rows["at_grid_end"] == "high").mean() > 0.5:
        return {"fillstyle": "bottom", "markerfacecoloralt": "white", **edge}
    return {}
