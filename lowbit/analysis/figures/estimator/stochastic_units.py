"""Estimators of stochastic binary units against enumeration, by the number of draws, from layer to layer.

The truth is the gradient over all states, so that no ceiling is needed. An unbiased estimate has no bias to show: its
relative root mean square error falls with the square root of the number of draws, which the slanted line shows.
"""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_TASK, _ARMS = "stochastic", ("reinforce", "arm", "disarm")
_MEASURES = {"cosine": "cosine", "rmse": "relative rmse"}
_ROOT = {"color": "0.5", "linestyle": (0, (1.5, 1.2)), "linewidth": 1.4, "zorder": 2}
_DODGE = 0.03


def draw(tables: Tables) -> Figure:
    """A column per layer; rows are cosine and error."""
    layers = _panels.at(tables.further["layers"], task=_TASK)
    arms = _panels.arms_in(tables, layers, _ARMS)
    rows = layers[layers["arm"].isin(arms) & (layers["tensor"] != "all")]
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 4.4), layout="constrained")
    if rows.empty or _panels.levels(rows, "samples") == (None,):
        _panels.absent(figure.subplots(), f"no arms {', '.join(_ARMS)} with an axis samples on a task {_TASK}")
    else:
        styles = _panels.arm_styles(tables)
        looks = {a: {"color": styles[a].colour, "linestyle": styles[a].dash, "marker": "o"} for a in arms}
        tensors = _panels.levels(rows, "tensor")
        grid = figure.subplots(len(_MEASURES), len(tensors), squeeze=False, sharex=True)
        for axes, (measure, tensor) in zip(grid.flat, itertools.product(_MEASURES, tensors), strict=True):
            _panel(axes, _panels.at(rows, tensor=tensor), measure, looks)
        for axes, tensor in zip(grid[0], tensors, strict=True):
            axes.set_title(tensor)
        for axes, name in zip(grid[:, 0], _MEASURES.values(), strict=True):
            axes.set_ylabel(name)
        for axes in grid[-1]:
            axes.set_xlabel("draws")
        entries = [Line2D([], [], label=arm, **look) for arm, look in looks.items()]
        _panels.legend(figure, [*entries, Line2D([], [], label="one over the root of the draws", **_ROOT)])
    text = (
        "Each layer against the gradient of all states. Lines: mean over seeds; bars: 95 % t interval over seeds, cut "
        "by the axes. Error: root of squared bias plus variance, relative to the length of the gradient. Slanted: one "
        "over the root of the draws, from the first mean of all arms."
    )
    style.caption(figure, tables, text, tasks=(_TASK,))
    return figure


def _panel(axes: Axes, here: pd.DataFrame, measure: str, looks: dict[str, dict]) -> None:
    draws = np.array(_panels.levels(here, "samples"))
    _panels.number_ticks(axes, draws)
    for number, (arm, look) in enumerate(looks.items()):
        x, values = _panels.over_seeds(_panels.at(here, arm=arm), "samples", measure)
        beside = np.exp(_DODGE * (number - (len(looks) - 1) / 2))
        _panels.interval(axes, x * beside, values, **look, markersize=4, zorder=4)
    if measure == "rmse":
        axes.set_yscale("log")
        axes.plot(draws, here.loc[here["samples"] == draws[0], measure].mean() * np.sqrt(draws[0] / draws), **_ROOT)
    style.fit_to_lines(axes, **({"ceiling": 1.04} if measure == "cosine" else {}))
    _panels.positive_ticks(axes, "y")
