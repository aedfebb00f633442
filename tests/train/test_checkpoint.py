"""Checkpoint files: everything comes back, nothing is unpickled, foreign ones are refused, none is half-written."""

import json
import math

import pytest
import torch
from small_runs import assert_identical, changed, small_spec, tensors_of, until

from lowbit.errors import SettingError
from lowbit.train import checkpoint
from lowbit.train.assemble import Run, assemble
from lowbit.train.checkpoint import (
    CheckpointError,
    load_weights,
    read_state,
    restore,
    save_state,
    save_weights,
    weights_sha256,
)
from lowbit.train.loop import train

IDENTITY = {"spec": "a", "code": "b"}
TWO_STAGE = {"scheduler": "two_stage", "weight_decay": 0.1}


def advanced(spec, folder, steps: int) -> Run:
    run = assemble(spec, folder)
    for _ in until(train(run), steps):
        pass
    return run


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("model", ["resnet18", "vit", "gpt"])
def test_state_comes_back_bit_for_bit(optimizer, precision, model, folder_of, tmp_path):
    recipe = {"optimizer": optimizer, "precision": precision, "batch_size": 24, "evaluations_per_epoch": 2}
    spec = small_spec(model, train=recipe | {"epochs": 1.5} | TWO_STAGE, record={"ternary_every_steps": 1})
    run, fresh = advanced(spec, folder_of[model], 2), assemble(spec, folder_of[model])
    assert run.state.best_weights
    assert run.state.dynamics.codes
    save_state(run.state, tmp_path / "state.safetensors", IDENTITY, {"seconds": 1.5})
    assert restore(fresh.state, read_state(tmp_path / "state.safetensors", IDENTITY)) == {"seconds": 1.5}
    assert_identical(tensors_of(fresh.state), tensors_of(run.state))
    for name in ("step", "epoch", "best_loss", "best_step"):
        assert getattr(fresh.state, name) == getattr(run.state, name)
    assert fresh.state.dynamics.step == run.state.dynamics.step
    groups = [
        [{k: v for k, v in g.items() if k != "params"} for g in r.state.optimizer.param_groups] for r in (run, fresh)
    ]
    assert json.dumps(groups[0]) == json.dumps(groups[1])
    rest, other = list(train(run)), list(train(fresh))
    assert [getattr(e, "results", None) for e in rest] == [getattr(e, "results", None) for e in other]


def test_moments_lie_in_memory_as_their_parameters_do(images, tmp_path):
    """Fused kernels walk both in memory order; moments of another layout would meet the wrong weights."""
    spec = small_spec("resnet18", train={"batch_size": 32})
    run, fresh = advanced(spec, images, 2), assemble(spec, images)
    save_state(run.state, tmp_path / "state.safetensors", IDENTITY, {})
    restore(fresh.state, read_state(tmp_path / "state.safetensors", IDENTITY))
    kernels = [p for p in fresh.state.model.parameters() if p.ndim == 4]
    assert kernels
    for kernel in kernels:
        assert fresh.state.optimizer.state[kernel]["exp_avg"].stride() == kernel.stride()


def test_state_before_any_evaluation_comes_back(images, tmp_path):
    run = assemble(small_spec("vit"), images)
    save_state(run.state, tmp_path / "state.safetensors", IDENTITY, {})
    fresh = assemble(small_spec("vit"), images)
    restore(fresh.state, read_state(tmp_path / "state.safetensors", IDENTITY))
    assert fresh.state.best_loss == math.inf
    assert fresh.state.best_weights == {}


@pytest.mark.parametrize("identity", [{"spec": "other", "code": "b"}, {"spec": "a", "code": "other"}])
def test_state_of_another_run_is_refused_and_changes_nothing(identity, images, tmp_path):
    run = advanced(small_spec("vit"), images, 3)
    save_state(run.state, tmp_path / "state.safetensors", IDENTITY, {})
    fresh = assemble(small_spec("vit"), images)
    before = tensors_of(fresh.state)
    with pytest.raises(CheckpointError, match="another spec, other data or other code"):
        read_state(tmp_path / "state.safetensors", identity)
    assert_identical(tensors_of(fresh.state), before)
    assert fresh.state.step == 0


