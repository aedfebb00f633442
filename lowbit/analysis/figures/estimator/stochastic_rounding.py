"""Gradients through stochastic rounding, averaged over samples, against the plain straight-through gradient.

Percent by which the best step lowers the loss of held-out batches, with plain signs before and after the step. If
averaging over random roundings helps, the line rises with the samples and lies above the horizontal one.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.statistics import band
from lowbit.analysis.tables import Tables

_ARM, _PLAIN, _MEASURE = "sr_ste", "ste", "percent_held_out"


def draw(tables: Tables) -> Figure:
    """A column per dimension, a row per start."""
    estimates = _panels.at(tables.runs, task=_panels.TASK)
    rows = _panels.at(estimates, arm=_ARM)
    figure, panels = _panels.by_start_and_dim(rows, (_MEASURE,), row_inches=2.4)
    if rows.empty or _panels.levels(rows, "samples") == (None,):
        for axes in panels.values():
            _panels.absent(axes, f"no arm {_ARM} with an axis samples on a task {_panels.TASK}")
    else:
        for (start, dim, _), axes in panels.items():
            _panel(axes, tables, _panels.at(estimates, start_from=start, dim=dim))
        _panels.label(panels, "random roundings averaged", {_MEASURE: "held-out decrease (%)"})
        _panels.legend(figure, _panels.arm_keys(tables, _panels.arms_in(tables, estimates, (_ARM, _PLAIN))))
    text = (
        "Percent of the loss at the start. Line and band: mean over seeds and its 95 % t interval, cut by the axes; "
        f"small marks: seeds, each the mean over its batches. Horizontal: mean of {_PLAIN}."
    )
    style.caption(figure, tables, text, tasks=(_panels.TASK,))
    return figure


def _panel(axes: Axes, tables: Tables, rows: pd.DataFrame) -> None:
    styles = _panels.arm_styles(tables)
    look = styles[_ARM]
    samples, values = _panels.over_seeds(_panels.at(rows, arm=_ARM), "samples", _MEASURE)
    if not samples.size:
        _panels.absent(axes, f"no {_ARM}")
        return
    mean, low, high = band(values)
    axes.plot(samples, mean, color=look.colour, linewidth=1.8, zorder=4)
    axes.plot(samples, mean, **_panels.dots(look, 6), zorder=5)
    axes.plot(samples, values.T, **{**_panels.dots(look, 3.5), "alpha": 0.6}, zorder=4)
    axes.fill_between(samples, low, high, color=look.colour, alpha=0.15, linewidth=0)
    plain = _panels.at(rows, arm=_PLAIN).groupby("seed")[_MEASURE].mean().to_numpy()
    if plain.size:
        _panels.level_line(axes, plain, color=styles[_PLAIN].colour, linestyle=(0, (7, 2)), linewidth=1.6, zorder=3)
    axes.xaxis.set_major_locator(FixedLocator(samples))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    style.fit_to_lines(axes)
