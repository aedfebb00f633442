"""NES: percent by which a step lowers the loss, against the step, for every width sigma of the smoothing.

Antithetic pairs; more pairs mean less variance, which the number of weights, three times the square of the dimension,
sets in turn. Raw starts come first, pretrained ones below them on a shaded ground: whether NES points where the loss
falls after pretraining is read there, near the left end, on steps much shorter than those that serve a raw start.
"""

from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

_ARM = "nes"
_SHADE = "0.955"


def draw(tables: Tables) -> Figure:
    """A column per dimension, a row per start and number of pairs."""
    curves = _panels.at(tables.curves, task=_panels.TASK, arm=_ARM)
    samples = _panels.levels(curves, "samples")
    figure, panels = _panels.by_start_and_dim(curves, samples, row_inches=2.0)
    if curves.empty:
        _panels.absent(next(iter(panels.values())), f"no arm {_ARM} on a task {_panels.TASK}")
    else:
        _panels.search(figure, panels, curves, "sigma", third="samples")
        rows = {n: "decrease (%)" if n is None else f"{n:g} pairs\ndecrease (%)" for n in samples}
        _panels.label(panels, "step (length in each tensor)", rows)
        for (start, _, _), axes in panels.items():
            if start == "pretrained":
                axes.set_facecolor(_SHADE)
    text = (
        "Percent of the loss at the start, on the batches that the direction was computed from. Lines: mean over seeds "
        "and batches; bands: 95 % t interval over seeds. Dots: best step of a line, hollow at an end of the grid. Axes "
        "are cut below, where long steps raise the loss. Shaded: pretrained."
    )
    style.caption(figure, tables, text, tasks=(_panels.TASK,))
    return figure
