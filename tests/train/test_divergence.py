"""Losses and gradients that are not finite: where the run ends, what it says and what it leaves."""

import pytest
from interruptions import STEPS, WHOLE, train_by_command
from small_runs import changed, lines_of

from lowbit.errors import UserError
from lowbit.train import loop
from lowbit.train.checkpoint import load_weights
from lowbit.train.run import execute


def test_absurd_learning_rate_ends_with_step_and_checkpoint(images, tmp_path, capsys):
    spec = changed(WHOLE, train={"optimizer": "sgd", "lr": 1e30, "scheduler": "constant"})
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
    sums[0].fill_(float("nan"))


def spoil_gradient(run, sums):
    next(run.state.model.parameters()).grad.view(-1)[0] = float("inf")


@pytest.mark.parametrize(("spoil", "named"), [(spoil_loss, "loss is nan"), (spoil_gradient, "gradient norm is inf")])
@pytest.mark.parametrize("log_every", [1, 4])
def test_divergence_keeps_every_record_before_it(spoil, named, log_every, images, tmp_path, monkeypatch):
    spec = changed(WHOLE, record={"log_every": log_every})
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
    spec = changed(WHOLE, record={"log_every": 6})
    whole_step = loop.forward_backward

    def spoiled(run, batch):
        sums = whole_step(run, batch)
        if run.state.step == 3:
            sums[0].fill_(float("inf"))
        return sums

    monkeypatch.setattr(loop, "forward_backward", spoiled)
    with pytest.raises(UserError, match=r"step 4; .*none was written yet"):
        execute(spec, tmp_path, images)
    assert [line["step"] for line in lines_of(tmp_path / "work/events.jsonl")] == [1, 2, 3]


def test_validation_loss_that_is_not_finite_ends_the_run(images, tmp_path, monkeypatch):
    """The last update may be the one that breaks the weights."""
    spec = changed(WHOLE, train={"optimizer": "sgd", "lr": 1e30, "scheduler": "constant", "epochs": 0.1})
    with pytest.raises(UserError, match=r"validation loss is (nan|inf) at step 1;"):
        execute(spec, tmp_path, images)
    assert not (tmp_path / "summary.json").exists()
