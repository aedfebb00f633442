"""What a problem is: a point in the space of its tensors, and objectives at that point."""

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

import torch

from lowbit.estimators._base import Objective, Parameters
from lowbit.spec import RunSpec
from lowbit.surrogates._base import Surrogate


def stream(seed: int, *purpose: object) -> torch.Generator:
    """A generator of its own for every purpose, so that nothing depends on the order in which things are drawn."""
    content = "/".join(map(str, (seed, *purpose))).encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1)


class Problem(ABC):
    """A family of losses: one per seed."""

    @abstractmethod
    def start(self, seed: int) -> Parameters:
        """Every tensor of the problem at the point where estimators are asked, pretraining included.

        Args:
            seed: number of the initialisation.
        """

    @abstractmethod
    def objective(
        self,
        tensors: Parameters,
        surrogate: Surrogate,
        generator: torch.Generator,
        batch_size: int,
        names: tuple[str, ...] | None = None,
    ) -> Objective:
        """The loss on a freshly drawn batch.

        Args:
            tensors: from `start`.
            surrogate: of the roundings.
            generator: draws the batch.
            batch_size: samples.
            names: tensors to study; all that the problem offers by default.
        """

    def held_out(self) -> "Problem":
        """The same problem on samples that no batch of this one contains: itself, where every batch is drawn anew."""
        return self


class NetworkProblem(ABC):
    """A problem about a network that the pipeline trains, posed once that network is known."""

    @abstractmethod
    def posed(self, training: RunSpec, data_folder: Path) -> Problem:
        """The problem for one network.

        Args:
            training: the run that trained it. `{seed}` in `start_from` stands for the number of the initialisation.
            data_folder: its prepared dataset.

        Raises:
            SettingError: when dataset or network are none that the problem can be posed for.
        """
