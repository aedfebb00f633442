"""Gradient norms: as they are, without their analytic factor, and their spread about their own running median.

Base 2 multiplies the gradient of the loss by ln 2, so its raw norm is smaller and its raw variance about half, by
arithmetic alone; a factor on the loss does the same. Left: raw norms before clipping. Middle: divided by that factor;
what remains is training. Right: the scale-free spread that the claim of smoother gradients is judged by, one dot per
seed, dots of a seed joined.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lowbit.analysis import style
from lowbit.analysis.tables import Tables


def draw(tables: Tables) -> Figure:
    """One row per task: raw, without the factor, spread."""
    figure, grid = style.grid(tables, 3, width_ratios=(1.15, 1.15, 1))
    for (raw, free, spread), task in zip(grid, tables.tasks, strict=True):
        for axes, label in ((raw, "gradient norm"), (free, "norm / analytic factor")):
            axes.set(yscale="log", ylabel=label)
        for arm in tables.arms_of(task):
            _trace(raw, tables, task, arm, 1.0)
            _trace(free, tables, task, arm, tables.runs_of(task, arm)["gradient_factor"].iloc[0])
        for axes in (raw, free):
            style.fit_to_lines(axes)
            style.plain_log_ticks(axes.yaxis)
        raw.set_title(task)
        _spread(spread, tables, task)
    for axes in grid[-1, :2]:
        axes.set_xlabel("optimizer step")
    grid[-1, 2].set_xlabel("spread of ln(norm)")
    style.legend(figure, tables)
    text = (
        "Left and middle: geometric mean over seeds and neighbouring steps, with 95 % t bands; norms are taken before "
        "clipping; the analytic factor is the loss scale times ln(b) / T. Right: standard deviation of ln(norm / "
        "running median) without the first tenth of training, one dot per seed, bar at the mean."
    )
    style.caption(figure, tables, text)
    return figure


def _trace(axes: Axes, tables: Tables, task: str, arm: str, factor: float) -> None:
    steps, values = tables.curve(task, arm, "step", "gradient_norm")
    if np.isfinite(factor):
        style.curve(axes, style.arm_styles(tables)[arm], steps, values / factor)


def _spread(axes: Axes, tables: Tables, task: str) -> None:
    arms, styles = tables.arms_of(task), style.arm_styles(tables)
    columns = {arm: tables.runs_of(task, arm).set_index("seed")["gradient_dispersion"] for arm in arms}
    for seed in sorted({seed for column in columns.values() for seed in column.index}):
        present = [(column[seed], i) for i, column in enumerate(columns.values()) if seed in column.index]
        axes.plot(*zip(*present, strict=True), color="0.8", linewidth=0.8, zorder=1)
    for i, (arm, column) in enumerate(columns.items()):
        axes.plot(column, np.full(len(column), i), **styles[arm].dots, zorder=3)
        axes.plot(column.mean(), i, color=styles[arm].colour, marker="|", markersize=16, markeredgewidth=2, zorder=2)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5))
