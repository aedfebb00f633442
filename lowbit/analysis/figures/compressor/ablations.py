"""HGG-TopK with other settings, one at a time: what is sent, how near its threshold is, and what a call takes.

The first columns are the threshold by histogram alone (`exact=False`), where bins, gamma and beta decide what is sent;
the last are the exact selection, where they cannot, and only time and hits may change.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from lowbit.analysis import style
from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables

_BASE = ("bins", "num_bins 1024")
_ROWS = {
    "surplus": "sent beyond k (%)",
    "threshold_error": "threshold error (%)",
    "milliseconds": "time of a call (ms)",
}
_COLUMNS = {
    "bins": ("bins", None, ""),
    "gamma": ("gamma", _BASE, "1000"),
    "rule_inexact": ("binning", _BASE, "log"),
    "beta": ("beta", _BASE, "0.98"),
    "tolerance": ("tolerance", ("hggtopk_inexact", ""), "0.01"),
    "rule": ("binning, exact", ("history", "history false"), "log"),
    "history": ("history, exact", ("hggtopk", ""), "true"),
}
_COLOUR = {"normal": "#0072B2", "real": "#009E73"}
_MARK = {"normal": "o", "real": "D"}
_SHORT = {"log_relative": "relative", "float_bits": "floats"}


def draw(tables: Tables) -> Figure:
    """A column per setting; a row each for what is sent, the threshold, and time."""
    quality, times = _quality(tables), tables.runs[tables.runs["input"] == "normal"]
    times = times[times["device"] == _panels.devices(times)[0]]
    columns = [arm for arm in _COLUMNS if arm in set(quality["arm"])]
    size = times[times["arm"].isin(columns)]["n"].max()
    density = quality[quality["arm"].isin(columns)]["density"].min()
    quality, times = quality[quality["density"] == density], times[(times["n"] == size) & (times["density"] == density)]
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 2.0 * len(_ROWS)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05)
    grid = figure.subplots(len(_ROWS), max(len(columns), 1), squeeze=False, sharey="row", sharex="col")
    for column, arm in enumerate(columns):
        title, base, standing = _COLUMNS[arm]
        points = _points(tables, arm, base, standing)
        for axes, measure in zip(grid[:, column], _ROWS, strict=True):
            _panel(axes, times if measure == "milliseconds" else quality, points, measure)
        grid[0, column].set_title(title, fontsize=8.5)
        words = [_SHORT.get(value, value) for value in points]
        grid[-1, column].set_xticks(range(len(words)), words, fontsize=7, rotation=35, ha="right")
        grid[-1, column].set_xlim(-0.5, len(words) - 0.5)
    for axes, label in zip(grid[:, 0], _ROWS.values(), strict=True):
        axes.set_ylabel(label)
    handles = [axes for axes in grid[0, 0].get_lines() if axes.get_label() in _panels.KINDS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    text = (
        f"Density {density:g}. Above and middle: medians over steps and layers, mean and range over seeds; an exact "
        f"selection has 0 in both. Below: normal gradients of {size:,} entries, median and quartiles of the rounds. "
        "Ringed: the setting by default; tolerance is of the last threshold, with history."
    )
    seeds = quality["seed"].nunique()
    _panels.caption(figure, tables, text, f"n = {seeds} seed{'s' if seeds > 1 else ''}; {_panels.rounds(times)}")
    return figure


def _quality(tables: Tables) -> pd.DataFrame:
    rows = tables.comparisons
    rows = rows[rows["k"] >= 10]
    return rows.assign(surplus=100 * (rows["nnz_over_k"] - 1), threshold_error=100 * rows["threshold_error"])


def _points(tables: Tables, arm: str, base: tuple[str, str] | None, standing: str) -> dict[str, tuple[str, str, bool]]:
    """Value in words -> arm, variant, and whether it is the default; numbers rising."""
    variants = [v for v in dict.fromkeys(tables.runs.loc[tables.runs["arm"] == arm, "variant"]) if v]
    found = {v.rpartition(" ")[2]: (arm, v, (arm, v) == _BASE) for v in variants}
    if base is not None:
        found = {standing: (*base, True)} | found
    if all(_is_number(value) for value in found):
        found = dict(sorted(found.items(), key=lambda item: float(item[0])))
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _panel(axes: Axes, rows: pd.DataFrame, points: dict[str, tuple[str, str, bool]], measure: str) -> None:
    kinds = ("normal",) if measure == "milliseconds" else tuple(_COLOUR)
    for kind, shift in zip(kinds, (0.0,) if len(kinds) == 1 else (-0.13, 0.13), strict=True):
        middle, low, high = [], [], []
        for arm, variant, _ in points.values():
            own = rows[(rows["arm"] == arm) & (rows["variant"] == variant) & (rows["input"] == kind)]
            if measure == "milliseconds":
                found = own[[measure, f"{measure}_quartile_low", f"{measure}_quartile_high"]].mean()
                values = found.to_numpy(dtype=float)
            else:
                seeds = own.groupby("seed")[measure].median()
                values = np.array([seeds.mean(), seeds.min(), seeds.max()], dtype=float)
            for column, value in zip((middle, low, high), values, strict=True):
                column.append(value)
        x, look = np.arange(len(points)) + shift, {"color": _COLOUR[kind], "marker": _MARK[kind]}
        edge = {"markeredgecolor": "white", "markeredgewidth": 0.4, "linewidth": 1.0, "markersize": 5.5}
        axes.plot(x, middle, **look, **edge, label=_panels.KINDS[kind], zorder=4)
        axes.vlines(x, low, high, color=look["color"], linewidth=1.0, zorder=3)
        for place, value, (_, _, default) in zip(x, middle, points.values(), strict=True):
            if default:
                axes.plot(place, value, marker="o", markersize=11, color="0.2", fillstyle="none", zorder=5)
    axes.grid(axis="x", visible=False)
    if measure == "milliseconds":
        axes.set_yscale("log")
        _panels.plain(axes.yaxis)
    else:
        axes.set_yscale("symlog", linthresh=1.0)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.axhline(0.0, color="0.3", linewidth=0.8, zorder=2)