def test_file_is_plain_safetensors(images, tmp_path):
    """Eight bytes of header length, JSON, then the tensors end to end: no pickle."""
    run = advanced(small_spec("vit"), images, 3)
    save_state(run.state, tmp_path / "state.safetensors", IDENTITY, {})
    content = (tmp_path / "state.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    state = json.loads(header.pop("__metadata__")["state"])
    assert state["step"] == 3
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(content) - 8 - length
    assert {name.partition(".")[0] for name in header} >= {"model", "optimizer", "codes"}


@pytest.mark.parametrize("writer", ["state", "weights"])
def test_failed_write_leaves_the_old_file(writer, images, tmp_path, monkeypatch):
    run = advanced(small_spec("vit"), images, 3)
    path = tmp_path / "file.safetensors"
    write = {
        "state": lambda: save_state(run.state, path, IDENTITY, {}),
        "weights": lambda: save_weights(run.state.model.state_dict(), path),
    }[writer]
    write()
    before = path.read_bytes()

    def disk_full(tensors, target, **keywords):
        target.write_bytes(before[:100])
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", disk_full)
    with pytest.raises(OSError, match="No space"):
        write()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["file.safetensors"]


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors"):
        load_weights(tmp_path / "nothing.safetensors")


def test_weights_that_share_memory_or_are_transposed_come_back(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    weights = {"a": base, "b": base[1:], "c": base.t(), "d": torch.tensor(3), "e": torch.zeros(0)}
    save_weights(weights, tmp_path / "w.safetensors")
    assert_identical(load_weights(tmp_path / "w.safetensors"), weights)


def test_digest_depends_on_names_types_shapes_and_every_bit():
    weights = {"a": torch.tensor([[1.0, 2.0]]), "n": torch.tensor(3)}
    same = {"n": torch.tensor(3), "a": torch.tensor([[1.0], [2.0]]).t()}
    assert weights_sha256(weights) == weights_sha256(same)
    others = [
        {"b": weights["a"], "n": weights["n"]},
        {"a": weights["a"].view(2), "n": weights["n"]},
        {"a": weights["a"].double(), "n": weights["n"]},
        {"a": torch.nextafter(weights["a"], torch.tensor(9.0)), "n": weights["n"]},
        {"a": weights["a"]},
        {"a": weights["a"], "n": torch.tensor(4)},
    ]
    digests = [weights_sha256(w) for w in [weights, *others]]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("model", ["resnet18", "vit", "gpt"])
def test_run_can_start_from_the_weights_of_another(model, folder_of, tmp_path):
    """The full-precision weights of a pretraining run become the latent weights of a ternary one."""
    dense = small_spec(model, quantization={"weight": {"name": "none"}})
    source = advanced(dense, folder_of[model], 2).state.model.state_dict()
    save_weights(source, tmp_path / "w.safetensors")
    tuned = small_spec(model, start_from=str(tmp_path / "w.safetensors"))
    started = assemble(tuned, folder_of[model]).state.model.state_dict()
    kept = source.keys() & started.keys()
    assert {name for name in source if name.endswith(("conv1.weight", "qkv.weight", "classifier.weight"))} <= kept
    assert all(torch.equal(source[name], started[name]) for name in kept)
    fresh = assemble(changed(tuned, start_from=None), folder_of[model]).state.model.state_dict()
    assert not torch.equal(fresh["classifier.weight"], started["classifier.weight"])


def test_weights_of_another_model_are_refused(images, tmp_path):
    converted = assemble(small_spec("vit"), images).state.model.state_dict()
    save_weights(converted, tmp_path / "w.safetensors")
    for model in ("vit", "resnet18"):
        with pytest.raises(
            SettingError, match=r"start_from .*w\.safetensors: not the weights.*[Mm]issing key"
        ) as caught:
            assemble(small_spec(model, start_from=str(tmp_path / "w.safetensors")), images)
        assert "\n" not in str(caught.value)
