"""Largest decrease of the loss that each estimator's direction gives, against the dimension.

Each arm shows the variant and the step that lower the loss furthest on its own batches, measured on other batches, so
that trying many settings buys nothing. A hollow mark had its best step at the lower end of the grid on most batches:
no step of the grid helps there.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_MEASURE = "percent_held_out"
_DODGE = 0.022


def draw(tables: Tables) -> Figure:
    """A panel per start."""
    shown = _rows(tables)
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
        "Percent of the loss at the start. Marks: mean over seeds of the arm's chosen variant, moved sideways so that "
        "arms can be told apart; bars: 95 % t interval over seeds, cut by the axes. Hollow: best step at the grid's "
        "lower end on most batches."
    )
    style.caption(figure, tables, text, tasks=(_panels.TASK,))
    return figure


def _rows(tables: Tables) -> pd.DataFrame:
    """Comparisons of the chosen variants, with the axes of their points."""
    c = tables.comparisons
    c = c[(c["task"] == _panels.TASK) & (c["measure"] == _MEASURE) & (c["chosen"] == 1)]
    axes = [axis for axis in ("dim", "start_from") if axis in tables.runs]
    return c.merge(tables.runs[["task", "point", *axes]].drop_duplicates(), on=["task", "point"])


def _panel(axes: Axes, tables: Tables, rows: pd.DataFrame) -> None:
    styles, arms = _panels.arm_styles(tables), _panels.arms_in(tables, rows)
    _panels.number_ticks(axes, _panels.levels(rows, "dim"))
    for i, arm in enumerate(arms):
        look, own = styles[arm], rows[rows["arm"] == arm].sort_values("dim")
        x = own["dim"] * np.exp(_DODGE * (i - (len(arms) - 1) / 2))
        axes.plot(x, own["mean"], **{**look.line, "linewidth": 1.2})
        axes.vlines(x, own["low_95"], own["high_95"], color=look.colour, linewidth=1.0, alpha=0.6)
        for hollow in (False, True):
            marks = (own["low_end"] > 0.5) == hollow
            face = {"markerfacecolor": "white", "markeredgecolor": look.colour} if hollow else {}
            axes.plot(x[marks], own["mean"][marks], **{**_panels.dots(look), **face}, zorder=20 + i)
    axes.axhline(0.0, color="0.25", linewidth=0.9, zorder=2)
    style.fit_to_lines(axes)
