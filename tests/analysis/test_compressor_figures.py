"""Figures of the compressor study: the same bytes every time, numbers of the tables, n and hardware in words."""

from argparse import Namespace

import matplotlib as mpl
import numpy as np
import pytest
from drawn_twice import assert_same_bytes, drawn, said
from fake_compressions import Fake

from lowbit.analysis import figures, tables
from lowbit.commands.aggregate_compressors import run

NAMES = figures.available("compressor")
HGGTOPK = "#d55e00"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return aggregated(
        tmp_path_factory.mktemp("compressions"), Fake(faster={"hggtopk": {10_000: 5.0}}, error={"sidco": 0.5})
    )


def aggregated(root, fake):
    fake.write(root)
    paths = {"results": root, "verdicts": root / "verdicts/compressor.json", "tables": root / "tables"}
    run(Namespace(tasks=fake.tasks, **paths))
    return tables.load("compressor", root / "tables", root / "verdicts")


@pytest.mark.parametrize("name", NAMES)
def test_a_compressor_figure_has_the_same_bytes_every_time(name, whole, tmp_path, monkeypatch):
    assert_same_bytes("compressor", name, whole, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_a_compressor_figure_says_n_and_hardware(name, whole):
    words = said(drawn("compressor", name, whole))
    assert "n = " in words
    assert "cpu: a chip, 1 thread" in words
    assert len(figures.description("compressor", name)) > 100


@pytest.fixture(scope="module")
def poor(tmp_path_factory):
    """One seed, and few arms."""
    few = ("hggtopk_inexact", "redsync", "dgcsampling", "sidco", "redsync_reference", "beta", "history", "hggtopk")
    return aggregated(tmp_path_factory.mktemp("poor"), Fake(without=few, seeds=1))


@pytest.mark.parametrize("name", NAMES)
def test_a_compressor_figure_is_drawn_of_a_smaller_study(name, poor):
    assert drawn("compressor", name, poor).axes


@pytest.mark.parametrize("name", ["time_by_size", "time_by_density", "speedup"])
def test_devices_have_panels_of_their_own(name, whole, tmp_path_factory):
    both = drawn("compressor", name, aggregated(tmp_path_factory.mktemp("both"), Fake(on_gpu=2.0)))
    assert len(both.axes) == 2 * len(drawn("compressor", name, whole).axes)
    assert "cpu: a chip, 1 thread and cuda: a card, 1 thread" in said(both)
    assert both.axes[2].get_title(loc="left").startswith("GPU, ")


def line(axes, colour):
    return next(x for x in axes.get_lines() if mpl.colors.to_hex(x.get_color()) == colour and len(x.get_ydata()) > 1)


def test_the_speedup_is_that_of_the_table_with_the_claimed_bands(whole):
    axes = drawn("compressor", "speedup", whole).axes[0]
    runs = whole.runs[
        (whole.runs["arm"] == "hggtopk") & (whole.runs["density"] == 0.01) & (whole.runs["input"] == "normal")
    ]
    assert np.allclose(line(axes, HGGTOPK).get_ydata(), runs.sort_values("n")["ratio_to_topk"])
    paths = [path.vertices[:, 1] for c in axes.collections for path in c.get_paths() if len(path.vertices) > 4]
    bands = sorted((float(y.min()), float(y.max())) for y in paths)
    assert bands == [(2, 3), (4, 5), (6, 10)]


def test_time_grows_in_the_figure_as_in_the_table(whole):
    axes = drawn("compressor", "time_by_size", whole).axes[0]
    assert np.allclose(line(axes, HGGTOPK).get_ydata(), [0.1, 1.0, 10.0], rtol=0.1)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10K", "100K", "1M"]


def test_the_trace_shows_errors_and_hits(whole):
    figure = drawn("compressor", "along_the_trace", whole)
    middle, below = figure.axes[2], figure.axes[4]
    assert any(np.allclose(x.get_ydata(), 0.5) for x in middle.get_lines()), "sidco's error of one half"
    assert np.allclose(line(below, HGGTOPK).get_ydata(), [0, 100, 100, 100, 100, 100])
