"""How much of a vector is in what is sent of it, and how many of its k largest entries are.

Energy is the norm of what was sent over the norm of what it was chosen from (gradient and residual); recall the share
of the k largest entries that was sent. A compressor that sends more than k entries can have more of both.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables

_MEASURES = {"energy_captured": "energy captured", "recall": "recall of the top-k", "nnz_over_k": "sent / asked for"}
_KINDS = {
    "normal": {"color": "#0072B2", "marker": "o"},
    "student_t2": {"color": "#E69F00", "marker": "s"},
    "real": {"color": "#009E73", "marker": "D"},
}


def draw(tables: Tables) -> Figure:
    """A row of panels per density, arms below each other."""
    rows = tables.comparisons[(tables.comparisons["variant"] == "")]
    arms = [arm for arm in dict.fromkeys(rows.sort_values("arm_order")["arm"]) if arm not in ("rule", "history")]
    densities = sorted(rows["density"].unique())
    height = style.MARGIN_INCHES + (0.5 + 0.21 * len(arms)) * len(densities)
    figure = Figure(figsize=(style.WIDTH_INCHES, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    grid = figure.subplots(len(densities), len(_MEASURES), squeeze=False, sharey=True, sharex="col")
    for row, density in zip(grid, densities, strict=True):
        for axes, (measure, label) in zip(row, _MEASURES.items(), strict=True):
            _panel(axes, rows[rows["density"] == density], arms, measure)
            if density == densities[-1]:
                axes.set_xlabel(label)
        row[0].set_title(f"density {density:g}")
        row[0].set_yticks(range(len(arms)), arms)
        row[0].set_ylim(len(arms) - 0.5, -0.5)
    handles = [Line2D([], [], label=_panels.KINDS[kind], linestyle="none", **look) for kind, look in _KINDS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    steps, seeds = int(rows["steps"].max()), rows["seed"].nunique()
    text = (
        f"With error feedback, after the first step. Marks: mean over {steps} steps, layers and seeds (right: median); "
        "small marks: seeds."
    )
    _panels.caption(figure, tables, text, f"n = {seeds} seed{'s' if seeds > 1 else ''}.")
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, arms: list[str], measure: str) -> None:
    for place, arm in enumerate(arms):
        for shift, (kind, look) in zip((-0.24, 0.0, 0.24), _KINDS.items(), strict=True):
            own = rows[(rows["arm"] == arm) & (rows["input"] == kind)]
            seeds = (
                own.groupby("seed")[measure].median()
                if measure == "nnz_over_k"
                else own.groupby("seed")[measure].mean()
            )
            edge = {"linestyle": "none", "markeredgecolor": "white", "markeredgewidth": 0.4}
            axes.plot(seeds, [place + shift] * len(seeds), **look, **edge, markersize=2.8, alpha=0.6, zorder=3)
            axes.plot([seeds.mean()], [place + shift], **look, **edge, markersize=5.5, zorder=4)
    if measure == "nnz_over_k":
        axes.set_xscale("log")
        axes.axvline(1.0, color="0.3", linewidth=0.8, zorder=1)
        _panels.plain(axes.xaxis)
    else:
        axes.set_xlim(-0.03, 1.03)
    for place in range(0, len(arms), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="0.96", linewidth=0, zorder=0)
    axes.grid(axis="y", visible=False)
