"""Full-size studies without the hardware: they plan, their shapes fit, and they fit into one GPU's memory."""

from pathlib import Path

import pytest
import torch

from lowbit import catalog
from lowbit.config import load
from lowbit.layers.convert import convert
from lowbit.train.assemble import build_model, conversion_rules

ROOT = Path(__file__).parent.parent
GPU_BYTES = 80e9
FULL_SIZE = (
    *("paper", "imagenet100", "language", "transfer_cifar"),
    *("exchange", "exchange_networks", "exchange_openwebtext"),
)
SPLITS = {s: {"tokens": {"shape": [200_000]}} for s in ("train", "validation", "test")}
# What `prepare` would find in the data sets that these overlays name.
FORMS = {
    "cifar10": {"kind": "images", "input_shape": [3, 32, 32], "classes": ["c"] * 10},
    "cifar100": {"kind": "images", "input_shape": [3, 32, 32], "classes": ["c"] * 100},
    "imagenet100": {"kind": "images", "input_shape": [3, 224, 224], "classes": ["c"] * 100},
    "wikitext2": {"kind": "text", "vocabulary": 8192, "splits": SPLITS},
    "ptb": {"kind": "text", "vocabulary": 10_000, "splits": SPLITS},
    "openwebtext": {"kind": "text", "vocabulary": 50_257, "splits": SPLITS},
}


def specs():
    """One spec per task of the full-size studies and arm that computes a step in another way."""
    for name in FULL_SIZE:
        seen = set()
        for spec in load(ROOT / "workflow_config.yaml", ROOT / f"studies/{name}.yaml", data_root="data").runs:
            step = spec.model_dump_json(include={"task", "model", "quantization", "softmax", "softmax_where"})
            if spec.seed == 0 and step not in seen:
                seen.add(step)
                yield pytest.param(spec, id=f"{name}-{spec.task}-{spec.arm}")


@pytest.mark.parametrize("spec", specs())
def test_a_full_size_step_has_the_right_shapes_and_fits_one_gpu(spec):
    form = FORMS[spec.dataset]
    softmax = catalog.build("softmaxes", spec.softmax)
    with torch.device("meta"):
        model = build_model(spec, form, softmax)
        table = convert(model, conversion_rules(spec))
        batch = spec.train.batch_size
        if form["kind"] == "images":
            inputs, classes = torch.empty(batch, *form["input_shape"]), len(form["classes"])
        else:
            inputs, classes = torch.empty(batch, spec.context, dtype=torch.int64), form["vocabulary"]
        saved = 0

        def pack(tensor):
            nonlocal saved
            saved += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = model(inputs)
        logits.sum().backward()
    assert logits.shape == (*inputs.shape[: logits.ndim - 1], classes)
    assert all(p.grad is not None for p in model.parameters())
    assert any(row.converted for row in table) == (spec.quantization.weight.name != "none")
    state = sum(p.numel() for p in model.parameters()) * 16  # weight, gradient and two moments, 4 bytes each
    assert state + saved < GPU_BYTES, f"{(state + saved) / 1e9:.0f} GB: lower train.batch_size and accumulate"


def test_the_memory_check_sees_what_does_not_fit():
    spec = next(specs()).values[0]
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"batch_size": 60_000})})
    with pytest.raises(AssertionError, match=r"lower train\.batch_size"):
        test_a_full_size_step_has_the_right_shapes_and_fits_one_gpu(spec)
