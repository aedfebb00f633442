"""Test accuracy against the density that is sent, by compressor, and its difference to the dense baseline.

An arm that exchanges nothing is not shown: its processes train models of their own, and one of them is measured.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.exchanges import NOTHING
from lowbit.analysis.figures.exchange import _panels
from lowbit.analysis.tables import Tables

_MEASURE = "test_accuracy_percent"
_WIDEST, _MARGIN = 6.0, 1.0


def draw(tables: Tables) -> Figure:
    """A row per task: accuracy of every run, and paired differences with intervals."""
    figure, grid = style.grid(tables, 2, row_inches=3.9)
    for (accuracy, differences), task in zip(grid, tables.tasks, strict=True):
        places, lines = _places(tables, task)
        _accuracy(accuracy, tables, task, places)
        _differences(differences, tables, task, places)
        accuracy.set(ylabel="test accuracy (%)")
        accuracy.set_title(task)
        differences.set(ylabel=f"minus {tables.baseline} (points)")
        differences.set_title("paired by seed")
        for axes in (accuracy, differences):
            ticks = sorted({int(np.floor(x + 0.5)) for x, _ in places.values()})
            axes.set_xticks(ticks, [lines[i] for i in ticks])
            axes.set_xlim(-0.5, max(ticks, default=0) + 0.5)
            axes.set_xlabel("density, or method")
    shown = dict.fromkeys(line for task in tables.tasks for _, line in _places(tables, task)[0].values())
    _panels.legend(figure, tables, list(shown))
    text = (
        f"Left: one dot per seed, means joined; dotted: {tables.baseline}, mean and range. Right: mean with 95 % t "
        f"interval; shaded: within {_MARGIN:g} point; numbers: beyond the axis. Weights chosen on the validation split."
    )
    style.caption(figure, tables, text)
    return figure


def _places(tables: Tables, task: str) -> tuple[dict[str, tuple[float, str]], dict[int, str]]:
    """Arm -> (place on the axis, line), and the words at each whole place: densities, then methods without one."""
    table = _panels.arms(tables).loc[list(tables.arms_of(task))]
    table = table[(table["method"] != NOTHING) & (table.index != tables.baseline)]
    sparse = table[(table["method"] == "sparse") & (table["compressor"] != "none")]
    densities = sorted(sparse["density"].unique())
    words = [f"{density:g}" for density in densities]
    words += [line for line in dict.fromkeys(table["line"]) if line not in set(sparse["line"])]
    lines = list(dict.fromkeys(sparse["line"]))
    found = {}
    for arm, row in table.iterrows():
        if arm in sparse.index:
            shift = 0.7 * ((lines.index(row["line"]) + 0.5) / len(lines) - 0.5)
            found[arm] = (densities.index(row["density"]) + shift, row["line"])
        else:
            found[arm] = (float(words.index(row["line"])), row["line"])
    return found, dict(enumerate(words))


def _accuracy(axes: Axes, tables: Tables, task: str, places: dict[str, tuple[float, str]]) -> None:
    every = _panels.looks(tables)
    dense = tables.runs_of(task, tables.baseline)[_MEASURE]
    axes.axhspan(dense.min(), dense.max(), color="0.5", alpha=0.15, linewidth=0)
    axes.axhline(dense.mean(), color="black", linestyle=":", linewidth=1.2)
    means: dict[str, list[tuple[float, float]]] = {}
    for arm, (x, line) in places.items():
        values = tables.runs_of(task, arm)[_MEASURE]
        axes.plot(np.full(len(values), x), values, **{**every[line], "linestyle": "none", "markersize": 4}, alpha=0.8)
        means.setdefault(line, []).append((x, values.mean()))
    for line, points in means.items():
        axes.plot(*zip(*sorted(points), strict=True), **{**every[line], "marker": ""}, zorder=1)


def _differences(axes: Axes, tables: Tables, task: str, places: dict[str, tuple[float, str]]) -> None:
    every, table = _panels.looks(tables), tables.comparisons
    rows = table[(table["task"] == task) & (table["measure"] == _MEASURE) & (table["baseline"] == tables.baseline)]
    axes.axhspan(-_MARGIN, _MARGIN, color="0.5", alpha=0.15, linewidth=0)
    axes.axhline(0, color="black", linestyle=":", linewidth=1.2)
    for row in rows.to_dict("records"):
        if row["arm"] not in places:
            continue
        x, line = places[row["arm"]]
        look = {**every[line], "linestyle": "none"}
        if abs(row["mean"]) > _WIDEST:
            axes.annotate(f"{row['mean']:.0f}", (x, np.sign(row["mean"]) * _WIDEST), fontsize=6.5, ha="center",
                          va="bottom" if row["mean"] < 0 else "top", color=look["color"])  # fmt: skip
            continue
        axes.plot([x, x], [row["low_95"], row["high_95"]], color=look["color"], linewidth=1.3)
        axes.plot(x, row["mean"], **look)
    axes.set_ylim(-_WIDEST, _WIDEST)
