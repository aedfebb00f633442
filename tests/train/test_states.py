"""States that a run must not go on from: damaged, or of another spec, other data, other code, other initial weights."""

import json
import logging

import pytest
import torch
from interruptions import STEPS, WHOLE, assert_equal_to, counting, half_done
from small_data import Patterns
from small_runs import changed

from lowbit.spec import RunSpec
from lowbit.train import loop
from lowbit.train.assemble import assemble
from lowbit.train.checkpoint import save_weights
from lowbit.train.run import execute


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.999])
def test_truncated_state_is_reported_and_the_run_starts_afresh(kept, images, whole, tmp_path, caplog):
    path = half_done(WHOLE, tmp_path, images)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    execute(WHOLE, tmp_path, images)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert str(path) in warning
    assert "starting from step 0" in warning
    assert_equal_to(whole, tmp_path)


def test_weights_in_the_place_of_a_state_are_reported(images, whole, tmp_path, caplog):
    path = half_done(WHOLE, tmp_path, images)
    save_weights({"model.classifier.bias": torch.ones(4)}, path)
    execute(WHOLE, tmp_path, images)
    assert "starting from step 0" in caplog.text
    assert_equal_to(whole, tmp_path)


@pytest.mark.parametrize("other", [{"seed": 1}, {"train": {"lr": 0.02}}, {"softmax": {"name": "base2"}}])
def test_state_of_another_spec_is_not_used(other, images, whole, tmp_path, caplog):
    half_done(changed(WHOLE, **other), tmp_path, images)
    execute(WHOLE, tmp_path, images)
    assert "another spec" in caplog.text
    assert_equal_to(whole, tmp_path)


def test_state_of_other_code_is_not_used(images, whole, tmp_path, caplog, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunSpec, "code_digest", "0123456789abcdef")
        half_done(WHOLE, tmp_path, images)
    execute(WHOLE, tmp_path, images)
    assert "other code" in caplog.text
    assert_equal_to(whole, tmp_path)


def test_state_of_other_data_is_not_used(images, whole, tmp_path, caplog):
    """A dataset prepared anew under the same name."""
    other = tmp_path / "images"
    Patterns().prepare(other)
    manifest_of_other = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest_of_other | {"std": [0.3, 0.3, 0.3]}))
    half_done(WHOLE, tmp_path / "run", other)
    execute(WHOLE, tmp_path / "run", images)
    assert "other data" in caplog.text
    assert_equal_to(whole, tmp_path / "run")


def test_state_that_began_from_other_weights_is_not_used(images, tmp_path, caplog):
    dense = changed(WHOLE, quantization={"weight": {"name": "none"}})
    spec = changed(WHOLE, start_from=str(tmp_path / "start.safetensors"))
    for seed in (0, 1):
        start = assemble(changed(dense, seed=seed), images).state.model.state_dict()
        save_weights(start, tmp_path / "start.safetensors")
        if seed == 0:
            half_done(spec, tmp_path / "run", images)
    resumed = execute(spec, tmp_path / "run", images)
    assert "starting from step 0" in caplog.text
    assert resumed["weights_sha256"] == execute(spec, tmp_path / "whole", images)["weights_sha256"]


def test_half_done_run_can_be_thrown_away(images, whole, tmp_path, monkeypatch):
    half_done(WHOLE, tmp_path, images)
    (tmp_path / "work/step3.safetensors").touch()
    steps = []
    monkeypatch.setattr(loop, "forward_backward", counting(loop.forward_backward, steps))
    execute(WHOLE, tmp_path, images, resume=False)
    assert len(steps) == STEPS
    assert not list(tmp_path.glob("step*"))
    assert_equal_to(whole, tmp_path)
