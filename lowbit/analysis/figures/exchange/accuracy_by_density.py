"""Test accuracy against the density that is sent, by compressor, and its difference to the dense baseline.

Of text it is perplexity, whose difference is a ratio. An arm that exchanges nothing is not shown: its processes train
models of their own, and one of them is measured.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.comparisons import percent
from lowbit.analysis.exchanges import NOTHING
from lowbit.analysis.figures.exchange import _panels
from lowbit.analysis.tables import Tables

_LINE_POINTS = 8.0


@dataclass(frozen=True)
class _Quality:
    """What is shown of a task.

    Args:
        measure: column of the runs table.
        label: of its axis.
        unit: of a difference.
        widest: difference at the ends of the axis.
        margin: within which arms are equal.
        scale: of the axis of the measure.
        shown: what a difference of the comparisons is on its axis.
    """

    measure: str
    label: str
    unit: str
    widest: float
    margin: float
    scale: str
    shown: Callable[[float], float]


_QUALITIES = {
    "accuracy": _Quality("test_accuracy_percent", "test accuracy (%)", "points", 6.0, 1.0, "linear", float),
    "perplexity": _Quality("test_perplexity", "test perplexity", "%", 12.0, 1.0, "log", percent),
}


def _quality(tables: Tables, task: str) -> _Quality:
    return _QUALITIES[tables.runs.loc[tables.runs["task"] == task, "metric"].iloc[0]]


def draw(tables: Tables) -> Figure:
    """A row per task: accuracy of every run, and paired differences with intervals."""
    figure, grid = style.grid(tables, 2, row_inches=3.9)
    for (accuracy, differences), task in zip(grid, tables.tasks, strict=True):
        places, lines = _places(tables, task)
        _accuracy(accuracy, tables, task, places)
        _differences(differences, tables, task, places)
        of = _quality(tables, task)
        accuracy.set(ylabel=of.label)
        accuracy.set_title(task)
        differences.set(ylabel=f"minus {tables.baseline} ({of.unit})")
        differences.set_title("paired by seed")
        for axes in (accuracy, differences):
            ticks = sorted({int(np.floor(x + 0.5)) for x, _ in places.values()})
            axes.set_xticks(ticks, [lines[i] for i in ticks])
            axes.set_xlim(-0.5, max(ticks, default=0) + 0.5)
            axes.set_xlabel("density, or method")
    shown = dict.fromkeys(line for task in tables.tasks for _, line in _places(tables, task)[0].values())
    _panels.legend(figure, tables, list(shown))
    margins = dict.fromkeys(
        f"{of.margin:g} {of.unit.removesuffix('s')}" for of in (_quality(tables, task) for task in tables.tasks)
    )
    text = (
        f"Left: one dot per seed, means joined; dotted: {tables.baseline}, mean and range. Right: mean with 95 % t "
        f"interval; shaded: within {' or '.join(margins)}; numbers: beyond the axis. Weights chosen on the validation "
        "split."
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
    every, of = _panels.looks(tables), _quality(tables, task)
    axes.set_yscale(of.scale)
    dense = tables.runs_of(task, tables.baseline)[of.measure]
    axes.axhspan(dense.min(), dense.max(), color="0.5", alpha=0.15, linewidth=0)
    axes.axhline(dense.mean(), color="black", linestyle=":", linewidth=1.2)
    means: dict[str, list[tuple[float, float]]] = {}
    for arm, (x, line) in places.items():
        values = tables.runs_of(task, arm)[of.measure]
        axes.plot(np.full(len(values), x), values, **{**every[line], "linestyle": "none", "markersize": 4}, alpha=0.8)
        means.setdefault(line, []).append((x, values.mean()))
    for line, points in means.items():
        axes.plot(*zip(*sorted(points), strict=True), **{**every[line], "marker": ""}, zorder=1)
    if of.scale == "log":
        style.plain_log_ticks(axes.yaxis)


def _differences(axes: Axes, tables: Tables, task: str, places: dict[str, tuple[float, str]]) -> None:
    every, table, of = _panels.looks(tables), tables.comparisons, _quality(tables, task)
    rows = table[(table["task"] == task) & (table["measure"] == of.measure) & (table["baseline"] == tables.baseline)]
    axes.axhspan(-of.margin, of.margin, color="0.5", alpha=0.15, linewidth=0)
    axes.axhline(0, color="black", linestyle=":", linewidth=1.2)
    beyond: Counter[tuple[int, bool]] = Counter()
    for row in rows.to_dict("records"):
        if row["arm"] not in places:
            continue
        x, line = places[row["arm"]]
        look = {**every[line], "linestyle": "none"}
        mean, low, high = (of.shown(row[key]) for key in ("mean", "low_95", "high_95"))
        if abs(mean) > of.widest:
            inwards = 1 if mean < 0 else -1  # one above the other: side by side they would read as one number
            axes.annotate(f"{mean:.0f}", (x, -inwards * of.widest),
                          (0, inwards * _LINE_POINTS * beyond[round(x), mean < 0]), textcoords="offset points",
                          fontsize=6.5, ha="center", va="bottom" if mean < 0 else "top",
                          color=look["color"])  # fmt: skip
            beyond[round(x), mean < 0] += 1
            continue
        axes.plot([x, x], [low, high], color=look["color"], linewidth=1.3)
        axes.plot(x, mean, **look)
    axes.set_ylim(-of.widest, of.widest)
