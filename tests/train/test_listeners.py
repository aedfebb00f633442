"""Listeners: a failing one is dropped, the bar is for terminals only, TensorBoard files read back as written."""

import io
import logging
import os
import sys
from types import SimpleNamespace

import pytest

from lowbit.errors import UserError
from lowbit.train.events import Evaluated, RunFailed, RunFinished, RunStarted, StateReady, StepsFinished
from lowbit.train.listeners._base import Listener, Listeners
from lowbit.train.listeners.progress import Progress
from lowbit.train.listeners.tensorboard import TensorBoard

SPEC = SimpleNamespace(path="softmax/digits/base2/seed0", device="cpu")


def started(steps: int = 6, first_step: int = 0, metric: str = "accuracy", unit: str = "samples") -> RunStarted:
    return RunStarted(spec=SPEC, steps=steps, first_step=first_step, metric=metric, unit=unit)


def finished(*steps: int) -> StepsFinished:
    records = [{"step": s, "epoch": s / 6, "loss": 1 / s, "accuracy": s / 8, "lr": 0.1 * s} for s in steps]
    for record in records:
        record |= {"weight_decay": 0.0, "gradient_norm": 2.0 * record["step"], "clipped": False, "samples": 64}
    records[-1] |= {"samples_per_second": 1234.4, "memory_bytes": 1 << 20, "zero_fraction": 0.25, "flip_rate": 0.125}
    return StepsFinished(records=tuple(records))


def evaluated(step: int) -> Evaluated:
    record = {"step": step, "epoch": step / 6, "split": "validation", "loss": 2 / step, "accuracy": step / 10}
    return Evaluated(record=record, best=True)


def state_at(step: int) -> StateReady:
    return StateReady(state=SimpleNamespace(step=step), best=False)


def whole_run() -> list:
    results = {"last": {"loss": 0.5, "accuracy": 0.75}, "best": {"loss": 0.25, "accuracy": 0.875}}
    middle = [finished(1, 2, 3), evaluated(3), state_at(3), finished(4, 5, 6), evaluated(6), state_at(6)]
    return [started(), *middle, RunFinished(state=SimpleNamespace(step=6), results=results)]


class Recorder(Listener):
    """Notes what it is told, and fails at the named method."""

    def __init__(self, fails: str = "", optional: bool = True):
        self.fails, self.optional, self.told = fails, optional, []

    def handle(self, event):
        self._act("handle")

    def close(self):
        self._act("close")

    def _act(self, method: str):
        self.told.append(method)
        if method == self.fails:
            raise OSError("No space left on device")


