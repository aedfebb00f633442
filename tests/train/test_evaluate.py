"""Evaluation: sums over targets, the ragged end, best against last weights, and who may look at the test split."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import COUNTS, SMALL_TEXT
from small_runs import changed, follow, small_spec

from lowbit.layers.convert import bit_layers
from lowbit.train import loop
from lowbit.train.assemble import assemble
from lowbit.train.checkpoint import weights_sha256
from lowbit.train.evaluate import perplexity, results_of
from lowbit.train.events import Evaluated, RunFinished, StateReady
from lowbit.train.loop import evaluate_split, train

VIT, GPT = small_spec("vit"), small_spec("gpt")


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("model", ["resnet18", "vit"])
def test_results_on_images_are_means_over_all_of_them(split, model, images):
    run = assemble(small_spec(model, train={"precision": "float64"}), images)
    batches = list(run.batches.evaluation(split))
    inputs, labels = (torch.cat([getattr(b, name) for b in batches]) for name in ("inputs", "labels"))
    assert len(labels) == COUNTS[split]
    found = evaluate_split(run, split)
    assert run.state.model.training, "training goes on in the mode that it was in"
    logits = run.state.model.eval()(inputs)
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-12)
    assert found["accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    assert found.keys() == {"loss", "accuracy"}


def test_results_on_text_weigh_every_token_alike(text):
    """The ragged last window counts by its tokens, and its positions begin anew."""
    run = assemble(changed(GPT, train={"precision": "float64"}), text)
    tokens = torch.from_numpy(np.array(run.batches.arrays["validation"]["tokens"]).astype(np.int64))
    found = evaluate_split(run, "validation")
    nats, right = [], []
    for start in range(0, len(tokens) - 1, 16):
        window = tokens[start : start + 17]
        logits = run.state.model(window[None, :-1])[0]
        nats += F.cross_entropy(logits, window[1:], reduction="none").tolist()
        right += (logits.argmax(1) == window[1:]).tolist()
    assert len(nats) == SMALL_TEXT.lengths["validation"] - 1
    assert found["loss"] == pytest.approx(np.mean(nats), rel=1e-12)
    assert found["accuracy"] == pytest.approx(np.mean(right), rel=1e-12)
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-12)


@pytest.mark.parametrize("model", ["vit", "gpt"])
def test_validation_batch_size_changes_nothing_beyond_rounding(model, folder_of):
    spec = small_spec(model, train={"precision": "float64"})
    results = []
    for size in (1, 5, 37, 256):
        run = assemble(changed(spec, train={"validation_batch_size": size}), folder_of[model])
        results.append(evaluate_split(run, "validation"))
    for result in results[1:]:
        assert result == pytest.approx(results[0], rel=1e-12)


@pytest.mark.parametrize("model", ["resnet18", "vit"])
def test_evaluation_leaves_the_training_as_it_is(model, images):
    """More evaluations, equal weights: no running statistics, random numbers or gradients are touched."""
    spec = small_spec(model, train={"epochs": 1})
    one, other = (follow(s, images) for s in (spec, changed(spec, train={"evaluations_per_epoch": 6})))
    assert len(other.evaluations) == 6 * len(one.evaluations)
    assert one.losses == other.losses
    digests = [weights_sha256(f.run.state.model.state_dict()) for f in (one, other)]
    assert digests[0] == digests[1]


def test_perplexity_is_exp_of_nats():
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(50257)) == pytest.approx(50257)
    assert perplexity(700.0) == math.exp(700.0)
    assert perplexity(710.0) == math.inf
    assert results_of(1.0, 0.5, "tokens") == {"loss": 1.0, "accuracy": 0.5, "perplexity": math.e}
    assert results_of(1.0, 0.5, "samples") == {"loss": 1.0, "accuracy": 0.5}


@pytest.mark.parametrize("softmax", ["base_e", "base2"])
def test_every_perplexity_of_a_run_is_exp_of_its_loss(softmax, text):
    """Also under base 2: losses are nats there too, so 2 to the loss would be wrong."""
    followed = follow(changed(GPT, softmax={"name": softmax}), text)
    for record in [*followed.records, *followed.evaluations, *followed.results.values()]:
        assert record["perplexity"] == pytest.approx(math.exp(record["loss"]), rel=1e-12)


@pytest.mark.parametrize("softmax", ["base_e", "base2"])
def test_uniform_prediction_costs_the_logarithm_of_the_vocabulary(softmax, text):
    """ln V nats in any base."""
    run = assemble(changed(GPT, softmax={"name": softmax}), text)
    torch.nn.init.zeros_(run.state.model.classifier.weight)
    assert evaluate_split(run, "test")["perplexity"] == pytest.approx(12, rel=1e-6)


def steered(monkeypatch, losses: list[float]) -> None:
    """Let the validation pass report these losses, one after the other."""
    queue = iter(losses)
    honest = evaluate_split

    def evaluate(run, split):
        result = honest(run, split)
        return result | {"loss": next(queue)} if split == "validation" else result

    monkeypatch.setattr(loop, "evaluate_split", evaluate)


@pytest.mark.parametrize(("losses", "best"), [
    ([3.0, 1.0, 2.0, 1.5], 2), ([1.0, 2.0, 3.0, 4.0], 1), ([4.0, 3.0, 2.0, 1.0], 4), ([2.0, 1.0, 1.0, 1.0], 2),
])  # fmt: skip
def test_best_weights_are_those_of_the_lowest_validation_loss(losses, best, images, monkeypatch):
    spec = changed(VIT, train={"evaluations_per_epoch": 2})
    steered(monkeypatch, losses)
    run = assemble(spec, images)
    digests, flags, results = {}, [], {}
    for event in train(run):
        if isinstance(event, Evaluated):
            flags.append(event.best)
        elif isinstance(event, StateReady):
            digests[event.state.step] = weights_sha256(event.state.model.state_dict())
        elif isinstance(event, RunFinished):
            results = event.results
    assert flags == [loss < min(losses[:i], default=math.inf) for i, loss in enumerate(losses)]
    assert run.state.best_step == 3 * best
    assert run.state.best_loss == min(losses)
    assert weights_sha256(run.state.best_weights) == digests[3 * best]
    assert weights_sha256(run.state.model.state_dict()) == digests[12]  # the model keeps the last weights
    assert (results["last"] == results["best"]) == (best == 4)
    run.state.model.load_state_dict(run.state.best_weights)
    assert evaluate_split(run, "test") == results["best"]


def test_half_quantized_weights_are_never_the_best(images, monkeypatch):
    """Their loss is that of another network than the one tested at the end."""
    spec = changed(VIT, train={"evaluations_per_epoch": 2}, quantization={"blend_epochs": 1})
    steered(monkeypatch, [0.1, 0.2, 2.0, 3.0])
    run = assemble(spec, images)
    events = [event for event in train(run) if isinstance(event, Evaluated)]
    assert [event.best for event in events] == [False, False, True, False]
    assert run.state.best_step == 9
    assert {layer.blend for layer in bit_layers(run.state.model).values()} == {1.0}


def test_test_split_is_read_at_the_end_only(images, monkeypatch):
    """Once for the last weights and once for the best, after the last state; never to choose anything."""
    run = assemble(VIT, images)
    honest, asked = run.batches.evaluation, []
    monkeypatch.setattr(run.batches, "evaluation", lambda split: (asked.append(split), honest(split))[1])
    for event in train(run):
        if isinstance(event, StateReady):
            assert "test" not in asked
    assert asked == ["validation", "validation", "test", "test"]


def test_content_of_the_test_split_cannot_change_the_training(images):
    """With its arrays taken away, the run goes on until the very last step."""
    whole = follow(VIT, images)
    run = assemble(VIT, images)
    del run.batches.arrays["test"]
    states = []
    with pytest.raises(KeyError, match="test"):
        states.extend(event.state.step for event in train(run) if isinstance(event, StateReady))
    assert states == list(range(1, 13))
    assert weights_sha256(run.state.model.state_dict()) == weights_sha256(whole.run.state.model.state_dict())


def test_validation_split_cannot_change_the_training(images):
    whole = follow(VIT, images)
    run = assemble(VIT, images)
    rng = np.random.default_rng(0)
    run.batches.arrays["validation"] = {
        "images": rng.integers(0, 256, (5, 3, 8, 8), dtype=np.uint8), "labels": np.zeros(5, dtype=np.int64)
    }  # fmt: skip
    list(train(run))
    assert weights_sha256(run.state.model.state_dict()) == weights_sha256(whole.run.state.model.state_dict())
