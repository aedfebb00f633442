"""Micro-batches: k of them give the gradient and the run of one big batch, also when the last one is smaller."""

import pytest
import torch
from small_runs import changed, follow, small_spec

from lowbit.train.assemble import assemble
from lowbit.train.loop import forward_backward

DOUBLE = {"precision": "float64", "epochs": 3}
SMOOTH = {"loss": {"scale": "1/ln2", "label_smoothing": 0.1}}
# (batch size, accumulation steps) of one big batch and of its parts; 96 images, 49 windows of text.
SPLITS = {"even": ((48, 1), (12, 4)), "one by one": ((8, 1), (1, 8)), "ragged": ((96, 1), (40, 3))}
RAGGED_TEXT = ((49, 1), (20, 3))


def gradients(spec, folder) -> dict[str, torch.Tensor]:
    run = assemble(spec, folder)
    forward_backward(run, run.batches.training(0))
    return {name: p.grad.clone() for name, p in run.state.model.named_parameters() if p.grad is not None}


def pair(model: str, split: str, **settings):
    sizes = RAGGED_TEXT if (model, split) == ("gpt", "ragged") else SPLITS[split]
    base = small_spec(model, train=DOUBLE | settings.pop("train", {}), **settings)
    return [changed(base, train={"batch_size": b, "gradient_accumulation_steps": k}) for b, k in sizes]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("model", ["vit", "gpt"])
def test_gradients_of_micro_batches_equal_those_of_one_batch(model, split, folder_of):
    one, many = (gradients(spec, folder_of[model]) for spec in pair(model, split, **SMOOTH))
    assert one.keys() == many.keys()
    assert sum(g.abs().sum() for g in one.values()) > 0
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, many[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("model", ["vit", "gpt"])
def test_runs_of_micro_batches_equal_those_of_one_batch(model, split, folder_of):
    train = {"clip_norm": 1.0, "weight_decay": 0.01} | ({} if model == "gpt" else {"mixup": 0.4, "crop_padding": 1})
    one, many = (follow(spec, folder_of[model]) for spec in pair(model, split, train=train, **SMOOTH))
    assert len(one.records) == len(many.records) >= 3
    for record, other in zip(one.records + one.evaluations, many.records + many.evaluations, strict=True):
        for key in record.keys() & {"loss", "accuracy", "gradient_norm", "lr", "samples", "tokens", "perplexity"}:
            assert record[key] == pytest.approx(other[key], rel=1e-10), key
    weights, others = one.run.state.model.state_dict(), many.run.state.model.state_dict()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, others[name], rtol=1e-8, atol=1e-10)


def test_ragged_micro_batch_is_weighted_by_its_samples(images):
    """The mean of the means of parts of 40, 40 and 16 is another number: the test above would notice it."""
    spec, _ = pair("vit", "ragged")
    run = assemble(spec, images)
    batch = run.batches.training(0)
    losses = run.softmax.cross_entropy(run.state.model.train()(batch.inputs), batch.labels, reduction="none")
    means = torch.stack([part.mean() for part in losses.split([40, 40, 16])])
    assert abs(losses.mean() - means.mean()) > 1e-4
    assert forward_backward(run, batch)[0].item() == pytest.approx(losses.sum().item(), rel=1e-12)


def test_micro_batches_are_no_larger_than_the_batch_size(images, monkeypatch):
    spec = pair("vit", "ragged")[1]
    run = assemble(spec, images)
    sizes = []
    forward = run.state.model.forward
    monkeypatch.setattr(run.state.model, "forward", lambda x: (sizes.append(len(x)), forward(x))[1])
    forward_backward(run, run.batches.training(0))
    assert sizes == [40, 40, 16]
