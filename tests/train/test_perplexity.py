"""A source of known entropy: training gets down to it, never below, and only by predicting exactly the next token."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import PAIRS, PAIRS_NATS, SKEWED, MarkovText
from small_runs import Followed, changed, follow, small_spec

from lowbit.data._base import load_split
from lowbit.layers.attention import SelfAttention
from lowbit.spec import RunSpec
from lowbit.train.batches import Batch, TextBatches

DENSE = {"weight": {"name": "none"}, "activation": {"name": "none"}}
BIT_158 = {"weight": {"name": "ternary_absmean"}, "activation": {"name": "int8_absmax"}}
TRAIN = {"epochs": 1.5, "batch_size": 8, "lr": 0.01, "warmup_epochs": 0.05, "clip_norm": 1.0}
SPEC = changed(
    small_spec("gpt", train=TRAIN), model={"name": "gpt", "depth": 1, "width": 32, "heads": 2, "mlp_ratio": 2}
)
BELOW = 0.01  # nats: a lucky draw or a little memory of the training text, no more
ABOVE = 0.03  # nats: what a network of this size leaves after so few steps


@pytest.fixture(scope="module")
def skewed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("skewed") / "data"
    SKEWED.prepare(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "data"
    PAIRS.prepare(folder)
    return folder


def final_loss(spec: RunSpec, folder: Path) -> float:
    return follow(spec, folder).evaluations[-1]["loss"]


def test_entropy_of_the_sources():
    """The oracle itself: two closed forms, and the law of large numbers."""
    assert PAIRS.entropy() == pytest.approx(PAIRS_NATS, rel=1e-12)
    coin = MarkovText(np.full((2, 2), 0.5), {})
    assert coin.entropy() == pytest.approx(math.log(2), rel=1e-12)


def test_own_prediction_of_the_source_costs_its_entropy(skewed):
    tokens = np.concatenate([load_split(skewed, split)["tokens"] for split in ("train", "validation")])
    assert SKEWED.nats_of(tokens) == pytest.approx(SKEWED.entropy(), abs=0.015)


@pytest.mark.parametrize("quantization", [DENSE, BIT_158], ids=["float32", "w1.58a8"])
def test_validation_loss_converges_to_the_entropy(quantization, skewed):
    """Against the source's own loss on the same tokens, so that luck in drawing them cancels."""
    followed: Followed = follow(changed(SPEC, quantization=quantization), skewed)
    last = followed.evaluations[-1]
    optimum = SKEWED.nats_of(load_split(skewed, "validation")["tokens"])
    assert optimum - BELOW < last["loss"] < optimum + ABOVE
    assert last["loss"] == pytest.approx(SKEWED.entropy(), abs=ABOVE + 0.02)
    assert last["perplexity"] == pytest.approx(math.exp(last["loss"]))
    assert followed.losses[0] > optimum + 0.5


def test_base_2_converges_to_the_same_nats(skewed):
    optimum = SKEWED.nats_of(load_split(skewed, "validation")["tokens"])
    assert optimum - BELOW < final_loss(changed(SPEC, softmax={"name": "base2"}), skewed) < optimum + ABOVE


def shifted(by: int):
    """Windows whose targets lie `by` tokens after their inputs."""

    def windows(self: TextBatches, tokens: np.ndarray, starts: np.ndarray, length: int) -> Batch:
        places = np.minimum(starts[:, None] + np.arange(length + by), len(tokens) - 1)
        chosen = torch.from_numpy(tokens[places].astype(np.int64))
        targets = chosen[:, by:]
        return Batch(chosen[:, :length], targets, targets)

    return windows


def test_task_that_needs_the_next_token_is_solved(pairs):
    """Between 0 (targets not shifted at all) and ln 8 (shifted twice), half of the tokens being sure: ln(8) / 2."""
    assert final_loss(SPEC, pairs) == pytest.approx(PAIRS_NATS, abs=0.03)


@pytest.mark.parametrize(("by", "expected"), [(0, 0.0), (2, 2 * PAIRS_NATS)])
def test_wrong_shifts_would_be_noticed(by, expected, pairs, monkeypatch):
    """Negative control: without a shift the task is trivial, with a doubled one it cannot be learned."""
    monkeypatch.setattr(TextBatches, "_windows", shifted(by))
    assert final_loss(SPEC, pairs) == pytest.approx(expected, abs=0.05)


def test_attention_that_sees_the_future_would_be_noticed(pairs, monkeypatch):
    """Negative control: a decoder without its causal mask copies the next token and falls below the entropy."""
    honest = SelfAttention.__init__
    blind = lambda self, *args, causal=False, **keywords: honest(self, *args, causal=False, **keywords)  # noqa: E731
    monkeypatch.setattr(SelfAttention, "__init__", blind)
    assert final_loss(SPEC, pairs) < PAIRS_NATS - 5 * BELOW


@pytest.mark.parametrize("quantization", [DENSE, BIT_158], ids=["float32", "w1.58a8"])
def test_no_prediction_depends_on_later_tokens(quantization, text):
    """Change the tokens from position t on: every logit before t stays, to the bit; that of t moves."""
    from lowbit.train.assemble import assemble

    model = assemble(changed(SPEC, quantization=quantization), text).state.model.eval()
    tokens = torch.arange(16)[None] % 12
    before = model(tokens)
    for t in range(1, 16):
        other = tokens.clone()
        other[:, t:] = (other[:, t:] + 5) % 12
        after = model(other)
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.equal(before[:, t], after[:, t])
