"""The default transfer study: its low-bit runs start from exactly what full-precision pretraining left."""

from pathlib import Path

import torch

from lowbit.config import load
from lowbit.layers.convert import bit_layers
from lowbit.train.assemble import assemble
from lowbit.train.checkpoint import save_weights

CONFIG = load(Path(__file__).parents[2] / "workflow_config.yaml")


def of_arm(arm: str, **changes):
    """The spec of seed 0 of an arm."""
    spec = next(r for r in CONFIG.study_runs("transfer") if (r.arm, r.seed) == (arm, 0))
    return spec.model_copy(update=changes)


def test_fine_tuning_starts_from_the_pretrained_weights_and_statistics(images, tmp_path):
    dense = assemble(next(r for r in CONFIG.pretraining if r.seed == 0), images)
    assert not bit_layers(dense.state.model)
    with torch.no_grad():
        for tensor in dense.state.model.state_dict().values():
            tensor.add_(1)
    source = dense.state.model.state_dict()
    save_weights(source, tmp_path / "weights.safetensors")
    tuned = assemble(of_arm("pretrained", start_from=str(tmp_path / "weights.safetensors")), images).state.model
    started = tuned.state_dict()
    assert started.keys() == source.keys()
    assert all(torch.equal(started[name], source[name]) for name in source)
    assert len(bit_layers(tuned)) == 19, "all convolutions but the first"
    layer = bit_layers(tuned)["blocks.0.conv1"]
    assert torch.equal(layer.quantized_weight().codes, torch.where(source["blocks.0.conv1.weight"] >= 0, 1.0, -1.0))
    scratch = assemble(of_arm("scratch"), images).state.model.state_dict()
    assert all(torch.equal(scratch[name] + 1, source[name]) for name in source), "one seed, one initialisation"


def test_mixup_acts_where_an_arm_says_so(images):
    arms = ("scratch", "pretrained", "scratch_mixup", "pretrained_mixup")
    plain, mixed = ([images_of(arm, images) for arm in arms if ("mixup" in arm) == mixup] for mixup in (False, True))
    assert torch.equal(*plain)
    assert torch.equal(*mixed)
    assert not torch.equal(plain[0], mixed[0])


def images_of(arm: str, folder: Path) -> torch.Tensor:
    return assemble(of_arm(arm, start_from=None), folder).batches.training(3).inputs
