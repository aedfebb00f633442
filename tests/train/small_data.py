"""Tiny prepared folders: images that a small network can learn, and text whose entropy is known."""

from math import log
from pathlib import Path
from typing import ClassVar

import numpy as np

from lowbit.data._base import SPLITS, ImageDataset, Raw, TextDataset

COUNTS = {"train": 96, "validation": 37, "test": 29}


class Patterns(ImageDataset):
    """A pattern of its own per class under noise; 3x8x8, four classes, splits of 96, 37 and 29 images."""

    classes: ClassVar[int] = 4

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        """Draw them; no image occurs twice."""
        rng = np.random.default_rng(3)
        patterns = rng.integers(40, 200, (self.classes, 3, 8, 8))
        arrays = {}
        for split, count in COUNTS.items():
            labels = np.arange(count, dtype=np.int64) % self.classes
            noise = rng.integers(-40, 41, (count, 3, 8, 8))
            images = (patterns[labels] + noise).clip(0, 255).astype(np.uint8)
            arrays[split] = {"images": images, "labels": labels}
        return Raw(arrays, source="patterns under noise", details={"classes": list("abcd")})


class MarkovText(TextDataset):
    """A Markov chain of order one.

    Args:
        transitions: P(next | current), shape (V, V).
        lengths: tokens per split.
    """

    def __init__(self, transitions: np.ndarray, lengths: dict[str, int]):
        self.transitions = transitions
        self.lengths = lengths

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        """Walk along the chain, anew for each split."""
        rng = np.random.default_rng(5)
        tokens = {split: self._walk(self.lengths[split], rng) for split in SPLITS}
        details = {"vocabulary": len(self.transitions), "bytes": dict(self.lengths)}
        arrays = {split: {"tokens": walk.astype(np.uint16)} for split, walk in tokens.items()}
        return Raw(arrays, source="Markov chain", details=details)

    def _walk(self, length: int, rng: np.random.Generator) -> np.ndarray:
        cumulative = self.transitions.cumsum(1)
        walk = np.zeros(length, dtype=np.int64)
        for i, draw in enumerate(rng.random(length - 1)):
            walk[i + 1] = np.searchsorted(cumulative[walk[i]], draw * cumulative[walk[i], -1])
        return walk

    def entropy(self) -> float:
        """Nats per token of the source: H = -sum_i pi_i sum_j P_ij ln P_ij, with pi the stationary distribution."""
        values, vectors = np.linalg.eig(self.transitions.T)
        stationary = np.real(vectors[:, np.argmin(abs(values - 1))])
        stationary = stationary / stationary.sum()
        logarithms = np.log(np.where(self.transitions > 0, self.transitions, 1.0))
        return float(-(stationary[:, None] * self.transitions * logarithms).sum())

    def nats_of(self, tokens: np.ndarray) -> float:
        """Mean nats per token of the source's own prediction: no predictor does better but by luck."""
        tokens = np.asarray(tokens, dtype=np.int64)
        return float(-np.log(self.transitions[tokens[:-1], tokens[1:]]).mean())


def skewed_chain(vocabulary: int) -> np.ndarray:
    """Each token prefers a few successors of its own."""
    weights = np.random.default_rng(1).dirichlet(np.full(vocabulary, 0.3), vocabulary) + 0.005
    return weights / weights.sum(1, keepdims=True)


def pairs_chain(half: int) -> np.ndarray:
    """A random token a < half, then its partner half + a, and so on.

    Half of the tokens tell their successor (entropy ln(half) / 2 a token); none tells the token after that (ln(half)).
    """
    transitions = np.zeros((2 * half, 2 * half))
    transitions[np.arange(half), half + np.arange(half)] = 1.0
    transitions[half:, :half] = 1.0 / half
    return transitions


PAIRS_NATS = 0.5 * log(8)
SMALL_TEXT = MarkovText(skewed_chain(12), {"train": 801, "validation": 207, "test": 171})
SKEWED = MarkovText(skewed_chain(12), {"train": 24_000, "validation": 6_000, "test": 500})
PAIRS = MarkovText(pairs_chain(8), {"train": 12_000, "validation": 3_000, "test": 500})
