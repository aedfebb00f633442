"""Where the time of a step goes, by arm: parts of the step, work of the exchange beside it, and what is really paid.

With a pipeline the exchange runs in a thread of its own while backward computes the rest, so that its time (middle) is
no part of the step's. Exposed is a step minus one of the same seed that exchanges nothing.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.exchanges import NOTHING
from lowbit.analysis.figures.exchange import _panels
from lowbit.analysis.tables import Tables

_STEP = {"forward": "#B8B8B8", "backward": "#7F9FBF", "update": "#CDB56A", "other": "#E4E4E4"}
_EXCHANGE = {"compress": "#D55E00", "communicate": "#56B4E9", "decompress": "#009E73"}


def draw(tables: Tables) -> Figure:
    """A row per task: the step, the exchange, the exposed time."""
    most = max(len(tables.arms_of(task)) for task in tables.tasks)
    figure, grid = style.grid(tables, 3, row_inches=0.9 + 0.21 * most, width_ratios=(1.25, 1, 1))
    for (step, exchange, exposed), task in zip(grid, tables.tasks, strict=True):
        arms = tables.arms_of(task)
        parts = pd.DataFrame({arm: _milliseconds(tables.runs_of(task, arm)) for arm in arms})
        _stacked(step, parts, _STEP)
        _stacked(exchange, parts, _EXCHANGE)
        _say_what_is_not_told(exchange, parts)
        if NOTHING in set(tables.runs.loc[tables.runs["task"] == task, "method"]):
            step.axvline(_nothing(tables, task), color="black", linestyle=":", linewidth=1)
        _exposed(exposed, tables, task, arms)
        for axes, words in zip((step, exchange, exposed), (task, "work of the exchange", "exposed"), strict=True):
            axes.set_title(words)
            axes.set_xlabel("milliseconds")
        _panels.named(step, arms)
        for axes in (exchange, exposed):
            _panels.named(axes, arms, labels=False)
        step.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=4, fontsize=7, handlelength=1)
        exchange.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=3, fontsize=7, handlelength=1)
    text = (
        "Rank 0; medians over steps, means over seeds. Dotted: a step that exchanges nothing. Not told: PyTorch's "
        "hooks have no clocks for it. Exposed: difference to that step, dots per seed, mean with 95 % t interval. All "
        "arms are timed side by side, turn by turn in shuffled order."
    )
    style.caption(figure, tables, text)
    return figure


def _milliseconds(runs: pd.DataFrame) -> dict[str, float]:
    mean = {part: 1000 * runs[f"{part}_seconds"].mean() for part in (*_STEP, *_EXCHANGE, "step") if part != "other"}
    mean["other"] = mean["step"] - sum(mean[part] for part in _STEP if part != "other")
    return mean


def _nothing(tables: Tables, task: str) -> float:
    runs = tables.runs
    return 1000 * runs.loc[(runs["task"] == task) & (runs["method"] == NOTHING), "step_seconds"].mean()


def _stacked(axes: Axes, parts: pd.DataFrame, colours: dict[str, str]) -> None:
    left = np.zeros(parts.shape[1])
    for part, colour in colours.items():
        width = np.maximum(parts.loc[part].fillna(0).to_numpy(dtype=float), 0)
        axes.barh(range(len(left)), width, left=left, color=colour, height=0.72, label=part, linewidth=0)
        left += width


def _say_what_is_not_told(axes: Axes, parts: pd.DataFrame) -> None:
    for y, arm in enumerate(parts):
        if parts.loc[list(_EXCHANGE), arm].isna().any():
            axes.annotate(
                "not told", (0, y), xytext=(2, 0), textcoords="offset points", fontsize=6.5, va="center", color="0.4"
            )


def _exposed(axes: Axes, tables: Tables, task: str, arms: tuple[str, ...]) -> None:
    table, every, lines = tables.further["exposed"], _panels.looks(tables), _panels.arms(tables)["line"]
    rows = table[table["task"] == task].set_index("arm")
    axes.axvline(0, color="black", linestyle=":", linewidth=1)
    if not rows["n"].any():
        style.empty(axes, "no arm that exchanges nothing")
        return
    for y, arm in enumerate(arms):
        if arm in rows.index:
            look = every[lines[arm]]
            _panels.seeds(axes, y, 1000 * tables.runs_of(task, arm)["exposed_seconds"].to_numpy(), look)
            ends = [1000 * rows.loc[arm, "low_95"], 1000 * rows.loc[arm, "high_95"]]
            axes.plot(ends, [y, y], color=look["color"], linewidth=1.2, zorder=1)
    means = 1000 * rows["mean"].to_numpy(dtype=float)
    values = 1000 * tables.runs.loc[tables.runs["task"] == task, "exposed_seconds"].to_numpy(dtype=float)
    low, high = min(0, np.nanmin(values)), max(0, np.nanmax(values), np.nanmax(means))
    pad = 0.25 * (high - low) or 1.0
    axes.set_xlim(low - pad, high + pad)
