"""A run and its folder: signals, damaged or foreign states, two processes at once, divergence, what is published."""

import json
import logging
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from small_runs import changed, lines_of, small_spec

from lowbit import manifest
from lowbit.__main__ import main
from lowbit.errors import UserError
from lowbit.spec import RunSpec
from lowbit.train import loop
from lowbit.train.checkpoint import load_weights, save_weights
from lowbit.train.events import Event, RunFinished, StateReady, StepsFinished
from lowbit.train.listeners._base import Listener
from lowbit.train.lock import hold
from lowbit.train.run import execute

SPEC = small_spec("vit", record={"resume_seconds": 0, "save_checkpoints": True})
STEPS = 12


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


class At(Listener):
    """Does something at an event of a step."""

    def __init__(self, step: int, act, event: type[Event] = StepsFinished):
        self.step, self.act, self.event = step, act, event

    def handle(self, event: Event) -> None:
        if isinstance(event, self.event):
            step = event.records[-1]["step"] if isinstance(event, StepsFinished) else event.state.step
            if step == self.step:
                self.act()


def die() -> None:
    raise Killed


def send(number: int, times: int = 1):
    return lambda: [os.kill(os.getpid(), number) for _ in range(times)]


def train_by_command(spec: RunSpec, folder: Path, data: Path) -> int:
    return main(["train", "--spec", spec.to_json(), "--folder", str(folder), "--data-folder", str(data)])


