"""Runs of the compressor study: which cases are timed, what is followed, what is kept of an interrupted run."""

import json

import pytest
import torch

from lowbit.benchmarks._cost import Traffic, peak_bytes
from lowbit.benchmarks._selections import send_and_judge
from lowbit.benchmarks._timing import WrongResultError
from lowbit.compression import quality, speed
from lowbit.compression._run import arms_of, contestants, execute
from lowbit.compression_spec import CompressionSpec, TraceSpec
from lowbit.compressors import make
from lowbit.compressors.topk import TopK
from lowbit.config import load
from lowbit.train.trace import Trace

GRIDS = {"a": {"sizes": [100, 200], "densities": [0.1]}, "b": {"sizes": [200], "densities": [0.1, 0.5]}}
PARTS = {
    "speed": {"trace": "t", "grids": GRIDS},
    "quality": {"trace": "t", "densities": [0.1, 0.2], "synthetic": 200, "memory_sizes": [1000]},
}
ARMS = {
    "topk": {"compressor": {"name": "topk"}},
    "gaussian": {"compressor": {"name": "gaussian"}, "axes": {"compressor.probes": [1, 5]}, "grids": ["b"]},
    "untimed": {"compressor": {"name": "redsync"}, "grids": [], "densities": [0.2]},
}


def spec(task: str) -> CompressionSpec:
    return CompressionSpec(task=task, arms=ARMS, order=tuple(ARMS), **{task: PARTS[task]})


def recorded(layer):
    """Gradients of a layer at four steps."""
    generator = torch.Generator().manual_seed(len(layer))
    return [torch.randn({"large": 300, "tiny": 40}[layer], generator=generator) for _ in range(4)]


@pytest.fixture
def traced(monkeypatch):
    """The quality run with a trace of two layers at four steps, which is in memory."""

    class InMemory(Trace):
        def of_layer(self, layer):
            return recorded(layer)

    monkeypatch.setattr(quality, "traces_of", lambda *_: [InMemory(None, ("large", "tiny"), (5, 6, 7, 8))])
    run = load("workflow_config.yaml").study_runs("softmax")[0]
    return spec("quality").model_copy(update={"traces": (TraceSpec(run=run),)})


def test_a_case_of_several_grids_is_timed_once_with_the_arms_of_each():
    cases = {(c.size, c.density): arms for c, arms in speed.cases(spec("speed")).items()}
    assert cases == {(100, 0.1): ("topk",), (200, 0.1): ("topk", "gaussian"), (200, 0.5): ("topk", "gaussian")}


def test_variants_are_named_and_built_apart():
    made = contestants(arms_of(spec("speed"), lambda arm: True))
    assert list(made) == [("topk", ""), ("gaussian", "probes 1"), ("gaussian", "probes 5"), ("untimed", "")]
    assert [build().compressor.probes for (arm, _), build in made.items() if arm == "gaussian"] == [1, 5]
    assert made["topk", ""]() is not made["topk", ""](), "every contestant has a memory of its own"


def energies_of_top_k(gradients, k):
    """Norm of the k largest over that of all, with what was not sent kept."""
    kept, found = torch.zeros_like(gradients[0]), []
    for gradient in gradients:
        kept = kept + gradient
        places = kept.abs().topk(k).indices
        found.append(float(kept[places].norm() / kept.norm()))
        kept = kept.index_fill(0, places, 0)
    return found


def test_selections_are_followed_step_after_step(traced):
    lines = list(quality.pieces(traced, None, None)["seed0"]())
    assert {line["type"] for line in lines} == {"selections"}
    assert {line["source"] for line in lines} == {"normal", "student_t2", "large", "tiny"}
    assert {(line["arm"], line["density"]) for line in lines} >= {("topk", 0.1), ("untimed", 0.2)}
    assert ("untimed", 0.1) not in {(line["arm"], line["density"]) for line in lines}
    top = next(line for line in lines if (line["arm"], line["source"], line["density"]) == ("topk", "large", 0.1))
    assert top["k"] == 30
    assert top["nnz_over_k"] == [1.0] * 4
    assert top["threshold_error"] == [0.0] * 4
    assert top["recall"] == [1.0] * 4
    assert top["energy_captured"] == pytest.approx(energies_of_top_k(recorded("large"), 30))
    again = list(quality.pieces(traced, None, None)["seed0"]())
    assert json.dumps(lines) == json.dumps(again)


