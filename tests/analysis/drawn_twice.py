"""Figures drawn from tables: what stands in them, and whether they are the same to the byte when drawn again."""

import warnings
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from lowbit.analysis import figures, style
from lowbit.analysis.tables import Tables


def drawn(study: str, name: str, content: Tables) -> Figure:
    """A figure in the project's style."""
    with style.applied():
        return figures.drawer(study, name)(content)


def said(figure: Figure) -> str:
    """All words of a figure."""
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text)).replace("\n", " ")


def assert_inside(figure: Figure) -> None:
    """Legends and small print of a figure that has been saved end within it, at the size in which it is published."""
    figure.set_dpi(style.DPI)
    figure.draw_without_rendering()
    left, right = figure.bbox.x0, figure.bbox.x1
    for artist in (*figure.legends, *figure.findobj(lambda text: text is getattr(figure, "_supxlabel", None))):
        extent = artist.get_window_extent()
        assert left <= extent.x0 <= extent.x1 <= right, f"cut off: {artist}"


def assert_same_bytes(study: str, name: str, content: Tables, folder: Path, monkeypatch) -> None:
    """Draw a figure twice, small, and compare its files; a warning of matplotlib is an error."""
    monkeypatch.setitem(style._RC, "savefig.dpi", 40)
    files = []
    with style.applied(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # matplotlib warns where a layout does not fit
        for turn in ("first", "second"):
            figure = figures.drawer(study, name)(content)
            files.append([folder / f"{turn}.{suffix}" for suffix in ("png", "svg")])
            style.save(figure, *files[-1])
        assert_inside(figure)
    for first, second in zip(*files, strict=True):
        assert first.stat().st_size > 2000
        assert first.read_bytes() == second.read_bytes()
