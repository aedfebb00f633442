"""Time of one call against the size of the gradient, by density: medians over rounds with quartiles, processor time.

Every compressor has error feedback and is timed beside torch.topk with error feedback and beside the floor, which adds
the gradient to the residual and does nothing else.
"""

from matplotlib.figure import Figure

from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables


def draw(tables: Tables) -> Figure:
    """A panel per density that several sizes were timed at."""
    arms, every = _panels.timed_everywhere(tables), _panels.looks(tables)
    rows = _panels.rows_of(tables, arms, "normal")
    densities = _panels.by_size(rows)
    figure, axes = _panels.panels(len(densities), 4.4)
    for ax, density in zip(axes, densities, strict=True):
        for arm in arms:
            own = rows[(rows["arm"] == arm) & (rows["density"] == density)].sort_values("n")
            _panels.with_quartiles(ax, own["n"].to_numpy(), own, "milliseconds", **every[arm])
        ax.set(title=f"density {density:g}", yscale="log")
        _panels.sizes_axis(ax, sorted(rows.loc[rows["density"] == density, "n"].unique()))
        _panels.plain(ax.yaxis)
    axes[0].set_ylabel("processor time of a call (ms)")
    _panels.legend(figure, tables, arms)
    text = "Normal gradients from rotating buffers, residuals settled; median, bars from quartile to quartile."
    _panels.caption(figure, tables, text, _panels.rounds(rows))
    return figure
