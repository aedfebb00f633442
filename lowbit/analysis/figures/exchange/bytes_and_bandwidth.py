"""Bytes of a step, what a step would take over links, and where sparse exchange stops to save bytes.

Left: measured, in percent of a float32 ring all-reduce. Middle: a step on loopback and, without overlap, its bytes and
messages on a link. Right: an all-gather of values and indices sends as much as a dense all-reduce once 1 in P entries
is sent, P being the number of processes; schemes that add up on the way do not grow with P.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lowbit.analysis import style
from lowbit.analysis.exchanges import COMPUTED, LOOPBACK, NOTHING, RATES
from lowbit.analysis.figures.exchange import _panels
from lowbit.analysis.tables import Tables

_SCHEMES = {
    "allgather": {"linestyle": "solid", "marker": "o"},
    "oktopk": {"linestyle": (0, (5, 2)), "marker": "s"},
    "shared": {"linestyle": (0, (1, 1.5)), "marker": "^"},
}
_SHADES = ("#009E73", "#0072B2", "#D55E00", "#CC79A7", "#8A8A2B")


def draw(tables: Tables) -> Figure:
    """A row per task: bytes, time over links, bytes against processes."""
    most = max(len(tables.arms_of(task)) for task in tables.tasks)
    figure, grid = style.grid(tables, 3, row_inches=max(3.4, 0.9 + 0.21 * most), width_ratios=(1, 1.25, 1.1))
    for (measured, links, workers), task in zip(grid, tables.tasks, strict=True):
        _bytes(measured, tables, task)
        _links(links, tables, task)
        _workers(workers, tables)
        measured.set_title(task)
    shown = [line for line in dict.fromkeys(_panels.arms(tables)["line"]) if line != NOTHING]
    _panels.legend(figure, tables, shown)
    text = (
        "Left: measured, all ranks together; an entry with its index is 8 bytes, what has one dimension is sent whole. "
        f"Middle: computed, {COMPUTED.replace(' us', ' µs')} (assumed); densities by width. "
        "Right: computed; gtopk sends as much as oktopk."
    )
    style.caption(figure, tables, text)
    return figure


def _bytes(axes: Axes, tables: Tables, task: str) -> None:
    table, every = _panels.arms(tables), _panels.looks(tables)
    arms = [arm for arm in tables.arms_of(task) if table.loc[arm, "method"] != NOTHING]
    percents = [tables.runs_of(task, arm)["wire_percent"].mean() for arm in arms]
    axes.set_xscale("log")
    for y, (arm, percent) in enumerate(zip(arms, percents, strict=True)):
        axes.barh(y, percent, color=every[table.loc[arm, "line"]]["color"], height=0.7, linewidth=0)
        axes.annotate(
            f"{percent:.3g}", (percent, y), xytext=(2, 0), textcoords="offset points", fontsize=6.5, va="center"
        )
    axes.axvline(100, color="black", linestyle=":", linewidth=1)
    axes.set(xlabel="bytes of a step, % of dense", xlim=(0.4 * min(percents), 3 * max(100, *percents)))
    style.plain_log_ticks(axes.xaxis)
    _panels.named(axes, arms)


def _links(axes: Axes, tables: Tables, task: str) -> None:
    table, every, links = _panels.arms(tables), _panels.looks(tables), tables.further["links"]
    rows = links[(links["task"] == task) & (links["link"] != LOOPBACK)]
    densities = sorted(table["density"].dropna().unique())
    mean = rows.groupby(["arm", "bits_per_second"])["step_seconds"].mean()
    for arm in (a for a in tables.arms_of(task) if a in mean.index.get_level_values(0)):
        look, density = every[table.loc[arm, "line"]], table.loc[arm, "density"]
        width = 0.9 + 0.7 * densities.index(density) if density in densities else 1.6
        axes.plot(mean[arm].index, 1000 * mean[arm], **{**look, "linewidth": width, "markersize": 4})
    axes.set(xscale="log", yscale="log", xlabel="link", ylabel="step (ms), computed", title="time over links")
    axes.set_xticks(list(RATES.values()), [name.removesuffix("b/s").replace(" ", "") for name in RATES], fontsize=7.5)
    axes.xaxis.set_minor_locator(NullLocator())
    style.plain_log_ticks(axes.yaxis)


def _workers(axes: Axes, tables: Tables) -> None:
    table = tables.further["volumes"]
    densities = sorted(table["density"].unique())
    for density, colour in zip(densities, np.resize(_SHADES, len(densities)), strict=True):
        for scheme, look in _SCHEMES.items():
            rows = table[(table["density"] == density) & (table["scheme"] == scheme)]
            axes.plot(rows["ranks"], rows["wire_percent"], color=colour, linewidth=1.4, markersize=3.5, **look)
        axes.plot(1 / density, 100, color=colour, marker="X", markersize=9, markeredgecolor="black", zorder=5)
    axes.axhline(100, color="black", linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="processes P", ylabel="bytes, % of dense", title="crossover at 1/P")
    axes.set_xticks(sorted(table["ranks"].unique()), [str(n) for n in sorted(table["ranks"].unique())], fontsize=7.5)
    axes.xaxis.set_minor_locator(NullLocator())
    style.plain_log_ticks(axes.yaxis)
    handles = [axes.plot([], [], color=c, label=f"density {d:g}")[0] for d, c in zip(densities, _SHADES, strict=False)]
    handles += [
        axes.plot([], [], color="0.3", label=scheme, markersize=4, **look)[0] for scheme, look in _SCHEMES.items()
    ]
    axes.legend(handles=handles, fontsize=7, loc="upper left", handlelength=2.6)
