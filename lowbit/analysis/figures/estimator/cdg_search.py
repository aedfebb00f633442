"""CDG: percent by which a step lowers the loss, against the step, for every half-width epsilon of the differences.

A direction that is good at first order rises from zero at the left. Steps are logarithmic down to where nothing can
be gained: where the best steps are short, as they may be after pretraining, a grid that begins at 0.01 would show every
direction as one that climbs.
"""

from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_ARM = "cdg"


def draw(tables: Tables) -> Figure:
    """A column per dimension, a row per start."""
    curves = _panels.at(tables.curves, task=_panels.TASK, arm=_ARM)
    figure, panels = _panels.by_start_and_dim(curves, ("decrease",), row_inches=2.6)
    if curves.empty:
        _panels.absent(next(iter(panels.values())), f"no arm {_ARM} on a task {_panels.TASK}")
    else:
        _panels.search(figure, panels, curves, "epsilon")
        _panels.label(panels, "step (length in each tensor)", {"decrease": "decrease of the loss (%)"})
    text = (
        "Percent of the loss at the start, on the batches that the direction was computed from. Lines: mean over seeds "
        "and batches; bands: 95 % t interval over seeds. Dots: best step of a line, hollow at an end of the grid. Axes "
        "are cut below, where long steps raise the loss."
    )
    style.caption(figure, tables, text, tasks=(_panels.TASK,))
    return figure
