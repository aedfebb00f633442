"""An interrupted run ends as if it had never been interrupted: weights, optimizer, events, results, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from interruptions import Killed
from small_runs import assert_identical, changed, lines_of, small_spec, tensors_of

from lowbit.atomic import write_text
from lowbit.spec import RunSpec
from lowbit.train.checkpoint import load_weights
from lowbit.train.events import Event, RunFinished, StateReady, StepsFinished
from lowbit.train.listeners._base import Listener
from lowbit.train.run import execute

IMAGES = {"crop_padding": 2, "horizontal_flip": True, "mixup": 0.4}
SGD = {"optimizer": "sgd", "lr": 0.05, "weight_decay": 0.001, "scheduler": "cosine", "warmup_epochs": 0.5}
ADAMW = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1, "scheduler": "two_stage", "warmup_epochs": 0.5}
ACTIVATION = {"activation": {"name": "int8_absmax"}, "blend_epochs": 1.2}
CASES = {
    "images-resnet18-sgd": small_spec("resnet18", train=SGD | IMAGES, quantization={"blend_epochs": 1.2}),
    "images-resnet18-adamw": small_spec("resnet18", train=ADAMW | IMAGES | {"clip_norm": 0.5, "epochs": 1}),
    "images-vit-sgd": small_spec("vit", train=SGD | IMAGES | {"scheduler": "step", "step_epochs": 0.7}),
    "images-vit-adamw": small_spec("vit", train=ADAMW | IMAGES, quantization=ACTIVATION),
    "text-gpt-sgd": small_spec("gpt", train=SGD | {"batch_size": 6, "scheduler": "linear"}, quantization=ACTIVATION),
    "text-gpt-adamw": small_spec("gpt", train=ADAMW | {"batch_size": 2, "gradient_accumulation_steps": 3}),
    # The warm-up of quantization is longer than the run, so that the last weights are half-quantized in the test.
    "blend-beyond-the-end": small_spec("gpt", train=ADAMW | {"batch_size": 6}, quantization={"blend_epochs": 5}),
    "several-steps-per-record": small_spec("vit", train=ADAMW | IMAGES, record={"log_every": 4}),
}


class Witness(Listener):
    """Kills the run at an event, before the checkpoints hear of it, and keeps the final tensors."""

    def __init__(self, kill_at: int | None = None, at: type[Event] = StepsFinished):
        self.kill_at, self.at = kill_at, at
        self.final: dict[str, torch.Tensor] = {}

    def handle(self, event: Event) -> None:
        match event:
            case StepsFinished():
                step = event.records[-1]["step"]
            case StateReady() | RunFinished():
                step = event.state.step
            case _:
                return
        if isinstance(event, self.at) and self.kill_at is not None and step >= self.kill_at:
            raise Killed
        if isinstance(event, RunFinished):
            self.final = {"schedule": torch.tensor(event.state.schedule.lr.get_last_lr(), dtype=torch.float64)}
            self.final |= tensors_of(event.state)


def attempt(spec: RunSpec, folder: Path, data: Path, witness: Witness) -> dict[str, Any]:
    return execute(spec, folder, data, observers=lambda spec, work: [witness])


def recording(spec: RunSpec) -> RunSpec:
    """With every record there is, and a state after each window of steps."""
    record = {"resume_seconds": 0, "track_grads": True, "checkpoint_every_steps": 4, "save_checkpoints": True}
    return changed(spec, record=record)


def assert_same_run(folder: Path, reference: Path, witness: Witness, whole: Witness) -> None:
    """Published files and final state of two runs."""
    assert lines_of(folder / "events.jsonl") == lines_of(reference / "events.jsonl")
    assert (folder / "gradients.jsonl").read_bytes() == (reference / "gradients.jsonl").read_bytes()
    files = {p.name for p in reference.glob("*.safetensors")}
    assert files == {p.name for p in folder.glob("*.safetensors")} >= {"weights.safetensors", "step4.safetensors"}
    for name in files:
        assert_identical(load_weights(folder / name), load_weights(reference / name))
    one, other = (json.loads((f / "summary.json").read_text()) for f in (folder, reference))
    for volatile in ("seconds", "machine"):
        del one[volatile], other[volatile]
    assert one == other
    assert_identical(witness.final, whole.final)


@pytest.mark.parametrize("case", CASES)
def test_run_killed_at_every_step_equals_an_uninterrupted_one(case, folder_of, tmp_path):
    spec = recording(CASES[case])
    data = folder_of[spec.model.name]
    whole = Witness()
    steps = attempt(spec, tmp_path / "whole", data, whole)["steps"]
    assert any(name.startswith("optimizer.") for name in whole.final)
    folder = tmp_path / "interrupted"
    kills = [Witness(step, StepsFinished) for step in range(1, steps + 1)] + [Witness(steps, RunFinished)]
    for kill in kills:
        with pytest.raises(Killed):
            attempt(spec, folder, data, kill)
        assert not (folder / "summary.json").exists()
    last = Witness()
    attempt(spec, folder, data, last)
    assert_same_run(folder, tmp_path / "whole", last, whole)


@pytest.mark.parametrize("age", [1, 5])
def test_lines_written_after_the_checkpoint_are_written_once(age, folder_of, tmp_path):
    """The state is `age` steps old when the run is killed, and its last line is torn."""
    spec = recording(CASES["images-vit-adamw"])
    whole, last = Witness(), Witness()
    attempt(spec, tmp_path / "whole", folder_of["vit"], whole)
    folder = tmp_path / "interrupted"
    with pytest.raises(Killed):
        attempt(spec, folder, folder_of["vit"], Witness(10 - age, StateReady))
    state = (folder / "work/state.safetensors").read_bytes()
    with pytest.raises(Killed):
        attempt(spec, folder, folder_of["vit"], Witness(10))
    (folder / "work/state.safetensors").write_bytes(state)
    for name in ("events.jsonl", "gradients.jsonl"):
        with (folder / "work" / name).open("a") as stream:
            stream.write('{"type": "step", "st')
    attempt(spec, folder, folder_of["vit"], last)
    assert_same_run(folder, tmp_path / "whole", last, whole)


def command(spec: RunSpec, folder: Path, data: Path) -> list[str]:
    write_text(folder.parent / "spec.json", spec.to_json())
    paths = ["--spec", folder.parent / "spec.json", "--folder", folder, "--data-folder", data]
    return [sys.executable, "-m", "lowbit", "train", *map(str, paths)]


def lines_in(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("case", ["images-vit-sgd", "text-gpt-adamw"])
def test_real_sigkill_loses_nothing(case, folder_of, tmp_path):
    """Two processes, with hash seeds of their own, make together what this one makes alone."""
    epochs = {"epochs": 13 if case.startswith("images") else 10}
    spec = changed(CASES[case], train=epochs, record={"resume_seconds": 0.1, "save_checkpoints": True})
    data, folder = folder_of[spec.model.name], tmp_path / "run" / "seed0"
    arguments = command(spec, folder, data)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    work = folder / "work"
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not ((work / "state.safetensors").exists() and lines_in(work / "events.jsonl") > 25):
            assert process.poll() is None, f"ended too early: {process.stderr.read()}"
            assert time.monotonic() < deadline, "made no progress"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    finally:
        process.kill()
        process.stderr.close()
    assert not (folder / "summary.json").exists()
    again = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert f"resuming {spec.path} at step" in again.stderr
    summary = execute(spec, tmp_path / "whole", data)
    resumed = json.loads((folder / "summary.json").read_text())
    assert resumed["weights_sha256"] == summary["weights_sha256"]
    assert (resumed["test"], resumed["validation"]) == (summary["test"], summary["validation"])
    assert lines_of(folder / "events.jsonl") == lines_of(tmp_path / "whole/events.jsonl")
    for name in ("weights.safetensors", "best.safetensors"):
        assert_identical(load_weights(folder / name), load_weights(tmp_path / "whole" / name))
