"""The cost model against the clock, and computed bytes against the kernel's counters.

Left, exchanges; middle, training steps; the band is 20 % either way. Filled marks were seen by the fit, hollow ones
held out. Right, what is computed to be sent, in percent of what the interfaces counted: payload alone, and framed.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lowbit.analysis import style
from lowbit.analysis.tables import Tables

_COLOURS = (*style.COLOURS[:7], "#8A8A2B", "#7F3C8D", "#555555", "#A6761D")
_BAND = {"color": "0.5", "alpha": 0.16, "linewidth": 0}
_TOLERANCE = 0.2
_TITLES = {"exchange": "An exchange", "training": "A training step"}


def draw(tables: Tables) -> Figure:
    """Three panels."""
    runs = tables.runs
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    arms, links = list(dict.fromkeys(runs["arm"])), list(dict.fromkeys(runs["task"]))
    colours = {arm: _COLOURS[i % len(_COLOURS)] for i, arm in enumerate(arms)}
    marks = {link: style.MARKERS[i % len(style.MARKERS)] for i, link in enumerate(links)}
    for ax, (kind, title) in zip(axes, _TITLES.items(), strict=False):
        _times(ax, runs[runs["kind"] == kind], colours, marks)
        ax.set_title(title)
    _bytes(axes[2], runs[(runs["kind"] == "exchange") & runs["counted_bytes"].notna()], colours, marks)
    handles = [Line2D([], [], label=arm, color=colours[arm], linewidth=4) for arm in arms]
    handles += [Line2D([], [], label=link, color="0.3", marker=marks[link], linestyle="none") for link in links]
    handles.append(
        Line2D(
            [], [], label="held out from the fit", color="0.3", marker="o", linestyle="none", markerfacecolor="white"
        )
    )
    handles.append(Patch(label="within 20 %", **_BAND))
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    fits = tables.further["fits"].set_index("setting")["value"]
    held = runs[runs["held_out"].astype(bool) & (runs["arm"] != "noop")]
    text = (
        f"Fitted: {1e6 * fits['latency of a message']:.0f} us a message and {1e9 * fits['host, for a byte']:.2f} ns a "
        f"byte on the host; computing, and what a step takes beside its exchange, were measured on other links. "
        f"Held out: {len(held)} measurements, "
        f"{(held['apart_percent'].abs() <= 100 * _TOLERANCE).sum()} of them within 20 %. "
        f"{int(runs['ranks'].iloc[0])} ranks. Hardware: {' and '.join(sorted(runs['hardware'].unique()))}."
    )
    style.note(figure, text)
    return figure


def _times(ax: Axes, rows: pd.DataFrame, colours: dict[str, str], marks: dict[str, str]) -> None:
    if rows.empty:
        style.empty(ax, "not measured")
        return
    measured, predicted = 1e3 * rows["seconds"], 1e3 * rows["predicted_seconds"]
    ends = np.array([0.7 * min(measured.min(), predicted.min()), 1.4 * max(measured.max(), predicted.max())])
    ax.fill_between(ends, ends * (1 - _TOLERANCE), ends * (1 + _TOLERANCE), **_BAND)
    ax.plot(ends, ends, color="0.4", linewidth=0.8)
    for x, y, row in zip(measured, predicted, rows.to_dict("records"), strict=True):
        face = "white" if row["held_out"] else colours[row["arm"]]
        look = {"markeredgecolor": colours[row["arm"]], "markerfacecolor": face, "markeredgewidth": 1.1}
        ax.plot(x, y, marker=marks[row["task"]], markersize=5.5, linestyle="none", **look)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured, ms", ylabel="predicted, ms")
    style.plain_log_ticks(ax.xaxis, ax.yaxis)


def _bytes(ax: Axes, rows: pd.DataFrame, colours: dict[str, str], marks: dict[str, str]) -> None:
    ax.set_title("Bytes, % of those counted")
    if rows.empty:
        style.empty(ax, "not counted here")
        return
    for row in rows.to_dict("records"):
        colour, x = colours[row["arm"]], row["payload_bytes"] / row["ranks"] / 1e3
        for column, face in (("payload_bytes", "white"), ("framed_bytes", colour)):
            look = {"markeredgecolor": colour, "markerfacecolor": face, "markeredgewidth": 1.0}
            share = 100 * row[column] / row["counted_bytes"]
            ax.plot(x, share, marker=marks[row["task"]], markersize=5, linestyle="none", **look)
    ax.axhspan(95, 105, color="0.5", alpha=0.16, linewidth=0)
    ax.axhline(100, color="0.4", linewidth=0.8)
    ax.set(xscale="log", xlabel="payload of a rank, kB", ylabel="framed (filled), payload (hollow)")
