"""What several straight-through steps gain over a single one within one budget, with and without roundings.

    gain = (L_single - L_multi) / L_single

of the losses after the steps, in percent, by initialisation, which is the seed. A gain that the network without any
rounding shows as well is a trait of gradient descent, and not caused by binary activations. Filled: the best visited
point; hollow: the last one. Noise is a random displacement of the start, as a fraction of the budget. The single step
has its scan of lengths, so that the two do not cost the same: the small print says how many evaluations each took.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.estimate_comparisons import cross_fitted_rows, with_gains
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_MULTI, _SINGLE = "multi_step_ste", "ste"
_TASKS = {
    "budget": ("binary activations", "#0072B2"),
    "budget_full": ("full precision", "#D55E00"),
}
_MEASURES = {"gain": "gain, searched batch (%)", "gain_held_out": "gain, held-out batch (%)"}
_SETTINGS = ("optimizer", "noise_fraction", "keep")
_SPREAD = 0.7


def draw(tables: Tables) -> Figure:
    """A column per noise; searched batch above, held-out batch below."""
    rows = _gains(tables)
    noises, optimizers = _panels.levels(rows, "noise_fraction"), _panels.levels(rows, "optimizer")
    markers = dict(zip(optimizers, style.MARKERS, strict=False))
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 2.7 * len(_MEASURES)), layout="constrained")
    grid = figure.subplots(len(_MEASURES), len(noises), squeeze=False, sharex=True, sharey="row")
    for row, (measure, label) in zip(grid, _MEASURES.items(), strict=True):
        limits = []
        for axes, noise in zip(row, noises, strict=True):
            axes.set_title(_title(noise))
            if rows.empty:
                _panels.absent(axes, f"no task with the arms {_MULTI} and {_SINGLE}")
                continue
            _panel(axes, _panels.at(rows, noise_fraction=noise), markers, measure)
            axes.yaxis.set_tick_params(labelleft=True)
            limits.append(axes.get_ylim())
        if limits:
            row[0].set_ylim(np.min(limits), np.max(limits))
        row[0].set_ylabel(label)
    for axes in grid[-1]:
        axes.set_xlabel("initialisation")
    present = [task for task in _TASKS if task in set(rows["task"])]
    entries = [Line2D([], [], label=_TASKS[t][0], color=_TASKS[t][1], linewidth=3) for t in present]
    plain = {"linestyle": "none", "color": "0.3", "markersize": 7}
    entries += [Line2D([], [], label=o, marker=m, **plain) for o, m in markers.items() if o is not None]
    if "last" in _panels.levels(rows, "keep"):
        entries.append(Line2D([], [], label="last point", marker="o", markerfacecolor="white", **plain))
    _panels.legend(figure, entries)
    text = (
        f"{_MULTI} against {_SINGLE}, paired by batch. Marks: mean over the batches of an initialisation, each with "
        "the learning rate that gains most on the other batches (on the other seeds, of a single batch). "
        f"{_cost(rows)}"
    )
    style.caption(figure, tables, text, tasks=present)
    return figure


def _title(noise: float | None) -> str:
    if noise is None:
        return ""
    return f"start moved by up to {noise:g} of the budget" if noise else "start not moved"


def _gains(tables: Tables) -> pd.DataFrame:
    """Multi-step estimates with their gains over the single step of the same seed and batch."""
    runs = tables.runs[tables.runs["task"].isin(_TASKS)]
    both = with_gains(_panels.at(runs, arm=_MULTI), _panels.at(runs, arm=_SINGLE))
    return both.assign(evaluations=both["forward_evaluations"] + both["scan_evaluations"])


def _cost(rows: pd.DataFrame) -> str:
    """Forward evaluations of the two arms in words."""
    if rows.empty:
        return ""
    kept = [
        (f" to the {keep} point" if keep else "", _panels.at(rows, keep=keep)) for keep in _panels.levels(rows, "keep")
    ]
    several = " and ".join(f"{own['evaluations'].mean():.0f}{where}" for where, own in kept)
    return f"Forward evaluations: {_SINGLE} {rows['evaluations_single'].mean():.0f}, {_MULTI} {several}."


def _panel(axes: Axes, rows: pd.DataFrame, markers: dict, measure: str) -> None:
    within = [name for name in _SETTINGS if name in rows and rows[name].notna().all()]
    rows = cross_fitted_rows(rows, measure, within)
    seeds = _panels.levels(rows, "seed")
    cells = [(task, optimizer) for task in _TASKS for optimizer in markers]
    for i, (task, optimizer) in enumerate(cells):
        colour = _TASKS[task][1]
        for keep in _panels.levels(rows, "keep"):
            own = _panels.at(rows, task=task, optimizer=optimizer, keep=keep).groupby("seed")[measure].mean()
            x = np.searchsorted(seeds, own.index) + _SPREAD * ((i + 0.5) / len(cells) - 0.5)
            face = {"markerfacecolor": "white"} if keep == "last" else {"markeredgecolor": "white", "zorder": 5}
            axes.plot(
                x, own, **{"marker": markers[optimizer], "linestyle": "none", "color": colour, **face}, markersize=6
            )
    axes.axhline(0.0, color="0.25", linewidth=0.9, zorder=2)
    axes.set_xticks(range(len(seeds)), [str(seed) for seed in seeds])
    axes.set_xlim(-0.5, len(seeds) - 0.5)
    axes.grid(axis="x", visible=False)
    style.fit_to_lines(axes)
