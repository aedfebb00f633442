"""Memory of one call beyond what is kept between calls, in bytes per entry of the gradient.

What is kept is the residual, 4 bytes per entry, and a few numbers of history.
"""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables

_RESIDUAL = 4.0
_ALLOWED = 0.01


def draw(tables: Tables) -> Figure:
    """Arms below each other, a mark per size."""
    costs = tables.further["costs"]
    rows = costs[(costs["cost"] == "memory") & (costs["variant"] == "")].sort_values("arm_order")
    arms, sizes = list(dict.fromkeys(rows["arm"])), sorted(rows["n"].unique())
    figure, ((axes,),) = _panels.panels(1, 0.7 + 0.26 * len(arms))
    for place, arm in enumerate(arms):
        colour = "#D55E00" if arm == "hggtopk" else "#0072B2"
        own = rows[rows["arm"] == arm].set_index("n")["extra_bytes"] / rows[rows["arm"] == arm].set_index("n").index
        axes.plot([own.min(), own.max()], [place, place], color=colour, linewidth=1.2, alpha=0.5, zorder=3)
        for i, size in enumerate(sizes):
            look = {"markerfacecolor": colour if i == len(sizes) - 1 else "white", "markeredgecolor": colour}
            axes.plot(own[size], place, marker=("o", "s", "D", "^")[i % 4], markersize=6.5, zorder=4, **look)
        axes.annotate(
            f"{own[sizes[-1]]:.2g}", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
    axes.axvline(_RESIDUAL, color="0.35", linestyle="--", linewidth=1.0, zorder=2)
    axes.axvline(_RESIDUAL * _ALLOWED, color="0.35", linestyle=":", linewidth=1.0, zorder=2)
    axes.set(xscale="log", xlabel="bytes per entry beyond what is kept", ylim=(len(arms) - 0.5, -0.5))
    axes.set_yticks(range(len(arms)), arms)
    axes.grid(axis="y", visible=False)
    _panels.plain(axes.xaxis)
    handles = [
        Line2D([], [], label=f"N = {size:,}", marker=("o", "s", "D", "^")[i % 4], linestyle="none", color="0.3",
               markerfacecolor="0.3" if i == len(sizes) - 1 else "white")
        for i, size in enumerate(sizes)
    ]  # fmt: skip
    handles += [
        Line2D([], [], label="the residual itself", color="0.35", linestyle="--", linewidth=1.0),
        Line2D([], [], label="1 % of it", color="0.35", linestyle=":", linewidth=1.0),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    density = rows["density"].iloc[0]
    text = (
        f"Density {density:g}: k entries of 8 bytes are sent, {8 * density:g} bytes per entry of the gradient. Peak of "
        "PyTorch's and NumPy's allocations in one call after some others. hggtopk is meant to stay within 1 % of the "
        "residual and what k needs. Right: at the largest N."
    )
    _panels.caption(figure, tables, text, "n = 1 call.")
    return figure
