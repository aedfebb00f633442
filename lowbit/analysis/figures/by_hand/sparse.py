"""Compressors against one another at every density: the final measure, and the bytes that they really send.

Points are means over seeds, bars 95 % t intervals of the mean. Horizontal lines are arms without a density: one
process, a dense all-reduce, PyTorch's other hooks. On the left compressors stand a little beside one another.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.statistics import paired
from lowbit.analysis.tables import Tables
from lowbit.errors import UserError


def draw(tables: Tables) -> Figure:
    """One row of two panels per task that has runs with a compressor.

    Raises:
        UserError: when there is no such run.
    """
    sparse = tables.runs[tables.runs["compressor"] != ""]
    if sparse.empty:
        raise UserError("no run with a compressor; make one: python -m lowbit train ... --compressor hggtopk")
    # The processes of a run that sends nothing train apart.
    shown = tables.runs[tables.runs["task"].isin(sparse["task"]) & (tables.runs["method"] != "noop")]
    tables = Tables(tables.study, shown, tables.curves, tables.comparisons, tables.verdicts)
    looks = _looks(tables)
    figure, grid = style.grid(tables, 2)
    for (left, right), task in zip(grid, tables.tasks, strict=True):
        metric = shown.loc[shown["task"] == task, "metric"].iloc[0]
        _finals(left, tables, task, looks)
        _shares(right, tables, task, looks)
        left.set(title=task, ylabel=metric, xlabel="density (%)")
        right.set(ylabel="bytes, % of dense float32", xlabel="density (%)")
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, handlelength=3.5)
    text = (
        "Points: means over seeds with 95 % t intervals of the mean. Horizontal: arms without a density. Bytes are the "
        "payload that was sent; grey: values and indices of exactly the density, by an all-gather."
    )
    style.caption(figure, tables, text)
    return figure


def _looks(tables: Tables) -> dict[str, dict]:
    """A line style per compressor, and per arm without a density."""
    rows = tables.runs.sort_values("arm_order", kind="stable")
    plain = rows.loc[rows["compressor"] == "", "arm"].unique()
    looks = {}
    for i, arm in enumerate(plain):
        looks[arm] = {"color": "0.25", "linestyle": style.DASHES[i % len(style.DASHES)], "linewidth": 1.4}
    names = rows.loc[rows["compressor"] != "", "compressor"].unique()
    for i, name in enumerate(names):
        mark = style.MARKERS[(i + 3 * (i // len(style.COLOURS))) % len(style.MARKERS)]
        colour = style.COLOURS[1 + i % (len(style.COLOURS) - 1)]
        looks[name] = {"color": colour, "marker": mark, "linewidth": 1.3, "markersize": 6, "markeredgecolor": "white"}
    return looks


def _finals(axes: Axes, tables: Tables, task: str, looks: dict[str, dict]) -> None:
    rows = tables.runs[tables.runs["task"] == task]
    for arm, of in rows[rows["compressor"] == ""].groupby("arm", sort=False):
        axes.axhline(of["final"].mean(), **looks[arm], zorder=2)
    for name, of in rows[rows["compressor"] != ""].groupby("compressor", sort=False):
        densities = sorted(of["density"].unique())
        points = [paired(of.loc[of["density"] == density, "final"].to_numpy()) for density in densities]
        x = 100 * np.array(densities) * _aside(looks, name)
        axes.plot(x, [p.mean for p in points], **looks[name], zorder=4)
        axes.vlines(x, [p.low_95 for p in points], [p.high_95 for p in points], color=looks[name]["color"], alpha=0.6)
    style.fit_to_lines(axes)
    _density_axis(axes, rows)


def _shares(axes: Axes, tables: Tables, task: str, looks: dict[str, dict]) -> None:
    rows = tables.runs[(tables.runs["task"] == task) & (tables.runs["ranks"] > 1)]
    rows = rows.assign(share=100 * rows["bytes_per_step"] / rows["dense_bytes_per_step"])
    for arm, of in rows[rows["compressor"] == ""].groupby("arm", sort=False):
        axes.axhline(of["share"].mean(), **looks[arm], zorder=2)
    sparse = rows[rows["compressor"] != ""]
    for name, of in sparse.groupby("compressor", sort=False):
        means = of.groupby("density")["share"].mean()
        axes.plot(100 * means.index, means, **looks[name], zorder=4)
    densities = np.array(sorted(sparse["density"].unique()))
    for ranks in sorted(sparse["ranks"].unique()):
        axes.plot(100 * densities, 100 * densities * ranks, color="0.75", linewidth=3, zorder=1)
    axes.set_yscale("log")
    style.plain_log_ticks(axes.yaxis)
    _density_axis(axes, sparse)


def _aside(looks: dict[str, dict], name: str) -> float:
    """Factor on the densities of a compressor that sets its points apart from those of the others."""
    names = [other for other, look in looks.items() if "marker" in look]
    return 1.05 ** (names.index(name) - (len(names) - 1) / 2)


def _density_axis(axes: Axes, rows) -> None:
    densities = 100 * np.sort(rows["density"].dropna().unique())
    axes.set_xscale("log")
    axes.set_xticks(densities, [f"{d:g}" for d in densities])
    axes.set_xticks([], minor=True)
    axes.set_xlim(0.6 * densities[0], densities[-1] / 0.6)
