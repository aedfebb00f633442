"""Test accuracy and loss against the effective temperature T / ln(b): base and temperature are one knob.

Softmax to base b at temperature T is softmax to base e at T / ln(b). Arms that share an effective temperature must
therefore coincide exactly, seed by seed, whatever base they are written in. Hollow markers are off this axis in
another way: a factor on the loss, or a softmax in one place only.
"""

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lowbit.analysis import style
from lowbit.analysis.tables import Tables

_MEASURES = (("test_accuracy_percent", "test accuracy (%)"), ("test_loss", "test loss (nats)"))


def draw(tables: Tables) -> Figure:
    """One row per task: accuracy left, loss right."""
    figure, grid = style.grid(tables, len(_MEASURES))
    for row, task in zip(grid, tables.tasks, strict=True):
        for axes, (measure, label) in zip(row, _MEASURES, strict=True):
            _panel(axes, tables, task, measure)
            axes.set_ylabel(label)
        row[0].set_title(task)
    for axes in grid[-1]:
        axes.set_xlabel("effective temperature T / ln(b)")
    style.legend(figure, tables)
    text = (
        "One marker per seed, bar at the mean; larger markers lie under smaller ones, so a small marker inside a large "
        "one is two equal runs. Hollow: not a pure change of temperature (a factor on the loss, or a softmax in one "
        "place only)."
    )
    style.caption(figure, tables, text)
    return figure


def _panel(axes: Axes, tables: Tables, task: str, measure: str) -> None:
    styles = style.arm_styles(tables)
    shown = [arm for arm in tables.arms_of(task) if np.isfinite(_temperature(tables.runs_of(task, arm)))]
    if not shown:
        style.empty(axes, "no arm has an effective temperature")
        return
    temperatures = sorted({_temperature(tables.runs_of(task, arm)) for arm in shown})
    axes.set_xscale("log")
    axes.set_xlim(temperatures[0] / 1.35, temperatures[-1] * 1.35)
    taken: Counter[float] = Counter()
    for arm in shown:
        runs = tables.runs_of(task, arm)
        x = _temperature(runs) * _beside(runs)
        dots = {**styles[arm].dots, "markersize": max(11 - 5 * taken[x], 4)}
        taken[x] += 1
        if not _pure(runs):
            dots = {**dots, "markerfacecolor": "none", "markeredgecolor": styles[arm].colour, "markeredgewidth": 1.2}
        axes.plot(np.full(len(runs), x), runs[measure], **dots, zorder=3 + taken[x])
        bar = {"marker": "_", "markersize": 26, "markeredgewidth": styles[arm].width / 2 + 0.4, "zorder": 2}
        axes.plot(x, runs[measure].mean(), color=styles[arm].colour, **bar)
    axes.xaxis.set_major_locator(FixedLocator(temperatures))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{t:.3g}" for t in temperatures])


def _temperature(runs: pd.DataFrame) -> float:
    return float(runs["effective_temperature"].iloc[0])


def _pure(runs: pd.DataFrame) -> bool:
    """Whether the arm is a change of temperature and of nothing else."""
    return runs["loss_scale"].iloc[0] == 1.0 and runs["softmax_where"].iloc[0] == "both"


def _beside(runs: pd.DataFrame) -> float:
    """Arms that are off the axis in another way stand a little to the right of their temperature."""
    return 1.0 if _pure(runs) else 1.07
