"""How far the loss falls within one budget of movement in the first layer, and how many forward evaluations that took.

Left, on the batch that was searched; right, on another batch, where the advantage of having tried many points shrinks.
An arm that could serve as an upper bound for the others must lie above all of them on the left. Of an arm with several
variants each batch is measured with the one that does best on the other batches, by what the panel shows.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lowbit.analysis import style
from lowbit.analysis.estimate_comparisons import cross_fitted_rows
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_TASK = "budget"
_DODGE = 0.03
_MEASURES = {"percent_decrease": "on the searched batch", "percent_held_out": "on held-out batches"}


def draw(tables: Tables) -> Figure:
    """Searched batch left, held-out batch right; a row per point of the task."""
    rows = _panels.at(tables.runs, task=_TASK)
    best = {measure: cross_fitted_rows(rows, measure) for measure in _MEASURES}
    points = _panels.levels(rows, "point")
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 3.6 * len(points)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1)
    grid = figure.subplots(len(points), len(_MEASURES), squeeze=False, sharex=True, sharey="row")
    for row, point in zip(grid, points, strict=True):
        limits = []
        for axes, (measure, where) in zip(row, _MEASURES.items(), strict=True):
            axes.set_title(where if point is None else f"{where}, {point}")
            if rows.empty:
                _panels.absent(axes, f"no task {_TASK}")
                continue
            _panel(axes, tables, _panels.at(rows, point=point), _panels.at(best[measure], point=point), measure)
            axes.yaxis.set_tick_params(labelleft=True)
            limits.append(axes.get_ylim())
        if limits:
            row[0].set_ylim(np.min(limits), np.max(limits))  # shared: the last panel alone would cut the first
        row[0].set_ylabel("decrease of the loss (%)")
    for axes in grid[-1]:
        axes.set_xlabel("forward evaluations for direction and step")
    _panels.legend(figure, _panels.arm_keys(tables, _panels.arms_in(tables, rows), lines=False))
    text = (
        "Percent of the start's loss. Large marks: mean over seeds, each batch with the arm's variant that is best on "
        "the other batches (on the other seeds, of a single batch), moved slightly sideways; bars: 95 % t interval "
        "over seeds, cut by the axes; small faint marks: every variant of an arm with several. A gradient counts as "
        "one evaluation; the scan of step lengths that follows a direction is counted too."
    )
    style.caption(figure, tables, text, tasks=(_TASK,))
    return figure


def _panel(axes: Axes, tables: Tables, rows: pd.DataFrame, best: pd.DataFrame, measure: str) -> None:
    axes.set_xscale("log")
    arms = _panels.arms_in(tables, rows)
    for i, arm in enumerate(arms):
        look = _panels.arm_styles(tables)[arm]
        own, picked = _panels.at(rows, arm=arm), _panels.at(best, arm=arm)
        variants = [rows for _, rows in own.groupby("variant", sort=False)]
        for variant in variants if len(variants) > 1 else []:
            x, values = _place(variant, measure)
            axes.plot(x, values.mean(), **{**_panels.dots(look, 4.5), "alpha": 0.45}, zorder=4)
        if len(picked):
            x, values = _place(picked, measure)
            beside = x * np.exp(_DODGE * (i - (len(arms) - 1) / 2))
            _panels.interval(axes, [beside], values.to_numpy()[:, None], **_panels.dots(look, 9), zorder=20 + i)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axhline(0.0, color="0.25", linewidth=0.9, zorder=2)
    style.fit_to_lines(axes)


def _place(rows: pd.DataFrame, measure: str) -> tuple[float, pd.Series]:
    """Forward evaluations with the scan of steps, and the mean over batches of each seed."""
    return (rows["forward_evaluations"] + rows["scan_evaluations"]).mean(), rows.groupby("seed")[measure].mean()
