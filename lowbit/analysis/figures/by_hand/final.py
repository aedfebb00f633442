"""The final measure of every arm: test accuracy or test perplexity of the weights chosen on the validation split.

Diamonds are means over seeds, bars 95 % t intervals of the mean, dots the seeds. Runs that send nothing (noop) are left
out: their processes train apart.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.statistics import paired
from lowbit.analysis.tables import Tables


def draw(tables: Tables) -> Figure:
    """One panel per task, a line per arm."""
    arms = {task: _arms(tables, task) for task in tables.tasks}
    heights = [0.9 + 0.28 * len(names) for names in arms.values()]
    figure, grid = style.grid(tables, 1, row_inches=float(np.mean(heights)), height_ratios=heights)
    for axes, (task, names) in zip(grid[:, 0], arms.items(), strict=True):
        _panel(axes, tables, task, names)
    text = (
        "Weights chosen on the validation split. Diamonds, numbers: means over seeds; bars: 95 % t intervals of the "
        "mean, cut where they are far wider than all seeds; dots: seeds. Without noop, whose processes train apart."
    )
    style.caption(figure, tables, text)
    return figure


def _arms(tables: Tables, task: str) -> list[str]:
    rows = tables.runs[(tables.runs["task"] == task) & (tables.runs["method"] != "noop")]
    return [arm for arm in tables.arms_of(task) if arm in set(rows["arm"])]


def _panel(axes: Axes, tables: Tables, task: str, arms: list[str]) -> None:
    looks = style.arm_styles(tables)
    every = tables.runs.loc[(tables.runs["task"] == task) & tables.runs["arm"].isin(arms), "final"]
    for y, arm in enumerate(arms):
        values = tables.runs_of(task, arm)["final"].to_numpy()
        of, look = paired(values), looks[arm]
        if np.isfinite(of.low_95):
            bar = {"color": look.colour, "linewidth": 5, "alpha": 0.45, "solid_capstyle": "butt"}
            axes.plot([of.low_95, of.high_95], [y, y], **bar, zorder=2)
        axes.plot(values, np.full(len(values), y - 0.26), **{**look.dots, "marker": "o", "markersize": 4}, zorder=3)
        axes.plot(of.mean, y, color=look.colour, marker="D", markersize=7, markeredgecolor="white", zorder=4)
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8, "annotation_clip": False}
        axes.annotate(f"{of.mean:.2f}", (1.01, y), **place)
    axes.set(title=task, ylim=(max(len(arms), 1) - 0.4, -0.6))
    axes.set_yticks(range(len(arms)), arms)
    if np.isfinite(every).any():  # the intervals of two seeds are far wider than what they are about
        pad = 0.6 * np.ptp(every) or 0.05 * abs(every.iloc[0])
        axes.set_xlim(every.min() - pad, every.max() + pad)
    axes.set_xlabel(tables.runs.loc[tables.runs["task"] == task, "metric"].iloc[0])
    if not arms:
        style.empty(axes, "no run that exchanges gradients")
