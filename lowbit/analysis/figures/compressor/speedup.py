"""How many times faster than torch.topk(sorted=False), both with error feedback, against the claimed bands.

Ratios are of neighbouring measurements of one round. The bands are the field's claim for HGG-TopK: 2 to 3 times at
10,000 entries, 4 to 5 at 100,000, 6 to 10 from a million on.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables

_BANDS = ((10_000, 10_000, 2, 3), (100_000, 100_000, 4, 5), (1_000_000, None, 6, 10))  # from, to, times
_BAND = {"color": "#F0E442", "alpha": 0.6, "linewidth": 0}
_RECORDED = "hggtopk, recorded gradients"
_HOLLOW = {"markerfacecolor": "white", "linestyle": (0, (2, 1.5)), "linewidth": 1.4}
_WIDER = 1.6  # factor of N on either side of a band


def draw(tables: Tables) -> Figure:
    """A column per density that several sizes were timed at, a row per device."""
    arms = _panels.compared(_panels.timed_everywhere(tables))
    every, rows = _panels.looks(tables), _panels.rows_of(tables, arms)
    every[_RECORDED] = every["hggtopk"] | _HOLLOW | {"markeredgecolor": every["hggtopk"]["color"]}
    densities, devices = _panels.by_size(rows), _panels.devices(rows)
    figure, grid = _panels.panels(len(densities), 4.4, len(devices))
    for axes, device in zip(grid, devices, strict=True):
        for ax, density in zip(axes, densities, strict=True):
            _panel(ax, rows[(rows["device"] == device) & (rows["density"] == density)], arms, every)
            ax.set_title(_panels.title(f"density {density:g}", device))
        axes[0].set_ylabel("times faster than torch.topk")
    recorded = Line2D([], [], label=_RECORDED, **every[_RECORDED])
    _panels.legend(figure, tables, arms, more=[recorded, Patch(label="claimed for HGG-TopK", **_BAND)])
    text = (
        "Median of the rounds' ratios of time, bars from quartile to quartile; normal gradients but for the hollow "
        "marks. Above 1 a compressor is faster than top-k."
    )
    _panels.caption(figure, tables, text, _panels.rounds(rows))
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, arms: tuple[str, ...], every: dict[str, dict]) -> None:
    sizes = sorted(rows["n"].unique())
    _bands(ax, max(sizes))
    ax.axhline(1.0, color="0.3", linewidth=0.9, zorder=2)
    for arm, kind, look in (*((arm, "normal", arm) for arm in arms), ("hggtopk", "real", _RECORDED)):
        own = rows[(rows["arm"] == arm) & (rows["input"] == kind)].sort_values("n")
        _panels.with_quartiles(ax, own["n"].to_numpy(), own, "ratio_to_topk", **every[look])
    ax.set(yscale="log", xlim=(min(sizes) / 2.2, max(sizes) * 2.2))
    _panels.sizes_axis(ax, sizes)
    _panels.plain(ax.yaxis)


def _bands(ax: Axes, largest: int) -> None:
    for low, high, least, most in _BANDS:
        ax.fill_between([low / _WIDER, (high or max(largest, low)) * _WIDER], least, most, zorder=1, **_BAND)
