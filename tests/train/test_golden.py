"""Twenty steps of each default task in miniature give the stored losses on the pinned PyTorch.

After a change that is meant to change results: LOWBIT_UPDATE_GOLDEN=1 python -m pytest tests/train/test_golden.py, and
commit golden.json with it. Runs are in float64: in float32 another processor rounds the last bit otherwise, a ternary
code flips, and the losses part for good. PyTorch draws normal numbers with AVX2 where there is AVX2; elsewhere the
initial weights differ in their last bit, and only the first loss is compared.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from small_runs import changed, follow, small_spec

from lowbit.data.digits import Digits
from lowbit.spec import RunSpec

GOLDEN = Path(__file__).with_name("golden.json")
UPDATE = os.environ.get("LOWBIT_UPDATE_GOLDEN") == "1"
CHANNEL = {"weight": {"name": "ternary_absmean", "granularity": "channel"}}
W158A8 = {"weight": {"name": "ternary_absmean"}, "activation": {"name": "int8_absmax"}}
RECIPE = {"warmup_epochs": 0.1, "scheduler": "cosine", "precision": "float64"}
SGD = RECIPE | {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.0005, "batch_size": 16, "epochs": 20 / 67}
ADAMW = RECIPE | {"lr": 0.008, "weight_decay": 0.01, "clip_norm": 1.0}


def default_tasks() -> dict[str, RunSpec]:
    """As in workflow_config.yaml, but narrower, in smaller batches, and the text drawn from a Markov chain."""
    resnet = small_spec("resnet18", train=SGD, quantization=CHANNEL)
    resnet = changed(resnet, dataset="digits", model={"name": "resnet18", "width": 2})
    vit = small_spec("vit", train=ADAMW | {"batch_size": 32, "epochs": 20 / 33}, quantization=W158A8)
    vit = changed(vit, dataset="digits", model={**vit.model.model_dump(), "patch": 2, "depth": 2})
    gpt = small_spec("gpt", train=ADAMW | {"batch_size": 8, "epochs": 20 / 6}, quantization=W158A8)
    return {"digits_resnet18": resnet, "digits_vit": vit, "stdlib_gpt": gpt}


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "data"
    Digits().prepare(folder)
    return folder


def losses_of(spec: RunSpec, folder: Path) -> dict[str, list[float]]:
    followed = follow(spec, folder)
    evaluation = [followed.evaluations[-1]["loss"], followed.results["last"]["loss"], followed.results["best"]["loss"]]
    return {"training": followed.losses, "validation, test of last, test of best": evaluation}


@pytest.mark.parametrize("softmax", ["base_e", "base2"])
@pytest.mark.parametrize("task", default_tasks())
def test_losses_are_the_stored_ones(task, softmax, digits, text):
    spec = changed(default_tasks()[task], softmax={"name": softmax})
    found = losses_of(spec, text if task == "stdlib_gpt" else digits)
    assert len(found["training"]) == 20
    stored = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    name = f"{task}/{softmax}"
    if UPDATE:
        stored |= {"torch": torch.__version__.partition("+")[0], name: found}
        GOLDEN.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
        return
    assert stored["torch"] == torch.__version__.partition("+")[0], (
        "another PyTorch; refresh with LOWBIT_UPDATE_GOLDEN=1"
    )
    same_draws = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    for part, losses in found.items() if same_draws else [("training", found["training"][:1])]:
        expected = stored[name][part][: len(losses)]
        assert losses == pytest.approx(expected, rel=1e-5), f"{part}; meant? then LOWBIT_UPDATE_GOLDEN=1"


def test_every_stored_run_is_tested():
    names = {f"{task}/{softmax}" for task in default_tasks() for softmax in ("base_e", "base2")}
    assert json.loads(GOLDEN.read_text()).keys() == names | {"torch"}
