"""Seconds of training until the reference accuracy or perplexity, by arm: measured here, and computed over links.

The reference is 90 % of the baseline's mean best validation accuracy, for all arms; of text, 1.1 times its best
perplexity. Over a link a step is the one
measured on loopback and, without overlap, the time of its bytes and messages. Start and evaluations are left out.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.exchanges import COMPUTED, LOOPBACK, NOTHING, RATES
from lowbit.analysis.figures.exchange import _panels
from lowbit.analysis.tables import Tables

_LINKS = (LOOPBACK, *tuple(RATES)[:3])


def draw(tables: Tables) -> Figure:
    """A row per task, a panel per link."""
    most = max(len(_arms(tables, task)) for task in tables.tasks)
    figure, grid = style.grid(tables, len(_LINKS), row_inches=0.8 + 0.21 * most, width_ratios=(1.05, 1, 1, 1))
    for row, task in zip(grid, tables.tasks, strict=True):
        arms = _arms(tables, task)
        for axes, link in zip(row, _LINKS, strict=True):
            _times(axes, tables, task, arms, link)
            computed = link != LOOPBACK
            axes.set_title(f"{link}, {'computed' if computed else 'measured'}", fontsize=9)
            axes.set_xlabel("seconds to the reference")
            _panels.named(axes, arms, labels=not computed)
        row[0].set_ylabel(task)
    reference = ", ".join(_reference(tables.runs_of(task, tables.baseline).iloc[0]) for task in tables.tasks)
    text = (
        f"Reference: validation {reference}. A dot per seed, bar at the mean; dotted: {tables.baseline}'s. "
        "x: never reached, <: before the first evaluation, in as many of the runs. "
        f"Computed: {COMPUTED.replace(' us', ' µs')} (assumed)."
    )
    style.caption(figure, tables, text)
    return figure


def _reference(run: pd.Series) -> str:
    if run["metric"] == "perplexity":
        return f"perplexity {run['reference_perplexity']:.1f}"
    return f"accuracy {run['reference_accuracy_percent']:.1f} %"


def _arms(tables: Tables, task: str) -> list[str]:
    return [arm for arm in tables.arms_of(task) if tables.runs_of(task, arm)["method"].iloc[0] != NOTHING]


def _times(axes: Axes, tables: Tables, task: str, arms: list[str], link: str) -> None:
    every, lines, table = _panels.looks(tables), _panels.arms(tables)["line"], tables.further["links"]
    rows = table[(table["task"] == task) & (table["link"] == link)]
    axes.set_xscale("log")
    longest = rows["seconds_to_reference"].max()
    for y, arm in enumerate(arms):
        own = rows[rows["arm"] == arm]
        counts = own["censored"].value_counts()
        reached = own[~own["censored"].isin(("left", "right"))]["seconds_to_reference"].to_numpy(dtype=float)
        _panels.seeds(axes, y, reached, every[lines[arm]])
        if len(reached) < len(own):
            marks = {"x": counts.get("right", 0), "<": counts.get("left", 0)}
            words = ", ".join(f"{mark} {count} of {len(own)}" for mark, count in marks.items() if count)
            axes.annotate(
                words, (1.25 * longest, y), fontsize=6.5, ha="left", va="center", color=every[lines[arm]]["color"]
            )
        if arm == tables.baseline and len(reached):
            axes.axvline(reached.mean(), color="black", linestyle=":", linewidth=1)
    known = rows["seconds_to_reference"].to_numpy(dtype=float)
    axes.set_xlim(0.8 * np.nanmin(known), 2.2 * longest)
    style.plain_log_ticks(axes.xaxis)
