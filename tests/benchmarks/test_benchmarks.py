"""Every benchmark runs, gives rows, and refuses to print a speed when a contestant computes something else."""

import importlib
import json
import time
from itertools import islice

import pytest
import torch
from safetensors.torch import save_file

from lowbit import catalog
from lowbit.__main__ import main
from lowbit.benchmarks import _timing, compressors, layers, loop
from lowbit.benchmarks._timing import Row, WrongResultError, ratio_rows, seconds_side_by_side
from lowbit.compressors.topk import TopK
from lowbit.errors import UserError
from lowbit.layers.bit_linear import BitLinear
from lowbit.train import trace


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


def test_real_gradients_come_from_a_trace(tmp_path, monkeypatch):
    layers = {"a": torch.arange(6.0), "b": torch.arange(6.0, 10.0)}
    save_file({f"{step}/{name}": step * g for step in (3, 4) for name, g in layers.items()}, tmp_path / trace.FILE)
    (tmp_path / "summary.json").write_text(
        json.dumps({"layers": {n: len(g) for n, g in layers.items()}, "steps": [3, 4]})
    )
    real = compressors.gradients(7, "real", trace.read(tmp_path))
    assert [gradient.tolist() for gradient in real] == [[step * n for n in range(3, 10)] for step in (3.0, 4.0)]
    with pytest.raises(UserError, match="11 entries asked for, 10 recorded; trace a wider network"):
        compressors.gradients(11, "real", trace.read(tmp_path))
    with pytest.raises(UserError, match="needs recorded gradients; give --trace"):
        compressors.gradients(10, "real")
    with pytest.raises(UserError, match=r"input 'rael': .*did you mean 'real'"):
        compressors.gradients(10, "rael")
    monkeypatch.setattr(compressors, "_TOGETHER", 8)
    rows = list(compressors.cases(True, (8,), (0.5,), ("topk",), ("real",), tmp_path))
    assert {row.case for row in rows} == {
        f"{name} n=8 density=0.5 input=real" for name in ("topk", "torch_topk", "torch_topk_sorted", "floor")
    }


def test_a_gpu_has_finished_when_its_clock_is_read(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(1))
    clock = _timing.clock_of("cuda")
    assert clock() <= clock()
    assert len(waits) == 2
    assert _timing.clock_of("cpu") is time.process_time


@pytest.mark.gpu
def test_compressors_on_a_gpu():
    rows = list(compressors.cases(True, (1000,), (0.05,), ("topk", "hggtopk"), ("normal",), device="cuda"))
    values = {(row.case.split()[0], row.metric): row.value for row in rows}
    assert values["hggtopk", "milliseconds"] > 0
    assert values["hggtopk", "threshold_error"] == 0


def test_options_that_a_benchmark_lacks_are_refused(capsys):
    assert main(["benchmark", "layers", "--sizes", "10", "--quick"]) == 2
    assert "takes no sizes" in capsys.readouterr().err


def test_ratios_are_of_the_same_round():
    seconds = seconds_side_by_side({"one": lambda: None, "two": lambda: None}, 4)
    assert {name: len(values) for name, values in seconds.items()} == {"one": 4, "two": 4}
    ours, theirs = torch.tensor([[2.0, 40.0, 6.0], [1.0, 10.0, 3.0]]).numpy()
    assert next(ratio_rows("case", ours, theirs)).value == 2.0
