"""Every benchmark runs, gives rows, and refuses to print a speed when a contestant computes something else."""

import importlib
from itertools import islice

import pytest
import torch

from lowbit import catalog
from lowbit.__main__ import main
from lowbit.benchmarks import compressors, layers, loop
from lowbit.benchmarks._timing import Row, WrongResultError, ratio_rows, seconds_side_by_side
from lowbit.compressors.topk import TopK
from lowbit.layers.bit_linear import BitLinear


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(loop, "STEPS", 1)
    monkeypatch.setattr(loop, "make_deterministic", lambda threads: None)  # it is for the whole process


@pytest.mark.parametrize("name", catalog.available("benchmarks"))
def test_the_first_case_has_a_ratio_with_quartiles(name):
    first = list(islice(importlib.import_module(f"lowbit.benchmarks.{name}").cases(quick=True), 3))
    assert all(isinstance(row, Row) and row.case == first[0].case for row in first)
    metric = first[0].metric
    assert metric == ("ratio_to_topk" if name == "compressors" else "ratio")
    assert [row.metric for row in first] == [metric, f"{metric}_quartile_low", f"{metric}_quartile_high"]
    assert 0 < first[1].value <= first[0].value <= first[2].value


def test_the_benchmarks_of_the_documentation_exist():
    assert {"layers", "loop"} <= set(catalog.available("benchmarks"))


def test_a_layer_that_computes_something_else_has_no_speed(monkeypatch):
    monkeypatch.setattr(BitLinear, "forward", lambda self, x: torch.nn.functional.linear(x, 1.01 * self.weight))
    with pytest.raises(WrongResultError, match="no speed is reported"):
        next(layers.cases(quick=True))


def test_a_compressor_that_loses_entries_has_no_speed(monkeypatch):
    settings = {"sizes": (1000,), "densities": (0.05,), "names": ("topk",)}
    assert {row.metric for row in compressors.cases(quick=True, **settings)} >= {
        *("ratio_to_topk", "ratio_to_floor", "milliseconds", "nnz_over_k", "threshold_error", "energy_captured")
    }
    with monkeypatch.context() as patch:
        patch.setattr(TopK, "choose", lambda self, x, k, history, latest: x.topk(k).indices)
        with pytest.raises(WrongResultError, match="not the 50 largest"):
            next(compressors.cases(quick=True, **settings))
    monkeypatch.setattr(TopK, "select_from", lambda self, residual, increment, k, _: (increment[:k], torch.arange(k)))
    with pytest.raises(WrongResultError, match="are not the sum"):
        next(compressors.cases(quick=True, **settings))


def test_options_that_a_benchmark_lacks_are_refused(capsys):
    assert main(["benchmark", "layers", "--sizes", "10", "--quick"]) == 2
    assert "takes no sizes" in capsys.readouterr().err


def test_ratios_are_of_the_same_round():
    seconds = seconds_side_by_side({"one": lambda: None, "two": lambda: None}, 4)
    assert {name: len(values) for name, values in seconds.items()} == {"one": 4, "two": 4}
    ours, theirs = torch.tensor([[2.0, 40.0, 6.0], [1.0, 10.0, 3.0]]).numpy()
    assert next(ratio_rows("case", ours, theirs)).value == 2.0
