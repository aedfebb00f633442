"""NES against the reference gradient by the number of antithetic pairs: cosine, and relative root mean square error.

Where the loss is linear over the width of the smoothing, n pairs in D dimensions give a cosine of sqrt(n / (n + D + 1))
and a relative error of sqrt((D + 1) / n); D is three times the square of the dimension, the weights of three hidden
layers. What falls short of that line is due to roundings, to curvature, or to noise of the reference. Horizontal: the
straight-through gradient and CDG, which take no samples, and the noise ceiling of the reference.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_ARM, _LINES = "nes", ("ste", "cdg")
_LAYERS = 3
_DODGE = 0.03
_MEASURES = {"cosine": "cosine", "rmse": "relative rmse"}
_THEORY = {"color": "0.5", "linestyle": "solid", "linewidth": 3.5, "alpha": 0.5, "zorder": 1}
_CEILING = {"color": "0.35", "linestyle": (0, (1.5, 1.2)), "linewidth": 1.4, "zorder": 2}


def draw(tables: Tables) -> Figure:
    """A column per dimension; rows are cosine and error, for each start."""
    layers = _panels.at(tables.further["layers"], task=_panels.TASK, tensor="all")
    rows = _panels.at(layers, arm=_ARM)
    figure, panels = _panels.by_start_and_dim(rows, tuple(_MEASURES))
    if rows.empty or _panels.levels(rows, "samples") == (None,):
        for axes in panels.values():
            _panels.absent(axes, f"no arm {_ARM} with an axis samples on a task {_panels.TASK}")
    else:
        looks = _panels.sequential(_panels.levels(rows, "sigma"))
        others = _panels.arms_in(tables, layers, _LINES)
        for (start, dim, measure), axes in panels.items():
            here = _panels.at(layers, start_from=start, dim=dim)
            _panel(axes, here, dim, measure, looks)
            _references(axes, tables, here, measure, others)
            style.fit_to_lines(axes, **({"ceiling": 1.04} if measure == "cosine" else {}))
            _panels.positive_ticks(axes, "y")
        _panels.label(panels, "antithetic pairs", _MEASURES)
        styles = _panels.arm_styles(tables)
        entries = _panels.keys({v: look for v, look in looks.items() if v is not None}, "sigma")
        entries += [Line2D([], [], label=arm, **_line(styles[arm])) for arm in others]
        entries += [Line2D([], [], label="noise ceiling", **_CEILING), Line2D([], [], label="linear loss", **_THEORY)]
        _panels.legend(figure, entries)
    text = (
        "Over all layers. Lines: mean over seeds; bars: 95 % t interval over seeds, cut by the axes. Error: root of "
        "squared bias plus variance, relative to the length of the reference. cdg: the variant that lowers its "
        "batches' loss furthest. Linear loss: sqrt(n / (n + D + 1)) and sqrt((D + 1) / n) for n pairs, "
        f"D = {_LAYERS} dim^2."
    )
    style.caption(figure, tables, text, tasks=(_panels.TASK,))
    return figure


def _panel(axes: Axes, here: pd.DataFrame, dim: float | None, measure: str, looks: dict) -> None:
    pairs = _panels.levels(_panels.at(here, arm=_ARM), "samples")
    _panels.number_ticks(axes, [n for n in pairs if n is not None])
    if measure == "rmse":
        axes.set_yscale("log")
    for i, (sigma, look) in enumerate(looks.items()):
        x, values = _panels.over_seeds(_panels.at(here, arm=_ARM, sigma=sigma), "samples", measure)
        beside = np.exp(_DODGE * (i - (len(looks) - 1) / 2))
        _panels.interval(axes, x * beside, values, **look, marker="o", markersize=4, zorder=4)
    if dim is not None and pairs != (None,):
        n, weights = np.geomspace(pairs[0], pairs[-1], 50), _LAYERS * dim**2
        predicted = {"cosine": np.sqrt(n / (n + weights + 1)), "rmse": np.sqrt((weights + 1) / n)}
        axes.plot(n, predicted[measure], **_THEORY)


def _references(axes: Axes, tables: Tables, here: pd.DataFrame, measure: str, arms: tuple[str, ...]) -> None:
    """Horizontal lines: what takes no samples."""
    styles, picked = _panels.arm_styles(tables), _panels.chosen(tables, here)
    for arm in arms:
        _panels.level_line(axes, _panels.at(picked, arm=arm).groupby("seed")[measure].mean(), **_line(styles[arm]))
    if measure == "cosine":
        _panels.level_line(axes, here.groupby("seed")["ceiling"].mean(), **_CEILING)


def _line(look: style.ArmStyle) -> dict:
    return {"color": look.colour, "linestyle": (0, (7, 2)), "linewidth": 1.6, "zorder": 3}
