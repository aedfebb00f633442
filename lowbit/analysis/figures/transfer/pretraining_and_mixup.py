"""Test accuracy with and without pretraining and mixup, the paired differences, and accuracy against all epochs.

Pretraining is in full precision, and its epochs count: an arm that starts from it is drawn from the epoch at which
pretraining ended, after the grey curve of the pretraining itself. So arms that end at one epoch were trained for as
long.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lowbit.analysis import style
from lowbit.analysis.tables import Tables

_MEASURE = "test_accuracy_percent"
_WIDEST = 12.0


def draw(tables: Tables) -> Figure:
    """One row per task: accuracy by arm, paired differences, validation accuracy against epochs."""
    compared = tables.comparisons[tables.comparisons["measure"] == _MEASURE]
    lines = max(len(tables.arms), compared.groupby("task").size().max() if len(compared) else 0)
    settings = {"width_ratios": (1, 1, 1.3), "row_inches": max(style.ROW_INCHES, 0.8 + 0.36 * lines)}
    figure, grid = style.grid(tables, 3, **settings)
    for (accuracy, differences, curves), task in zip(grid, tables.tasks, strict=True):
        _accuracy(accuracy, tables, task)
        _differences(differences, tables, task, compared[compared["task"] == task])
        _curves(curves, tables, task)
        accuracy.set_title(task)
        curves.set_ylabel("validation accuracy (%)")
    for axes, label in zip(
        grid[-1], ("test accuracy (%)", "difference (points)", "epoch, pretraining counted"), strict=True
    ):
        axes.set_xlabel(label)
    style.legend(figure, tables)
    text = (
        "Left: one dot per seed, dots of a seed joined, bar at the mean; weights chosen on the validation split. "
        "Middle: paired by seed, mean with 90 % (thick) and 95 % (thin) t intervals. Right: mean over seeds, and "
        "each seed (thin); grey: pretraining in full precision."
    )
    style.caption(figure, tables, text)
    return figure


def _accuracy(axes: Axes, tables: Tables, task: str) -> None:
    arms, styles = tables.arms_of(task), style.arm_styles(tables)
    columns = {arm: tables.runs_of(task, arm).set_index("seed")[_MEASURE] for arm in arms}
    for seed in sorted({seed for column in columns.values() for seed in column.index}):
        present = [(column[seed], i) for i, column in enumerate(columns.values()) if seed in column.index]
        axes.plot(*zip(*present, strict=True), color="0.8", linewidth=0.8, zorder=1)
    for i, (arm, column) in enumerate(columns.items()):
        axes.plot(column, np.full(len(column), i), **styles[arm].dots, zorder=3)
        axes.plot(column.mean(), i, color=styles[arm].colour, marker="|", markersize=18, markeredgewidth=2, zorder=2)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)


def _differences(axes: Axes, tables: Tables, task: str, rows: pd.DataFrame) -> None:
    if rows.empty:
        style.empty(axes, "no two arms to compare")
        return
    styles = style.arm_styles(tables)
    axes.axvline(0, color="0.3", linewidth=0.8, zorder=1)
    for y, row in enumerate(rows.to_dict("records")):
        look = styles[row["arm"]]
        for share, width in ((95, 1.2), (90, 4.0)):
            bar = {"color": look.colour, "linewidth": width, "solid_capstyle": "butt", "zorder": 3}
            axes.plot([row[f"low_{share}"], row[f"high_{share}"]], [y, y], **bar)
        axes.plot(row["mean"], y, **{**look.dots, "marker": "D", "markersize": 7}, zorder=4)
        place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7}
        axes.annotate(_words(row), (0, y), bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5}, **place)
    limit = np.abs(rows[["low_95", "high_95", "mean"]].to_numpy(dtype=float))
    widest = float(np.nanmax(limit)) if np.isfinite(limit).any() else 1.0
    bound = max(1.08 * min(widest, _WIDEST), 1.15 * float(rows["mean"].abs().max()), 1.0)
    axes.set(xlim=(-bound, bound), ylim=(len(rows) - 0.5, -0.8))
    labels = (f"{arm}\nminus {baseline}" for arm, baseline in zip(rows["arm"], rows["baseline"], strict=True))
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    axes.grid(axis="y", visible=False)


def _words(row: dict) -> str:
    """Mean and 95 % interval."""
    text = f"{row['mean']:+.2f}"
    return f"{text} [{row['low_95']:+.2f}, {row['high_95']:+.2f}]" if math.isfinite(row["low_95"]) else text


def _curves(axes: Axes, tables: Tables, task: str) -> None:
    styles, ends = style.arm_styles(tables), set()
    for i, arm in enumerate(tables.arms_of(task)):
        before = float(tables.runs_of(task, arm)["epochs_before"].iloc[0])
        if before and before not in ends:
            ends.add(before)
            epochs, values = tables.curve(task, arm, "pretraining", "accuracy_percent", along="epoch")
            axes.plot(epochs, values.mean(axis=0), color="0.6", linewidth=1.6, zorder=2)
            axes.axvline(before, color="0.6", linestyle=":", linewidth=1, zorder=1)
        epochs, values = tables.curve(task, arm, "evaluation", "accuracy_percent", along="epoch")
        axes.plot(before + epochs, values.mean(axis=0), **styles[arm].line)
        axes.plot(before + epochs, values.T, color=styles[arm].colour, linewidth=0.6, alpha=0.4, zorder=2)
        axes.plot(before + epochs[-1:], values.mean(axis=0)[-1:], **styles[arm].dots, zorder=20 + i)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.fit_to_lines(axes, floor=0.0, ceiling=100.5)
