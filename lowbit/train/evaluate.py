"""One pass over a split: loss in nats and accuracy, summed over targets and divided once."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import nn

from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.train.batches import Batch
from lowbit.train.parallel import Ranks


def perplexity(nats: float) -> float:
    """exp of a loss in nats; infinite where a float cannot hold it."""
    return math.exp(nats) if nats < 709 else math.inf


def results_of(loss: float, accuracy: float, unit: str) -> dict[str, float]:
    """Loss (nats) and accuracy (fraction), with perplexity for text."""
    extra = {"perplexity": perplexity(loss)} if unit == "tokens" else {}
    return {"loss": loss, "accuracy": accuracy, **extra}


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    softmax: ExponentialSoftmax,
    unit: str,
    autocast: AbstractContextManager,
    ranks: Ranks,
) -> dict[str, float]:
    """Loss, accuracy and, for text, perplexity over all batches.

    Args:
        model: in evaluation mode meanwhile.
        batches: of one split.
        softmax: the loss's.
        unit: "samples" or "tokens".
        autocast: context of the forward pass.
        ranks: each process takes a share of every batch.
    """
    training = model.training
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=next(model.parameters()).device)
    count = 0
    for batch in batches:
        count += batch.count
        part = batch.part(ranks.share(len(batch.inputs)))
        if not len(part.inputs):
            continue
        with autocast:
            logits = model(part.inputs)
        logits = logits.flatten(0, -2)
        loss = softmax.cross_entropy(logits, part.labels.flatten(), reduction="sum")
        correct = (logits.argmax(-1) == part.labels.flatten()).sum()
        sums += torch.stack([loss.double(), correct.double()])
    model.train(training)
    loss, correct = ranks.sum(sums).tolist()
    return results_of(loss / count, correct / count, unit)