def test_memory_and_passes_are_those_of_a_call(traced):
    pieces = quality.pieces(traced, None, None)
    memory = {line["arm"]: line for line in pieces["memory"]()}
    assert memory.keys() == {"topk"}, "arms that are timed everywhere"
    assert 4 * 1000 <= memory["topk"]["extra_bytes"] < 16 * 1000, "the magnitudes, at least"
    assert memory["topk"]["kept_bytes"] == 4 * 1000 + 8


def test_judging_a_selection_sees_what_is_wrong(monkeypatch):
    gradient = torch.tensor([4.0, -3.0, 2.0, 1.0])
    found = send_and_judge(make("randomk", seed=1), gradient, "g", 0.5, "randomk")
    assert found["nnz_over_k"] == 1.0
    good = send_and_judge(make("topk"), gradient, "g", 0.5, "topk")
    assert good == {
        "nnz_over_k": 1.0,
        "threshold_error": 0.0,
        "recall": 1.0,
        "energy_captured": pytest.approx(5 / 30**0.5),
    }
    monkeypatch.setattr(TopK, "choose", lambda self, x, k, history, latest: torch.tensor([0, 3]))
    with pytest.raises(WrongResultError, match="not the 2 largest"):
        send_and_judge(make("topk"), gradient, "g", 0.5, "topk")
    monkeypatch.setattr(TopK, "exact", False)
    worse = send_and_judge(make("topk"), gradient, "g", 0.5, "topk")
    assert worse["threshold_error"] == pytest.approx(2 / 3), "1 instead of 3, at the k that was asked for"
    assert worse["recall"] == 0.5


def test_traffic_is_that_of_the_operands():
    x, indices = torch.ones(1000), torch.tensor([1, 5])
    with Traffic(500) as traffic:
        x.add_(torch.zeros(1000))  # zeros written; x and zeros read, x written
        x.view(10, 100).abs()  # read, written
        x[indices]
        float(x.max())
    assert traffic.bytes == 4 * (1000 + 3000 + 2000 + 2 + 1000 + 1) + 8 * 2 + 4
    assert traffic.passes == 4
    assert traffic.host_waits == 1


def test_the_meter_of_memory_sees_temporary_tensors():
    x = torch.ones(100_000)
    assert peak_bytes(lambda: (x.abs() + 1).sum()) >= 800_000
    assert peak_bytes(lambda: x.abs_()) < 100_000


def test_pieces_of_an_interrupted_run_are_kept(tmp_path):
    calls, whole = [], spec("quality")

    def piece(name, fails=False):
        def measure():
            calls.append(name)
            if fails:
                raise KeyboardInterrupt
            return [{"type": "x", "value": float("inf"), "place": name}]

        return measure

    hardware = {"processor": "p", "threads": 1, "gpu": None}
    with pytest.raises(KeyboardInterrupt):
        execute(whole, {"one": piece("one"), "two": piece("two", fails=True)}, tmp_path, tmp_path / "run", hardware)
    execute(whole, {"one": piece("one"), "two": piece("two")}, tmp_path, tmp_path / "run", hardware)
    assert calls == ["one", "two", "two"]
    lines = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    assert lines == [{"type": "x", "value": None, "place": name} for name in ("one", "two")]
    execute(whole, {"one": piece("one")}, tmp_path, tmp_path / "run", hardware)
    assert calls[-1] == "one", "a finished run is measured anew"
    other = {**hardware, "processor": "q"}
    with pytest.raises(KeyboardInterrupt):
        execute(whole, {"one": piece("one"), "two": piece("two", fails=True)}, tmp_path, tmp_path / "run", hardware)
    execute(whole, {"one": piece("one")}, tmp_path, tmp_path / "run", other)
    assert calls[-3:] == ["one", "two", "one"], "times of another processor are not kept"
