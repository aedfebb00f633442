"""Straight-through windows of other widths in a trained network: what they gain, and how large and noisy they are.

By width of the window, a line per layer counted from the input. A window acts on all roundings behind the layer, not on
its own weights: the pass rate is the share of those roundings that let a gradient through. If narrow windows helped,
the upper lines would rise to the left. Below stand what a window trades, its bias and its variance over batches, and
the mean magnitude of the gradient's entries, which tells front from back.
"""

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels, _windows
from lowbit.analysis.tables import Tables

_TASK = "xnor"
_MEASURES = {
    "percent_held_out": "held-out decrease (%)",
    "pass_rate": "pass rate (%)",
    "bias": "bias (relative)",
    "gradient_mean": "mean magnitude",
    "variance": "variance (relative)",
}


def draw(tables: Tables) -> Figure:
    """A column per network and start, a row per measure."""
    rows = _windows.sweep(tables, _TASK)
    columns = list(itertools.product(_panels.levels(rows, "of"), _panels.levels(rows, "start_from")))
    layers = _panels.levels(rows, "layer")
    looks = _panels.sequential(layers)
    height = style.MARGIN_INCHES + 1.9 * len(_MEASURES)
    figure = Figure(figsize=(style.WIDTH_INCHES, height), layout="constrained")
    grid = figure.subplots(len(_MEASURES), len(columns), squeeze=False, sharex=True)
    for line, (measure, label) in zip(grid, _MEASURES.items(), strict=True):
        for axes, (network, start) in zip(line, columns, strict=True):
            axes.set_title(_panels.words(network=network, start=start))
            here = _panels.at(rows, of=network, start_from=start)
            if here.empty or not (here["arm"] == _windows.ARM).any():
                _panels.absent(axes, f"no arm {_windows.ARM} on a task {_TASK}")
                continue
            _panel(axes, here.dropna(subset=[measure]), measure, looks)
        line[0].set_ylabel(label)
    for axes in grid[-1]:
        axes.set_xlabel("window width")
    _panels.legend(figure, _panels.keys({_panels.layer_words(v): look for v, look in looks.items() if v is not None}))
    text = (
        f"Mean over seeds; bars: 95 % t interval over seeds, cut by the axes. Arm {_windows.ARM}, and "
        f"{_windows.CLIPPED} at width 1. Bias relative to the length of the reference, variance over batches to its "
        "square."
    )
    style.caption(figure, tables, text, tasks=(_TASK,))
    return figure


def _panel(axes: Axes, rows, measure: str, looks: dict) -> None:
    _panels.number_ticks(axes, [w for w in _panels.levels(rows, "width") if w is not None])
    if measure in ("gradient_mean", "variance") and len(rows):
        _panels.positive_scale(axes, "y", rows[measure].to_numpy(dtype=float))
    for layer, look in looks.items():
        x, values = _panels.over_seeds(_panels.at(rows, layer=layer), "width", measure)
        _panels.interval(axes, x, values, **look, marker="o", markersize=3.5, zorder=4)
    style.fit_to_lines(axes, **({"floor": -2.0, "ceiling": 102.0} if measure == "pass_rate" else {}))
    _panels.positive_ticks(axes, "y")
