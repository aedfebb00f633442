"""Cosine of the straight-through gradient to the reference gradient, by the precision of the activations.

Per layer and over all layers: do more levels bring the gradient closer to the truth? Without any rounding the two are
the same up to the noise of the batches. The noise ceiling is the cosine of the reference itself to the truth, which is
as much as any estimator can show.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_TASK, _ALL = "precision", "all"
_WIDTH = 0.8


def draw(tables: Tables) -> Figure:
    """One panel: groups are tensors, columns of a group are precisions."""
    rows = _panels.at(tables.further["layers"], task=_TASK, arm=tables.baseline)
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 3.4), layout="constrained")
    axes = figure.subplots()
    precisions = _panels.levels(rows, "activation")
    if rows.empty or precisions == (None,):
        _panels.absent(axes, f"no arm {tables.baseline} on a task {_TASK} with an axis activation")
    else:
        _panel(axes, rows, precisions)
        looks = _marks(precisions)
        ceiling = Line2D([], [], color="0.35", linestyle=(0, (1.5, 1.2)), linewidth=1.4, label="noise ceiling")
        _panels.legend(figure, [*_panels.keys(looks), ceiling])
    text = (
        f"Arm {tables.baseline}. Dots: seeds, each the mean over its batches; bars: mean over seeds with its 95 % t "
        "interval; dotted: noise ceiling from the two halves of the reference, mean over seeds."
    )
    style.caption(figure, tables, text, tasks=(_TASK,))
    return figure


def _marks(precisions: tuple[str, ...]) -> dict[str, dict]:
    shades = _panels.sequential(precisions)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6, "linestyle": "none", "markersize": 6.5}
    return {
        p: {"color": look["color"], "marker": style.MARKERS[i % len(style.MARKERS)], **edge}
        for i, (p, look) in enumerate(shades.items())
    }


def _panel(axes: Axes, rows: pd.DataFrame, precisions: tuple[str, ...]) -> None:
    tensors = [*(t for t in rows["tensor"].unique() if t != _ALL), _ALL]
    looks, step = _marks(precisions), _WIDTH / len(precisions)
    for i, precision in enumerate(precisions):
        x = np.arange(len(tensors)) + (i - (len(precisions) - 1) / 2) * step
        for place, tensor in zip(x, tensors, strict=True):
            cell = _panels.at(rows, activation=precision, tensor=tensor).groupby("seed")[["cosine", "ceiling"]].mean()
            cosine = cell["cosine"].dropna().to_numpy(dtype=float)
            if not cosine.size:
                continue
            beside = place + step * np.linspace(-0.18, 0.18, len(cosine)) if len(cosine) > 1 else [place]
            axes.plot(beside, cosine, **looks[precision], zorder=4)
            ends = [place - 0.4 * step, place + 0.4 * step]
            axes.plot(ends, [cosine.mean()] * 2, color=looks[precision]["color"], linewidth=2.2, zorder=3)
            _panels.interval(axes, [place], cosine[:, None], color=looks[precision]["color"], linestyle="none")
            ceiling = {"color": "0.35", "linestyle": (0, (1.5, 1.2)), "linewidth": 1.4, "zorder": 2}
            axes.plot(ends, [cell["ceiling"].mean()] * 2, **ceiling)
    axes.set_xticks(range(len(tensors)), ["all layers" if t == _ALL else t for t in tensors])
    axes.grid(axis="x", visible=False)
    axes.set(xlabel="tensor", ylabel="cosine to the reference gradient", xlim=(-0.55, len(tensors) - 0.45))
    style.fit_to_lines(axes, ceiling=1.03)
