"""What the figures of the compressor study share: which arms they show and how, panels, captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from lowbit.analysis import style
from lowbit.analysis.compressions import BASELINES
from lowbit.analysis.tables import Tables

KINDS = {"normal": "normal", "student_t2": "heavy-tailed", "real": "recorded"}
NAMED = {
    "torch_topk": "torch.topk(sorted=False)",
    "torch_topk_sorted": "torch.topk(sorted=True)",
    "floor": "residual.add_(gradient)",
}
_FIRST = "hggtopk"
_HUES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8A8A2B")
_MARKS = ("s", "D", "^", "v", "P", "X", "*", "<", ">", "p")


def looks(tables: Tables) -> dict[str, dict[str, Any]]:
    """Line styles: the histogram's arms and the baselines stand out, every other has a colour and mark of its own."""
    found = {
        "torch_topk": {"color": "0.15", "linestyle": "solid", "marker": "", "linewidth": 2.2, "zorder": 4},
        "torch_topk_sorted": {"color": "0.15", "linestyle": (0, (1, 1.2)), "marker": "", "linewidth": 1.6, "zorder": 4},
        "floor": {"color": "0.55", "linestyle": (0, (5, 2)), "marker": "", "linewidth": 2.0, "zorder": 3},
        _FIRST: {"color": "#D55E00", "linestyle": "solid", "marker": "o", "linewidth": 2.6, "zorder": 9},
    }
    rest = [arm for arm in tables.arms if arm not in found]
    for i, arm in enumerate(rest):
        look = {"color": _HUES[i % len(_HUES)], "marker": _MARKS[i % len(_MARKS)], "linewidth": 1.2, "zorder": 5}
        found[arm] = {**look, "linestyle": style.DASHES[(i // len(_HUES)) % len(style.DASHES)]}
    return {
        arm: {**look, "markersize": 5.0, "markeredgecolor": "white", "markeredgewidth": 0.5}
        for arm, look in found.items()
    }


def named(arm: str) -> str:
    """An arm in a legend."""
    return NAMED.get(arm, arm)


def timed_everywhere(tables: Tables) -> tuple[str, ...]:
    """Arms in the order of the study that more than one size was timed of, and at the end what they are compared
    with."""
    sizes = tables.runs[tables.runs["variant"] == ""].groupby("arm")["n"].nunique()
    return tuple(arm for arm in tables.arms if sizes.get(arm, 0) >= min(2, tables.runs["n"].nunique()))


def rows_of(tables: Tables, arms: Sequence[str], kind: str | None = None) -> pd.DataFrame:
    """Times of arms as they are, without the variants of ablations, of one kind of input or of all."""
    rows = tables.runs[tables.runs["arm"].isin(arms) & (tables.runs["variant"] == "")]
    return rows if kind is None else rows[rows["input"] == kind]


def by_size(rows: pd.DataFrame) -> list[float]:
    """Densities that several sizes were timed at, or all."""
    counts = rows.groupby("density")["n"].nunique()
    return [density for density, count in counts.items() if count > 1] or sorted(counts.index)


def devices(rows: pd.DataFrame) -> list[str]:
    """Devices that times were taken on; a row of panels each."""
    return sorted(rows["device"].unique())


def panels(columns: int, height: float, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A grid of panels; height is that of a row."""
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + height * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    return figure, figure.subplots(rows, columns, squeeze=False)


def title(words: str, device: str) -> str:
    """A panel's title; the processor goes without saying."""
    return words if device == "cpu" else f"GPU, {words}"


def legend(figure: Figure, tables: Tables, arms: Sequence[str], columns: int = 5, more: Sequence[Line2D] = ()) -> None:
    """One legend above the figure."""
    every = looks(tables)
    handles = [Line2D([], [], label=named(arm), **every[arm]) for arm in arms]
    figure.legend(handles=[*handles, *more], loc="outside upper center", ncols=columns, handlelength=3.2)


def with_quartiles(axes: Axes, x: np.ndarray, rows: pd.DataFrame, metric: str, **look: Any) -> None:
    """Medians with a line, and bars between the quartiles."""
    axes.plot(x, rows[metric], **look)
    bars = {"color": look["color"], "linewidth": 1.0, "alpha": 0.7, "zorder": look["zorder"] - 0.5}
    axes.vlines(x, rows[f"{metric}_quartile_low"], rows[f"{metric}_quartile_high"], **bars)


def sizes_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """A logarithmic axis of numbers of entries."""
    axes.set_xscale("log")
    axes.set_xticks(list(sizes), [_short(n) for n in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("entries N")


def plain(axis: Any) -> None:
    """Plain numbers at the powers of ten of a logarithmic axis; without a power between, at 1, 2 and 5."""
    low, high = axis.get_view_interval()
    few = high < 30 * low
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def caption(figure: Figure, tables: Tables, text: str, count: str) -> None:
    """What the figure shows, what n counts, and the hardware."""
    hardware = " and ".join(sorted(tables.runs["hardware"].unique()))
    style.note(figure, f"{text} {count} Hardware: {hardware}.")


def rounds(rows: pd.DataFrame) -> str:
    """How many measurements stand behind each point."""
    least, most = int(rows["rounds"].min()), int(rows["rounds"].max())
    return f"n = {least} rounds per point." if least == most else f"n = {least} to {most} rounds per point."


def compared(arms: Sequence[str]) -> tuple[str, ...]:
    """Arms without what they are compared with."""
    return tuple(arm for arm in arms if arm not in BASELINES)


def _short(n: int) -> str:
    for unit, letter in ((1_000_000, "M"), (1_000, "K")):
        if n >= unit:
            return f"{n / unit:g}{letter}"
    return str(n)
