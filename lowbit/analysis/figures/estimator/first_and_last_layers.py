"""CDG against the straight-through gradient, batch by batch, where a single layer of a trained network may move.

Percent by which the best step lowers the loss of a held-out batch, for layers counted from the input. If errors of
straight-through gradients pile up on their way back, CDG lies above near the input and not in the last layers. Each
panel says on how many batches CDG falls further, and with which settings: those that do best on other batches.
"""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.estimate_comparisons import cross_fitted_rows
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_TASK, _STE, _CDG, _MEASURE = "xnor", "ste", "cdg", "percent_held_out"
_GAP = 1.0  # between seeds, in batches


def draw(tables: Tables) -> Figure:
    """A column per layer; a row per network and start."""
    rows = _panels.at(tables.runs, task=_TASK)
    rows = cross_fitted_rows(rows[rows["arm"].isin((_STE, _CDG))], _MEASURE)
    layers = _panels.levels(rows, "layer")
    lines = list(itertools.product(_panels.levels(rows, "of"), _panels.levels(rows, "start_from")))
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 2.8 * len(lines)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    grid = figure.subplots(len(lines), len(layers), squeeze=False)
    for row, (network, start) in zip(grid, lines, strict=True):
        for axes, layer in zip(row, layers, strict=True):
            axes.set_title(_panels.words(network=network, layer=_panels.layer_words(layer), start=start), fontsize=9)
            _panel(axes, tables, _panels.at(rows, of=network, layer=layer, start_from=start))
        row[0].set_ylabel("held-out decrease (%)")
    _panels.legend(figure, _panels.arm_keys(tables, _panels.arms_in(tables, rows), lines=False))
    text = (
        "Percent of the loss at the start. A pair of marks is one batch; horizontal lines: means over them. "
        "CDG on each batch with the half-width epsilon that does best on the other batches (on the other seeds, of a "
        "single batch); steps are medians of the best ones. Only some weights of a layer may move where the problem "
        "says so, the same for both."
    )
    style.caption(figure, tables, text, tasks=(_TASK,))
    return figure


def _panel(axes: Axes, tables: Tables, rows: pd.DataFrame) -> None:
    pairs = rows.pivot_table(index=["seed", "batch"], columns="arm", values=_MEASURE) if len(rows) else rows
    if not {_STE, _CDG} <= set(pairs.columns):
        _panels.absent(axes, f"no arms {_STE} and {_CDG}\non a task {_TASK}")
        return
    pairs = pairs.dropna()
    seeds = pairs.index.get_level_values("seed")
    x = np.arange(len(pairs)) + _GAP * np.searchsorted(seeds.unique(), seeds)
    axes.vlines(x, pairs.min(axis=1), pairs.max(axis=1), color="0.7", linewidth=1.0, zorder=2)
    for arm in (_STE, _CDG):
        look = _panels.arm_styles(tables)[arm]
        axes.plot(x, pairs[arm], **_panels.dots(look, 5.5), zorder=4)
        axes.axhline(pairs[arm].mean(), color=look.colour, linestyle=look.dash, linewidth=1.1, zorder=3)
    axes.axhline(0.0, color="0.25", linewidth=0.9, zorder=1)
    groups = pd.Series(x).groupby(np.asarray(seeds)).mean()
    axes.set_xticks(groups, [f"seed {seed}" for seed in groups.index])
    axes.margins(x=0.08)
    style.fit_to_lines(axes)
    wins = int((pairs[_CDG] > pairs[_STE]).sum())
    said = [f"{_CDG} further on {wins} of {len(pairs)}", *(_setting(rows, arm) for arm in (_STE, _CDG))]
    axes.set_xlabel("\n".join(said), fontsize=7.5)


def _setting(rows: pd.DataFrame, arm: str) -> str:
    """Variants taken and usual best step of an arm, the variant of most batches first."""
    own = _panels.at(rows, arm=arm)
    taken = [variant for variant in own["variant"].value_counts().index if variant]
    variant = f" {' or '.join(taken)}," if taken else ""
    return f"{arm}:{variant} step {own['rate'].median():.2g}"
