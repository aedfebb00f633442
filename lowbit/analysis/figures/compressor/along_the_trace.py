"""What is sent along a recorded training run, step after step with error feedback, layer by layer.

Above: entries sent over entries asked for. Middle: the distance of the smallest magnitude sent from the k-th largest
there was, relative to it, at the k that was asked for. Below: how often the last threshold was a good enough guess to
save a pass over memory, with history and without.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables

_ARMS = ("hggtopk", "hggtopk_inexact", "gaussian", "redsync", "dgcsampling", "sidco", "threshold_reuse")
_COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#8A8A2B")
_PUBLISHED = "_reference"
_LEAST_ERROR = 1e-4
_ROWS = {"nnz_over_k": "sent / asked for", "threshold_error": "threshold error", "hit": "history serves (%)"}


def draw(tables: Tables) -> Figure:
    """A column per layer, at the smallest density that was followed."""
    curves = tables.curves[tables.curves["density"] == tables.curves["density"].min()]
    layers = list(dict.fromkeys(curves["source"]))
    height = style.MARGIN_INCHES + 2.0 * len(_ROWS)
    figure = Figure(figsize=(style.WIDTH_INCHES, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05)
    grid = figure.subplots(len(_ROWS), len(layers), squeeze=False, sharex=True, sharey="row")
    every, arms = _looks(), _arms(tables)
    for column, layer in enumerate(layers):
        rows = curves[curves["source"] == layer]
        for axes, measure in zip(grid[:, column], _ROWS, strict=True):
            if measure == "hit":
                _hits(axes, rows)
            else:
                _lines(axes, rows, measure, arms, every)
        k, size = int(rows["k"].iloc[0]), int(rows["n"].iloc[0])
        grid[0, column].set_title(f"{layer}\nN = {size:,}, k = {k:,}", fontsize=9)
        grid[-1, column].set_xlabel("recorded step")
    for axes, label in zip(grid[:, 0], _ROWS.values(), strict=True):
        axes.set_ylabel(label)
    handles = [Line2D([], [], label=arm, **every[arm]) for arm in arms]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, handlelength=3.2)
    density, seeds = curves["density"].iloc[0], curves["seed"].nunique()
    text = (
        f"Density {density:g}, gradients of a training run before clipping. Above and middle: geometric mean over "
        f"seeds; nothing sent counts as half an entry and as an error of 1, errors below {_LEAST_ERROR:g} are drawn "
        "there. Broken lines: as published. Below: mean over seeds of the exact selection; grey: without history."
    )
    _panels.caption(figure, tables, text, f"n = {seeds} seed{'s' if seeds > 1 else ''} of the training run.")
    return figure


def _arms(tables: Tables) -> list[str]:
    present = set(tables.curves["arm"])
    return [arm for name in _ARMS for arm in (name, name + _PUBLISHED) if arm in present]


def _looks() -> dict[str, dict]:
    """Without marks, which 40 steps would crowd; the published code has its method's colour, broken."""
    found = {}
    for i, (arm, colour) in enumerate(zip(_ARMS, _COLOURS, strict=True)):
        solid = {"color": colour, "linestyle": "solid", "linewidth": 1.4 if i else 2.2, "zorder": 9 - i}
        found |= {arm: solid, arm + _PUBLISHED: {**solid, "linestyle": (0, (3, 1.2)), "linewidth": 1.1}}
    return found


def _lines(axes: Axes, rows: pd.DataFrame, measure: str, arms: list[str], every: dict[str, dict]) -> None:
    for arm in arms:
        own = rows[(rows["arm"] == arm) & (rows["variant"] == "")]
        wide = own.pivot_table(index="step", columns="seed", values=measure, dropna=False)
        if measure == "threshold_error":
            values = np.clip(np.nan_to_num(wide.to_numpy(), nan=1.0, posinf=1.0), _LEAST_ERROR, 10.0)
        else:
            values = np.maximum(wide.to_numpy(), 0.5 / own["k"].iloc[0])
        axes.plot(wide.index, np.exp(np.log(values).mean(axis=1)), **every[arm])
    if measure == "nnz_over_k":
        axes.axhline(1.0, color="0.3", linewidth=0.8, zorder=2)
    axes.set_yscale("log")
    _panels.plain(axes.yaxis)


def _hits(axes: Axes, rows: pd.DataFrame) -> None:
    for arm, variant, look in (
        ("history", "history false", {"color": "0.6", "linewidth": 2.0}),
        ("hggtopk", "", {"color": "#D55E00", "linewidth": 2.0}),
    ):
        own = rows[(rows["arm"] == arm) & (rows["variant"] == variant)]
        if own["hit"].notna().any() if "hit" in own else False:
            mean = 100 * own.groupby("step")["hit"].mean()
            axes.step(mean.index, mean, where="mid", **look)
    axes.set_ylim(-5, 105)
