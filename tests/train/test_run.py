"""A run and its folder: signals, two processes at once, what is published and when."""

import signal
import threading
import time

import pytest
import torch
from interruptions import STEPS, WHOLE, At, Killed, assert_equal_to, counting, die, send, train_by_command
from small_runs import changed, lines_of

from lowbit import manifest
from lowbit.errors import UserError
from lowbit.spec import RunSpec
from lowbit.train import loop
from lowbit.train.checkpoint import load_weights
from lowbit.train.events import RunFinished, StateReady
from lowbit.train.listeners._base import Listener
from lowbit.train.lock import hold
from lowbit.train.run import execute


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_the_state_and_sets_the_exit_status(number, status, images, whole, tmp_path, monkeypatch, capsys):
    spec = changed(WHOLE, record={"resume_seconds": 3600})  # nothing is saved but by the signal
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


def test_second_signal_ends_at_once(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        execute(WHOLE, tmp_path, images, observers=lambda spec, work: [At(5, send(signal.SIGINT, times=2))])
    assert len(lines_of(tmp_path / "work/events.jsonl")) == 5


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
    execute(
        WHOLE, tmp_path, images, observers=lambda spec, work: [At(2, waiting.start), At(5, lambda: time.sleep(0.5))]
    )
    waiting.join(30)
    with pytest.raises(UserError, match="another process"):
        hold(work, patience_seconds=0.1)
    waited[0].close()
    execute(WHOLE, tmp_path, images)
    assert_equal_to(whole, tmp_path)


def test_published_folder_is_complete_and_vouched_for(images, whole):
    assert {p.name for p in whole.iterdir()} == {
        *("spec.json", "summary.json", "manifest.json", "events.jsonl", "weights.safetensors", "best.safetensors")
    }
    assert not manifest.verify(whole).faults
    assert RunSpec.model_validate_json((whole / "spec.json").read_text()) == WHOLE


def test_folder_keeps_nothing_of_an_earlier_run_in_it(images, whole, tmp_path):
    busy = changed(WHOLE, seed=1, record={"track_grads": True, "checkpoint_every_steps": 5})
    execute(busy, tmp_path, images)
    (tmp_path / "notes.txt").write_text("mine")
    execute(changed(WHOLE, record={"save_checkpoints": False}), tmp_path, images)
    names = {"spec.json", "summary.json", "manifest.json", "events.jsonl", "notes.txt"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert not manifest.verify(tmp_path).faults


@pytest.mark.parametrize("moment", ["manifest.write", "save_weights", "shutil.rmtree"])
def test_interrupted_publication_is_made_again(moment, images, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(f"lowbit.train.run.{moment}", lambda *_, **__: die())
        with pytest.raises(Killed):
            execute(WHOLE, tmp_path, images)
    execute(WHOLE, tmp_path, images)
    assert_equal_to(whole, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in whole.iterdir()}
    assert not manifest.verify(tmp_path).faults


def test_numbered_checkpoints_are_those_of_their_steps(images, whole, tmp_path):
    seen = {}

    class Keep(Listener):
        def handle(self, event):
            if isinstance(event, StateReady):
                seen[event.state.step] = {n: t.clone() for n, t in event.state.model.state_dict().items()}

    spec = changed(WHOLE, record={"checkpoint_every_steps": 5, "save_checkpoints": False})
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

    execute(WHOLE, tmp_path, images, observers=lambda spec, work: [Vandal()])
    assert_equal_to(whole, tmp_path)


def test_interrupted_test_evaluation_is_made_again(images, whole, tmp_path):
    with pytest.raises(Killed):
        execute(WHOLE, tmp_path, images, observers=lambda spec, work: [At(STEPS, die, RunFinished)])
    execute(WHOLE, tmp_path, images)
    assert_equal_to(whole, tmp_path)
