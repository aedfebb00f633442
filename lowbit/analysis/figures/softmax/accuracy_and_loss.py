"""Validation accuracy and loss over training, per arm: mean over seeds with 95 % bands.

Losses are nats for every arm, whatever base its softmax uses, with bits on a second axis: one nat is 1.4427 bits. A
control and its target lie exactly on each other; the control's broken line shows above the other. The dotted line is
the reference accuracy whose reaching is timed, 90 % of the baseline's mean best.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.tables import Tables
from lowbit.variant import LN2


def draw(tables: Tables) -> Figure:
    """One row per task: accuracy left, loss right."""
    figure, grid = style.grid(tables, 2)
    for (accuracy, loss), task in zip(grid, tables.tasks, strict=True):
        _panel(accuracy, tables, task, "accuracy_percent")
        _panel(loss, tables, task, "loss")
        accuracy.set(title=task, ylabel="validation accuracy (%)")
        _reference(accuracy, tables, task)
        loss.set_ylabel("validation loss (nats)")
        bits = loss.secondary_yaxis("right", functions=(lambda nats: nats / LN2, lambda bits: bits * LN2))
        bits.set_ylabel("(bits)")
    for axes in grid[-1]:
        axes.set_xlabel("optimizer step")
    style.legend(figure, tables)
    style.caption(figure, tables, "Lines: mean over seeds; bands: 95 % t interval of the mean.")
    return figure


def _panel(axes: Axes, tables: Tables, task: str, measure: str) -> None:
    styles, arms = style.arm_styles(tables), tables.arms_of(task)
    for i, arm in enumerate(arms):
        steps, values = tables.curve(task, arm, "evaluation", measure)
        style.curve(axes, styles[arm], steps, values)
        # Arms take turns at the evaluations, so that markers of arms that coincide stand beside each other.
        turns = min(len(arms), max(len(steps), 1))
        axes.plot(steps, values.mean(axis=0), **styles[arm].dots, markevery=(i % turns, turns), zorder=20 + i)
    style.fit_to_lines(axes, floor=0.0, ceiling=100.5 if measure == "accuracy_percent" else np.inf)


def _reference(axes: Axes, tables: Tables, task: str) -> None:
    reference = tables.runs.loc[tables.runs["task"] == task, "reference_accuracy_percent"].iloc[0]
    low, high = axes.get_ylim()
    if low < reference < high:
        axes.axhline(reference, color="0.4", linestyle=":", linewidth=1)
        place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 2), "textcoords": "offset points"}
        axes.annotate(f"reference {reference:.1f} %", (0.01, reference), color="0.4", fontsize=8, **place)
