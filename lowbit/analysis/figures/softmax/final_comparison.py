"""Test accuracy of every arm minus the baseline's, seed by seed, against the margins of practical equality.

Dots are seeds, diamonds their mean, thick bars the 90 % interval (which two one-sided tests at 5 % use), thin bars
the 95 % interval. The bands mark 1 point and 0.5 points: an arm is within a margin when its thick bar lies inside. A
control of the baseline sits at exactly zero.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.tables import Tables

_MEASURE = "test_accuracy_percent"
_MARGINS = ((1.0, "0.93"), (0.5, "0.86"))
_WIDEST = 8.0


def draw(tables: Tables) -> Figure:
    """One forest plot per task, on one scale."""
    rows = tables.comparisons[tables.comparisons["measure"] == _MEASURE].set_index(["task", "arm"])
    arms = max((len(rows.loc[[task]]) for task in tables.tasks if task in rows.index.levels[0]), default=1)
    figure, grid = style.grid(tables, 1, sharex=True, row_inches=0.5 + 0.42 * arms)
    limit = _limit(tables, rows)
    for axes, task in zip(grid[:, 0], tables.tasks, strict=True):
        for margin, grey in _MARGINS:
            axes.axvspan(-margin, margin, color=grey, linewidth=0, zorder=0)
        axes.axvline(0, color="0.3", linewidth=0.8, zorder=1)
        others = [arm for arm in tables.arms_of(task) if (task, arm) in rows.index]
        for y, arm in enumerate(others):
            _arm(axes, tables, task, arm, rows.loc[(task, arm)], y)
        axes.set(title=task, xlim=(-limit, limit), ylim=(max(len(others), 1) - 0.45, -0.55))
        axes.set_yticks(range(len(others)), others)
        axes.grid(axis="y", visible=False)
        if not others:
            style.empty(axes, f"no run of {tables.baseline} to compare with")
    grid[-1, 0].set_xlabel(f"test accuracy minus that of {tables.baseline} (points)")
    text = (
        f"Paired by seed with {tables.baseline}; weights chosen on the validation split. Dots: seeds; diamond: mean; "
        "thick and thin bars: 90 % and 95 % t intervals; shaded: within 0.5 points and within 1 point. Right: mean and "
        "90 % interval."
    )
    style.caption(figure, tables, text)
    return figure


def _limit(tables: Tables, rows: pd.DataFrame) -> float:
    """Half-width that shows every dot, and the intervals up to a bound that keeps the margins visible."""
    dots = [np.abs(_differences(tables, task, arm)) for task, arm in rows.index]
    dot = max((d.max() for d in dots if d.size), default=0.0)
    ends = np.abs(rows[["low_95", "high_95"]].to_numpy(dtype=float))
    interval = np.nanmax(ends) if np.isfinite(ends).any() else 0.0
    return float(max(1.5, 1.08 * dot, min(1.08 * interval, _WIDEST)))


def _differences(tables: Tables, task: str, arm: str) -> np.ndarray:
    """An arm's test accuracy minus the baseline's, per seed that both have."""
    treated, reference = (tables.runs_of(task, name).set_index("seed")[_MEASURE] for name in (arm, tables.baseline))
    return (treated - reference).dropna().to_numpy()


def _arm(axes: Axes, tables: Tables, task: str, arm: str, row: pd.Series, y: int) -> None:
    look = style.arm_styles(tables)[arm]
    d = _differences(tables, task, arm)
    rise = np.linspace(0.14, 0.36, len(d)) if len(d) > 1 else 0.25
    axes.plot(d, y - rise, **look.dots, zorder=3)
    level = y + 0.14
    for share, width in ((95, 1.2), (90, 4.0)):
        bar = {"color": look.colour, "linewidth": width, "solid_capstyle": "butt", "zorder": 4}
        axes.plot([row[f"low_{share}"], row[f"high_{share}"]], [level, level], **bar)
    edge = {"markeredgecolor": "white", "markeredgewidth": 1}
    axes.plot(row["mean"], level, color=look.colour, marker="D", markersize=8, zorder=5, **edge)
    place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8, "annotation_clip": False}
    axes.annotate(_words(row), (1.01, y), **place)


def _words(row: pd.Series) -> str:
    """Mean and 90 % interval; a control of the baseline is exactly zero and says so."""
    if row["mean"] == 0 and row["sd"] == 0:
        return "0 in every pair"
    text = f"{row['mean']:+.2f}"
    return f"{text} [{row['low_90']:+.2f}, {row['high_90']:+.2f}]" if math.isfinite(row["low_90"]) else text
