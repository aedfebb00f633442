"""What several straight-through steps gain over a single one within one budget, with and without roundings.

Decrease after the steps minus that of the best single step, in percent of the loss at the start, paired by seed and
batch. A gain that the network without any rounding shows as well is a trait of gradient descent, and not caused by
binary activations. Noise is a random displacement of the start, as a fraction of the budget.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_MULTI, _SINGLE = "multi_step_ste", "ste"
_TASKS = {
    "budget": ("binary activations", {"color": "#0072B2", "marker": "o"}),
    "budget_full": ("full precision", {"color": "#D55E00", "marker": "s"}),
}
_MEASURES = {"percent_decrease": "gain, searched batch (%)", "percent_held_out": "gain, held-out batch (%)"}
_PAIR = ["task", "point", "seed", "batch"]


def draw(tables: Tables) -> Figure:
    """A column per noise; searched batch above, held-out batch below."""
    rows = _gains(tables)
    noises, optimizers = _panels.levels(rows, "noise_fraction"), _panels.levels(rows, "optimizer")
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 2.5 * len(_MEASURES)), layout="constrained")
    grid = figure.subplots(len(_MEASURES), len(noises), squeeze=False, sharex=True, sharey="row")
    for row, (measure, label) in zip(grid, _MEASURES.items(), strict=True):
        for axes, noise in zip(row, noises, strict=True):
            axes.set_title(_title(noise))
            if rows.empty:
                _panels.absent(axes, f"no task with the arms {_MULTI} and {_SINGLE}")
                continue
            _panel(axes, _panels.at(rows, noise_fraction=noise), optimizers, measure)
            axes.yaxis.set_tick_params(labelleft=True)
        row[0].set_ylabel(label)
    for axes in grid[-1]:
        axes.set_xlabel("optimizer of the steps")
    present = [task for task in _TASKS if task in set(rows["task"])]
    entries = [Line2D([], [], label=_TASKS[t][0], linestyle="none", markersize=7, **_TASKS[t][1]) for t in present]
    _panels.legend(figure, entries)
    text = (
        f"{_MULTI} minus {_SINGLE}, paired by seed and batch, at the best learning rate of each optimizer. Small "
        "marks: pairs; large: mean over seeds; bars: 95 % t interval over seeds, cut by the axes."
    )
    style.caption(figure, tables, text, tasks=present)
    return figure


def _title(noise: float | None) -> str:
    if noise is None:
        return ""
    return f"start moved by up to {noise:g} of the budget" if noise else "start not moved"


def _gains(tables: Tables) -> pd.DataFrame:
    """Multi-step minus single-step estimates of the same seed and batch, in percent of the loss."""
    runs, measures = tables.runs[tables.runs["task"].isin(_TASKS)], list(_MEASURES)
    single = _panels.at(runs, arm=_SINGLE)[[*_PAIR, *measures]]
    both = _panels.at(runs, arm=_MULTI).merge(single, on=_PAIR, suffixes=("", "_single"))
    return _best_rates(both.assign(**{m: both[m] - both[f"{m}_single"] for m in measures}))


def _best_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the learning rate that gains most on held-out batches, for each task, optimizer and noise."""
    if "lr" not in rows or rows["lr"].isna().all():
        return rows
    keys = [key for key in ("task", "optimizer", "noise_fraction") if key in rows]
    means = rows.groupby([*keys, "lr"], sort=False)["percent_held_out"].mean().reset_index()
    best = means.loc[means.groupby(keys, sort=False)["percent_held_out"].idxmax(), [*keys, "lr"]]
    return rows.merge(best, on=[*keys, "lr"])


def _panel(axes: Axes, rows: pd.DataFrame, optimizers: tuple, measure: str) -> None:
    for i, (task, (_, look)) in enumerate(_TASKS.items()):
        for j, optimizer in enumerate(optimizers):
            cell = _panels.at(rows, task=task, optimizer=optimizer)
            if cell.empty:
                continue
            place = j + 0.36 * (i - 0.5)
            beside = place + (np.linspace(-0.1, 0.1, len(cell)) if len(cell) > 1 else 0.0)
            edge = {"linestyle": "none", "markeredgecolor": "white", "markeredgewidth": 0.5}
            axes.plot(beside, cell[measure], **look, **edge, markersize=4, alpha=0.55, zorder=3)
            seeds = cell.groupby("seed")[measure].mean().to_numpy()
            _panels.interval(axes, [place], seeds[:, None], **look, **edge, markersize=8.5, zorder=5)
    axes.axhline(0.0, color="0.25", linewidth=0.9, zorder=2)
    axes.set_xticks(range(len(optimizers)), [o or _MULTI for o in optimizers])
    axes.set_xlim(-0.5, len(optimizers) - 0.5)
    axes.grid(axis="x", visible=False)
    style.fit_to_lines(axes)