def half_done(spec: RunSpec, folder: Path, data: Path, step: int = 7) -> Path:
    """Kill a run at a step and return the state that it leaves."""
    with pytest.raises(Killed):
        execute(spec, folder, data, observers=lambda spec, work: [At(step, die)])
    return folder / "work/state.safetensors"


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory) -> Path:
    """The folder of SPEC, never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "seed0"
    execute(SPEC, folder, images)
    return folder


def assert_equal_to(whole: Path, folder: Path) -> None:
    one, other = (json.loads((f / "summary.json").read_text()) for f in (folder, whole))
    for name in ("weights_sha256", "test", "validation", "identity"):
        assert one[name] == other[name]
    assert lines_of(folder / "events.jsonl") == lines_of(whole / "events.jsonl")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_the_state_and_sets_the_exit_status(number, status, images, whole, tmp_path, monkeypatch, capsys):
    spec = changed(SPEC, record={"resume_seconds": 3600})  # nothing is saved but by the signal
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    observers = lambda spec, work: [At(5, send(number))]  # noqa: E731
    monkeypatch.setattr("lowbit.train.observers.observers_of", observers)
    assert train_by_command(spec, tmp_path / "run", images) == status
    assert signal.Signals(number).name in capsys.readouterr().out
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    assert not (tmp_path / "run/summary.json").exists()
    started = []
    monkeypatch.setattr(loop, "forward_backward", counting(loop.forward_backward, started))
    monkeypatch.setattr("lowbit.train.observers.observers_of", lambda spec, work: [])
    assert train_by_command(spec, tmp_path / "run", images) == 0
    assert len(started) == STEPS - 5
    assert lines_of(tmp_path / "run/events.jsonl") == lines_of(whole / "events.jsonl")


def counting(function, calls: list):
    def counted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return counted


def test_second_signal_ends_at_once(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        execute(SPEC, tmp_path, images, observers=lambda spec, work: [At(5, send(signal.SIGINT, times=2))])
    assert len(lines_of(tmp_path / "work/events.jsonl")) == 5


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.999])
def test_truncated_state_is_reported_and_the_run_starts_afresh(kept, images, whole, tmp_path, caplog):
    path = half_done(SPEC, tmp_path, images)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    execute(SPEC, tmp_path, images)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert str(path) in warning
    assert "starting from step 0" in warning
    assert_equal_to(whole, tmp_path)


def test_weights_in_the_place_of_a_state_are_reported(images, whole, tmp_path, caplog):
    path = half_done(SPEC, tmp_path, images)
    save_weights({"model.classifier.bias": torch.ones(4)}, path)
    execute(SPEC, tmp_path, images)
    assert "starting from step 0" in caplog.text
    assert_equal_to(whole, tmp_path)


@pytest.mark.parametrize("other", [{"seed": 1}, {"train": {"lr": 0.02}}, {"softmax": {"name": "base2"}}])
def test_state_of_another_spec_is_not_used(other, images, whole, tmp_path, caplog):
    half_done(changed(SPEC, **other), tmp_path, images)
    execute(SPEC, tmp_path, images)
    assert "another spec" in caplog.text
    assert_equal_to(whole, tmp_path)


def test_state_of_other_code_is_not_used(images, whole, tmp_path, caplog, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunSpec, "code_digest", "0123456789abcdef")
        half_done(SPEC, tmp_path, images)
    execute(SPEC, tmp_path, images)
    assert "other code" in caplog.text
    assert_equal_to(whole, tmp_path)


def test_half_done_run_can_be_thrown_away(images, whole, tmp_path, monkeypatch):
    half_done(SPEC, tmp_path, images)
    (tmp_path / "work/step3.safetensors").touch()
    steps = []
    monkeypatch.setattr(loop, "forward_backward", counting(loop.forward_backward, steps))
    execute(SPEC, tmp_path, images, resume=False)
    assert len(steps) == STEPS
    assert not list(tmp_path.glob("step*"))
    assert_equal_to(whole, tmp_path)


def test_folder_held_by_another_process_is_refused_after_a_while(tmp_path):
    lock = hold(tmp_path / "work")
    with pytest.raises(UserError, match="another process has been training here"):
        hold(tmp_path / "work", patience_seconds=0.3)
    lock.close()
    hold(tmp_path / "work", patience_seconds=0.3).close()


def test_folder_is_free_again_when_its_holder_dies(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/lock").touch()
    hold(tmp_path / "work", patience_seconds=0).close()


def test_process_that_waited_holds_the_folder_alone(images, whole, tmp_path):
    """The first finishes and removes its work folder; the second must not hold a lock that no third one can see."""
    work = tmp_path / "work"
    waited = []
    waiting = threading.Thread(target=lambda: waited.append(hold(work, patience_seconds=30)))
    execute(SPEC, tmp_path, images, observers=lambda spec, work: [At(2, waiting.start), At(5, lambda: time.sleep(0.5))])
    waiting.join(30)
    with pytest.raises(UserError, match="another process"):
        hold(work, patience_seconds=0.1)
    waited[0].close()
    execute(SPEC, tmp_path, images)
    assert_equal_to(whole, tmp_path)


def test_absurd_learning_rate_ends_with_step_and_checkpoint(images, tmp_path, capsys):
    spec = changed(SPEC, train={"optimizer": "sgd", "lr": 1e30, "scheduler": "constant"})
    assert train_by_command(spec, tmp_path, images) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    lines = lines_of(tmp_path / "work/events.jsonl")
    (failed,) = [n for n in range(2, STEPS) if f"at step {n};" in message]
    assert [line["step"] for line in lines if line["type"] == "step"] == list(range(1, failed))
    assert f"last good checkpoint: {tmp_path / 'work/state.safetensors'} (step {failed - 1})" in message
    assert "lower the learning rate" in message
    assert not (tmp_path / "summary.json").exists()
    assert not (tmp_path / "manifest.json").exists()


def spoil_loss(run, sums):
    sums[0] = float("nan")


def spoil_gradient(run, sums):
    next(run.state.model.parameters()).grad.view(-1)[0] = float("inf")


@pytest.mark.parametrize(("spoil", "named"), [(spoil_loss, "loss is nan"), (spoil_gradient, "gradient norm is inf")])
@pytest.mark.parametrize("log_every", [1, 4])
def test_divergence_keeps_every_record_before_it(spoil, named, log_every, images, tmp_path, monkeypatch):
    spec = changed(SPEC, record={"log_every": log_every})
    whole_step = loop.forward_backward

    def spoiled(run, batch):
        sums = whole_step(run, batch)
        if run.state.step == 6:
            spoil(run, sums)
        return sums

    monkeypatch.setattr(loop, "forward_backward", spoiled)
    with pytest.raises(UserError) as caught:
        execute(spec, tmp_path, images)
    # With 4 steps between looks at the device, windows end at 4, 6 (validation) and 10.
    assert f"{named} at step 7;" in str(caught.value)
    assert f"{tmp_path / 'work/state.safetensors'} (step 6)" in str(caught.value)
    steps = [line for line in lines_of(tmp_path / "work/events.jsonl") if line["type"] == "step"]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    state = load_weights(tmp_path / "work/state.safetensors")
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_records_of_a_window_before_the_divergence_are_kept(images, tmp_path, monkeypatch):
    spec = changed(SPEC, record={"log_every": 6})
    whole_step = loop.forward_backward

    def spoiled(run, batch):
        sums = whole_step(run, batch)
        if run.state.step == 3:
            sums[0] = float("inf")
        return sums

    monkeypatch.setattr(loop, "forward_backward", spoiled)
    with pytest.raises(UserError, match=r"step 4; .*none was written yet"):
        execute(spec, tmp_path, images)
    assert [line["step"] for line in lines_of(tmp_path / "work/events.jsonl")] == [1, 2, 3]


def test_validation_loss_that_is_not_finite_ends_the_run(images, tmp_path, monkeypatch):
    """The last update may be the one that breaks the weights."""
    spec = changed(SPEC, train={"optimizer": "sgd", "lr": 1e30, "scheduler": "constant", "epochs": 0.1})
    with pytest.raises(UserError, match=r"validation loss is (nan|inf) at step 1;"):
        execute(spec, tmp_path, images)
    assert not (tmp_path / "summary.json").exists()


def test_published_folder_is_complete_and_vouched_for(images, whole):
    assert {p.name for p in whole.iterdir()} == {
        *("spec.json", "summary.json", "manifest.json", "events.jsonl", "weights.safetensors", "best.safetensors")
    }
    assert not manifest.verify(whole).faults
    assert RunSpec.model_validate_json((whole / "spec.json").read_text()) == SPEC


def test_numbered_checkpoints_are_those_of_their_steps(images, whole, tmp_path):
    seen = {}

    class Keep(Listener):
        def handle(self, event):
            if isinstance(event, StateReady):
                seen[event.state.step] = {n: t.clone() for n, t in event.state.model.state_dict().items()}

    spec = changed(SPEC, record={"checkpoint_every_steps": 5, "save_checkpoints": False})
    execute(spec, tmp_path, images, observers=lambda spec, work: [Keep()])
    assert {p.name for p in tmp_path.glob("*.safetensors")} == {"step5.safetensors", "step10.safetensors"}
    for step in (5, 10):
        saved = load_weights(tmp_path / f"step{step}.safetensors")
        assert all(torch.equal(saved[name], tensor) for name, tensor in seen[step].items())


def test_observers_cannot_change_results(images, whole, tmp_path):
    class Vandal(Listener):
        def handle(self, event):
            torch.manual_seed(99)
            torch.rand(7)
            raise RuntimeError("broken")

    execute(SPEC, tmp_path, images, observers=lambda spec, work: [Vandal()])
    assert_equal_to(whole, tmp_path)


def test_interrupted_test_evaluation_is_made_again(images, whole, tmp_path):
    with pytest.raises(Killed):
        execute(SPEC, tmp_path, images, observers=lambda spec, work: [At(STEPS, die, RunFinished)])
    execute(SPEC, tmp_path, images)
    assert_equal_to(whole, tmp_path)
