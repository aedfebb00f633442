"""What the figures of the exchange study share: which arms are one line, how they look, names on axes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis.exchanges import NOTHING
from lowbit.analysis.tables import Tables

_FIXED = {"allreduce": "#000000", "hggtopk": "#D55E00", "topk": "#0072B2", NOTHING: "#888888"}
_HUES = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8A8A2B", "#7A4FBF", "#A0522D")
_FIXED_MARKS = {"allreduce": "D", "hggtopk": "o", "topk": "s", NOTHING: "x"}
_MARKS = ("^", "v", "P", "X", "<", ">", "p")
_DASHES = ((0, (3, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)), (0, (6, 3)))
_COLUMNS, _COLUMNS_OF_LONG, _SHORT = 7, 4, 12  # of the legend, where all its words are short and else
_PLAIN = {"scheme": ("", "allgather"), "granularity": ("", "layer")}


def line_of(row: dict[str, Any]) -> str:
    """What an arm is, whatever its density: arms that differ by density alone are one line."""
    if row["method"] != "sparse":
        return row["method"]
    words = [row["compressor"]] + [row[key] for key, plain in _PLAIN.items() if row[key] not in plain]
    if row["compressor"] != "none" and row["feedback"] != "residual":
        words.append("no feedback" if row["feedback"] == "none" else row["feedback"].replace("_", " "))
    words += [f"nodes of {row['ranks_per_node']}"] if row["ranks_per_node"] > 1 else []
    words += ["warm-up"] if row["warmup_stages"] else []
    return ", ".join(words + ([] if row["pipeline"] else ["no pipeline"]))


def arms(tables: Tables) -> pd.DataFrame:
    """One row per arm, in the order of the study: what it is, its density, and which line it belongs to."""
    found = tables.runs.sort_values("arm_order", kind="stable").drop_duplicates("arm").set_index("arm")
    found = found.assign(line=[line_of(row) for row in found.to_dict("records")])
    several = found.groupby("line")["further_settings"].transform("nunique") > 1
    named = [f"{line}, {arm.partition('-')[0]}" for arm, line in found["line"].items()]
    return found.assign(line=found["line"].where(~several, named))


def looks(tables: Tables) -> dict[str, dict[str, Any]]:
    """Colour and mark of every line: a colour per compressor or method, hollow and dashed where it is varied."""
    table = arms(tables)
    kinds = {line: line.partition(",")[0] for line in dict.fromkeys(table["line"])}
    order = list(dict.fromkeys(kinds.values()))
    free = [kind for kind in order if kind not in _FIXED]
    found, varied = {}, Counter()
    for line, kind in kinds.items():
        colour = _FIXED.get(kind) or _HUES[free.index(kind) % len(_HUES)]
        plain = line == kind
        place = 0 if kind in _FIXED else free.index(kind)
        marker = _FIXED_MARKS.get(kind) or _MARKS[(place + 3 * (place // len(_HUES))) % len(_MARKS)]
        before = varied[kind]
        varied[kind] += not plain
        dash = "solid" if plain else _DASHES[before % len(_DASHES)]
        if not plain and before >= len(_DASHES):
            marker = _MARKS[before % len(_MARKS)]
        mark = {"marker": marker, "markersize": 5.5, "markeredgewidth": 0.9}
        mark |= {"markeredgecolor": "white" if plain else colour, "markerfacecolor": colour if plain else "white"}
        found[line] = {"color": colour, "linestyle": dash, "linewidth": 1.5, **mark}
    return found


def legend(figure: Figure, tables: Tables, lines: Sequence[str]) -> None:
    """One legend above the figure."""
    every = looks(tables)
    handles = [Line2D([], [], label=line, **every[line]) for line in lines]
    columns = _COLUMNS if all(len(line) <= _SHORT for line in lines) else _COLUMNS_OF_LONG
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), columns), handlelength=2.6)


def named(axes: Axes, names: Sequence[str], labels: bool = True) -> None:
    """Arms down the vertical axis, the first above."""
    axes.set_yticks(range(len(names)), names if labels else [""] * len(names), fontsize=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def seeds(axes: Axes, y: float, values: np.ndarray, look: dict[str, Any]) -> None:
    """A dot per seed and a bar at the mean."""
    values = values[np.isfinite(values)]
    if values.size:
        axes.plot(values, np.full(values.size, y), **{**look, "linestyle": "none", "markersize": 4.5}, zorder=3)
        axes.plot(values.mean(), y, color=look["color"], marker="|", markersize=12, markeredgewidth=1.8, zorder=2)
