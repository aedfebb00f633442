"""Every surrogate of the rounding: the derivative that backward passes use, and the function that it belongs to.

The sign jumps by 2, so that a surrogate whose derivative integrates to 2 (its mass) is the derivative of a smooth
function that agrees with the sign far out. A mass above 2 lets gradient through where the network does not react; the
identity's is infinite. Settings of a surrogate are lines, its defaults the black one.
"""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_COLUMNS, _ROW_INCHES = 3, 1.7
_DEFAULT = {"color": "black", "linestyle": "solid", "linewidth": 2.2, "zorder": 3}


def draw(tables: Tables) -> Figure:
    """Three surrogates beside each other, each with its derivative above its antiderivative."""
    table = tables.further["surrogates"]
    names = table["surrogate"].unique() if len(table) else []
    blocks = max(-(-len(names) // _COLUMNS), 1)
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 2 * _ROW_INCHES * blocks), layout="constrained")
    grid = figure.subplots(2 * blocks, _COLUMNS, squeeze=False, sharex=True)
    for axes in grid.flat[:]:
        axes.set_visible(False)
    if not len(names):
        grid[0, 0].set_visible(True)
        _panels.absent(grid[0, 0], "no surrogates")
    for i, name in enumerate(names):
        row, column = 2 * (i // _COLUMNS), i % _COLUMNS
        _surrogate(grid[row, column], grid[row + 1, column], table[table["surrogate"] == name])
    style.note(figure, "u: argument of the rounding. Tabulated from the formulas: no seeds, the same on any hardware.")
    return figure


def _surrogate(derivative: Axes, antiderivative: Axes, rows: pd.DataFrame) -> None:
    settings = list(rows["setting"].unique())
    others = [setting for setting in settings if setting != "default"]
    looks = {"default": _DEFAULT, **{s: {**look, "zorder": 4} for s, look in _panels.sequential(others).items()}}
    for setting in settings:
        own = rows[rows["setting"] == setting].sort_values("u")
        words = f"{setting.replace('=True', '').replace('=', ' ')}, mass {_mass(own)}"
        derivative.plot(own["u"], own["surrogate_gradient"], **looks[setting], label=words)
        antiderivative.plot(own["u"], own["antiderivative"], **looks[setting])
    title = rows[rows["setting"] == settings[0]]
    derivative.set_title(f"{rows['surrogate'].iloc[0]}, mass {_mass(title)}")
    derivative.set_ylabel("derivative")
    antiderivative.set(ylabel="antiderivative", xlabel="u")
    for axes in (derivative, antiderivative):
        axes.set_visible(True)
        axes.tick_params(labelbottom=axes is antiderivative)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    low, high = derivative.get_ylim()
    derivative.set_ylim(min(low, -0.05 * high), high)
    if others:
        # Room for the legend above the curves.
        low, high = antiderivative.get_ylim()
        antiderivative.set_ylim(low, high + 0.1 * len(settings) * (high - low))
        handles, labels = derivative.get_legend_handles_labels()
        place = {"loc": "upper left", "fontsize": 6.5, "handlelength": 2.2, "borderaxespad": 0.1, "labelspacing": 0.25}
        antiderivative.legend(handles, labels, **place)


def _mass(rows: pd.DataFrame) -> str:
    mass = float(rows["mass"].iloc[0])
    return "infinite" if math.isinf(mass) else f"{mass:.4g}"
