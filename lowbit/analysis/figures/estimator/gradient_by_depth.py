"""Size and noise of gradients by depth, from the input to the output of the network.

Above, the mean magnitude of an entry; below, the variance over batches relative to the squared length of the reference
gradient of the layer. If errors of the straight-through estimator pile up toward the input, which is the left, its
magnitude drifts away there from that of CDG, the difference that the loss really shows.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.statistics import band
from lowbit.analysis.tables import Tables

_ARMS = ("ste", "window", "identity", "cdg")
_MEASURES = {"gradient_mean": "mean magnitude", "variance": "variance (relative)"}
_DODGE = 0.06


def draw(tables: Tables) -> Figure:
    """A column per dimension; rows are magnitude and variance, for each start."""
    layers = _panels.at(tables.further["layers"], task=_panels.TASK)
    layers = layers[layers["tensor"] != "all"]
    rows = _panels.chosen(tables, layers[layers["arm"].isin(_ARMS)])
    figure, panels = _panels.by_start_and_dim(rows, tuple(_MEASURES))
    for (start, dim, measure), axes in panels.items():
        here = _panels.at(rows, start_from=start, dim=dim).dropna(subset=[measure])
        if here.empty:
            _panels.absent(axes, f"no {measure} of {', '.join(_ARMS)}\non a task {_panels.TASK}")
        else:
            _panel(axes, tables, here, measure)
    _panels.label(panels, "layer, from the input", _MEASURES)
    _panels.legend(figure, _panels.arm_keys(tables, _panels.arms_in(tables, rows)))
    text = (
        "Each arm's chosen variant. Lines: mean over seeds; bars: 95 % t interval over seeds, cut by the axes; moved "
        "sideways so that arms can be told apart."
    )
    style.caption(figure, tables, text, tasks=(_panels.TASK,))
    return figure


def _panel(axes: Axes, tables: Tables, rows: pd.DataFrame, measure: str) -> None:
    tensors = {tensor: place for place, tensor in enumerate(rows["tensor"].unique())}
    arms = _panels.arms_in(tables, rows)
    rows = rows.assign(place=rows["tensor"].map(tensors))
    drawn = []
    for i, arm in enumerate(arms):
        look = _panels.arm_styles(tables)[arm]
        x, values = _panels.over_seeds(_panels.at(rows, arm=arm), "place", measure)
        x = x + _DODGE * (i - (len(arms) - 1) / 2)
        _panels.interval(axes, x, values, **{**_panels.dots(look), **look.line, "linewidth": 1.4})
        drawn.append(band(values)[0])
    _panels.positive_scale(axes, "y", pd.Series([v for mean in drawn for v in mean]).to_numpy())
    axes.set_xticks(list(tensors.values()), list(tensors))
    axes.set_xlim(-0.4, len(tensors) - 0.6)
    style.fit_to_lines(axes)
    _panels.positive_ticks(axes, "y")