def test_failing_optional_listener_is_dropped_and_closed_with_one_warning(caplog):
    failing, healthy = Recorder(fails="handle"), Recorder()
    listeners = Listeners([failing, healthy])
    listeners.handle(started())
    listeners.handle(finished(1))
    listeners.close()
    assert failing.told == ["handle", "close"]
    assert healthy.told == ["handle", "handle", "close"]
    (warning,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "Recorder" in warning.getMessage()
    assert "No space left" in warning.getMessage()


def test_failing_required_listener_ends_the_run():
    with pytest.raises(OSError, match="No space left"):
        Listeners([Recorder(fails="handle", optional=False)]).handle(started())


@pytest.mark.parametrize("optional", [True, False])
def test_every_listener_is_closed_once_when_one_fails_to(optional):
    members = [Recorder(), Recorder(fails="close", optional=optional), Recorder()]
    listeners = Listeners(members)
    if optional:
        listeners.close()
    else:
        with pytest.raises(OSError, match="No space left"):
            listeners.close()
    listeners.close()
    assert [m.told for m in members] == [["close"]] * 3


def test_gradients_are_wanted_only_while_someone_does():
    greedy = Recorder(fails="handle")
    greedy.wants_gradients = True
    listeners = Listeners([Recorder(), greedy])
    assert listeners.want_gradients
    listeners.handle(started())
    assert not listeners.want_gradients


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(listener: Listener, events: list) -> None:
    assert listener.optional
    for event in events:
        listener.handle(event)
    listener.close()


def test_progress_bar_shows_steps_loss_metric_and_throughput(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    play(Progress(SPEC), whole_run())
    end = sys.stderr.getvalue().rpartition("\r")[2]
    assert end.startswith(SPEC.path)
    for text in ("100%", "6/6", "loss=0.1667", "accuracy=0.75", "samples/s=1234", "validation accuracy=0.6"):
        assert text in end


def test_progress_bar_resumes_at_the_first_step_and_shows_perplexity(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    record = {"step": 4, "loss": 1.0, "accuracy": 0.5, "perplexity": 2.718}
    events = [started(first_step=3, metric="perplexity", unit="tokens"), StepsFinished(records=(record,))]
    play(Progress(SPEC), [*events, RunFailed(step=5, loss=float("nan"))])
    written = sys.stderr.getvalue()
    assert "3/6" in written
    assert "4/6" in written
    assert "perplexity=2.718" in written
    assert "accuracy" not in written


def test_progress_bar_is_silent_in_a_pipe(monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        play(Progress(SPEC), whole_run())
    with os.fdopen(reading) as pipe:
        assert pipe.read() == ""


def scalars_in(folder) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    series = {}
    for tag in accumulator.Tags()["scalars"]:
        points = accumulator.Scalars(tag)
        assert [p.step for p in points] == sorted({p.step for p in points}), tag
        series[tag] = {p.step: p.value for p in points}
    return series


def test_tensorboard_reads_back_what_was_told(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra lowbit[tensorboard]")
    play(TensorBoard(tmp_path), whole_run())
    series = scalars_in(tmp_path)
    assert series["train/loss"] == pytest.approx({s: 1 / s for s in range(1, 7)})
    assert series["train/accuracy"] == pytest.approx({s: s / 8 for s in range(1, 7)})
    assert series["train/gradient_norm"] == pytest.approx({s: 2.0 * s for s in range(1, 7)})
    assert series["lr"] == pytest.approx({s: 0.1 * s for s in range(1, 7)})
    assert series["ternary/zero_fraction"] == {3: 0.25, 6: 0.25}
    assert series["ternary/flip_rate"] == {3: 0.125, 6: 0.125}
    assert series["validation/loss"] == pytest.approx({3: 2 / 3, 6: 1 / 3})
    assert series["validation/accuracy"] == pytest.approx({3: 0.3, 6: 0.6})
    assert {tag: v for tag, v in series.items() if tag.startswith("test/")} == {
        "test/last/loss": {6: 0.5},
        "test/last/accuracy": {6: 0.75},
        "test/best/loss": {6: 0.25},
        "test/best/accuracy": {6: 0.875},
    }


def test_tensorboard_of_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra lowbit[tensorboard]")
    events = whole_run()
    play(TensorBoard(tmp_path / "whole"), events)
    killed = TensorBoard(tmp_path / "killed")
    for event in [*events[:4], finished(4, 5)]:
        killed.handle(event)
        if isinstance(event, StateReady):
            checkpointed = (tmp_path / "killed").rglob("*tfevents*").__next__().read_bytes()
    killed.close()
    (torn,) = (tmp_path / "killed").iterdir()
    assert len(checkpointed) < len(torn.read_bytes())
    torn.write_bytes(torn.read_bytes()[:-5])
    play(TensorBoard(tmp_path / "killed"), [started(first_step=3), *events[4:]])
    assert scalars_in(tmp_path / "killed") == scalars_in(tmp_path / "whole")
    torn.write_bytes(checkpointed)
    assert scalars_in(tmp_path / "killed") == scalars_in(tmp_path / "whole")


def test_missing_tensorboard_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'lowbit\[tensorboard\]'"):
        TensorBoard(tmp_path)
