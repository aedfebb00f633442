"""Bias and variance of every estimator about the reference gradient, and what a straight-through window trades.

Above: each arm's chosen variant; bias is the distance of its mean from the reference, variance its spread over batches,
both relative to the length of the reference. Beyond the dotted curve, where squared bias plus variance is one, a
gradient is further from the reference than zero is. Below: a narrow window should mean less bias, and fewer samples
inside it, which the pass rate counts; the width 1 is the ordinary clipped estimator.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels, _windows
from lowbit.analysis.tables import Tables

_SWEEP = {
    "bias": "bias (relative)",
    "variance": "variance (relative)",
    "pass_rate": "pass rate (%)",
    "percent_held_out": "held-out decrease (%)",
}
_ROW_INCHES = 2.5
_TWO = "no bias and variance:\nneeds two batches"


def draw(tables: Tables) -> Figure:
    """The plane by start and dimension above, the sweep of the window by start below."""
    rows = _panels.at(tables.further["layers"], task=_panels.TASK, tensor="all")
    planes, sweep = _panels.chosen(tables, rows), _windows.sweep(tables, _panels.TASK)
    starts, dims = _panels.levels(rows, "start_from"), _panels.levels(rows, "dim")
    height = style.MARGIN_INCHES + 2 * _ROW_INCHES * len(starts)
    figure = Figure(figsize=(style.WIDTH_INCHES, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    above, below = figure.add_gridspec(2, 1)
    cells = above.subgridspec(len(starts), len(dims)), below.subgridspec(len(starts), len(_SWEEP))
    looks = _panels.sequential(dims)
    for i, start in enumerate(starts):
        for j, dim in enumerate(dims):
            axes = figure.add_subplot(cells[0][i, j])
            axes.set_title(_panels.words(dim=dim, start_from=start))
            _plane(axes, tables, _panels.at(planes, start_from=start, dim=dim))
            axes.set(xlabel="bias (relative)", ylabel="variance (relative)" if not j else "")
        for j, (measure, label) in enumerate(_SWEEP.items()):
            axes = figure.add_subplot(cells[1][i, j])
            axes.set_title(_panels.words(what="window", start_from=start))
            _sweep(axes, _panels.at(sweep, start_from=start), measure, looks)
            axes.set(xlabel="window width", ylabel=label)
    entries = _panels.arm_keys(tables, _panels.arms_in(tables, planes), lines=False)
    _panels.legend(figure, [*entries, *_panels.keys({d: look for d, look in looks.items() if d is not None}, "dim")])
    text = (
        "Over all layers. Pass rate: share of the roundings that let a gradient through. "
        "Above: large marks are means over seeds, small ones seeds. Below: mean over seeds; bars: "
        f"95 % t interval over seeds, cut by the axes; arm {_windows.ARM}, and {_windows.CLIPPED} at width 1."
    )
    style.caption(figure, tables, text, tasks=(_panels.TASK,))
    return figure


def _plane(axes: Axes, tables: Tables, rows: pd.DataFrame) -> None:
    rows = rows.dropna(subset=["bias", "variance"])
    if rows.empty:
        _panels.absent(axes, _TWO)
        return
    for which, measure in (("x", "bias"), ("y", "variance")):
        _panels.positive_scale(axes, which, rows[measure].to_numpy(dtype=float))
    for i, arm in enumerate(_panels.arms_in(tables, rows)):
        look = _panels.arm_styles(tables)[arm]
        seeds = _panels.at(rows, arm=arm).groupby("seed")[["bias", "variance"]].mean()
        axes.plot(seeds["bias"], seeds["variance"], **{**_panels.dots(look, 3), "alpha": 0.5}, zorder=3)
        mean = seeds.mean()
        axes.plot(mean["bias"], mean["variance"], **_panels.dots(look, 7.5), zorder=5 + i)
    limits = axes.axis()
    angle = np.linspace(0.0, np.pi / 2, 400)
    bias = np.concatenate([np.geomspace(1e-6, 0.01, 20), np.sin(angle[5:-1])])
    axes.plot(bias, 1 - bias**2, color="0.4", linestyle=":", linewidth=1.1, zorder=2)
    axes.axis(limits)
    for which in "xy":
        _panels.positive_ticks(axes, which)


def _sweep(axes: Axes, rows: pd.DataFrame, measure: str, looks: dict) -> None:
    if rows.empty or measure not in rows or not (rows["arm"] == _windows.ARM).any():
        _panels.absent(axes, f"no arm {_windows.ARM}")
        return
    if rows[measure].isna().all():
        _panels.absent(axes, _TWO)
        return
    _panels.number_ticks(axes, [w for w in _panels.levels(rows, "width") if w is not None])
    axes.tick_params(axis="x", labelsize=7, labelrotation=45)
    if measure in ("bias", "variance"):
        _panels.positive_scale(axes, "y", rows[measure].dropna().to_numpy(dtype=float))
    for dim, look in looks.items():
        x, values = _panels.over_seeds(_panels.at(rows, dim=dim), "width", measure)
        _panels.interval(axes, x, values, **look, marker="o", markersize=3.5, zorder=4)
    style.fit_to_lines(axes, **({"floor": -2.0, "ceiling": 102.0} if measure == "pass_rate" else {}))
    _panels.positive_ticks(axes, "y")
