"""How many times faster than torch.topk(sorted=False), both with error feedback, against the claimed bands.

Ratios are of neighbouring measurements of one round. The bands are the field's claim for HGG-TopK: 2 to 3 times at
10,000 entries, 4 to 5 at 100,000, 6 to 10 from a million on.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables

_BANDS = ((10_000, 10_000, 2, 3), (100_000, 100_000, 4, 5), (1_000_000, None, 6, 10))  # from, to, times
_BAND = {"color": "#F0E442", "alpha": 0.6, "linewidth": 0}
_WIDER = 1.6  # factor of N on either side of a band


def draw(tables: Tables) -> Figure:
    """A column per density that several sizes were timed at."""
    arms = _panels.compared(_panels.timed_everywhere(tables))
    every, rows = _panels.looks(tables), _panels.rows_of(tables, arms)
    densities = _panels.by_size(rows)
    figure, axes = _panels.panels(len(densities), 4.4)
    for ax, density in zip(axes, densities, strict=True):
        of_density = rows[rows["density"] == density]
        sizes = sorted(of_density["n"].unique())
        _bands(ax, max(sizes))
        ax.axhline(1.0, color="0.3", linewidth=0.9, zorder=2)
        for arm in arms:
            for kind, face in (("normal", None), ("real", "white")):
                own = of_density[(of_density["arm"] == arm) & (of_density["input"] == kind)].sort_values("n")
                if face and arm != "hggtopk":
                    continue
                look = every[arm] | ({"markerfacecolor": face, "markeredgecolor": every[arm]["color"],
                                      "linestyle": (0, (2, 1.5)), "linewidth": 1.4} if face else {})  # fmt: skip
                _panels.with_quartiles(ax, own["n"].to_numpy(), own, "ratio_to_topk", **look)
        ax.set(title=f"density {density:g}", yscale="log", xlim=(min(sizes) / 2.2, max(sizes) * 2.2))
        _panels.sizes_axis(ax, sizes)
        _panels.plain(ax.yaxis)
    axes[0].set_ylabel("times faster than torch.topk")
    look = every["hggtopk"] | {"markerfacecolor": "white", "linestyle": (0, (2, 1.5)), "linewidth": 1.4}
    recorded = Line2D([], [], label="hggtopk, recorded gradients", **{**look, "markeredgecolor": look["color"]})
    _panels.legend(figure, tables, arms, more=[recorded, Patch(label="claimed for HGG-TopK", **_BAND)])
    text = (
        "Median of the rounds' ratios of processor time, bars from quartile to quartile; normal gradients but for the "
        "hollow marks. Above 1 a compressor is faster than top-k."
    )
    _panels.caption(figure, tables, text, _panels.rounds(rows))
    return figure


def _bands(ax: Axes, largest: int) -> None:
    for low, high, least, most in _BANDS:
        ax.fill_between([low / _WIDER, (high or max(largest, low)) * _WIDER], least, most, zorder=1, **_BAND)
