"""The problem of one layer of a known network: its start, and the loss on batches of its training images."""

import copy

import torch
from torch import Tensor, nn

from lowbit import catalog
from lowbit.errors import SettingError
from lowbit.estimators._base import Parameters
from lowbit.problems._base import Problem, stream
from lowbit.problems._network_objective import Batch, NetworkObjective
from lowbit.problems._studied_network import StudiedNetwork
from lowbit.problems._trained import Trained
from lowbit.surrogates._base import Surrogate

_SUBSET = "subset/"


class PosedNetwork(Problem):
    """Cross-entropy as a function of a layer.

    Args:
        trained: the network and its images.
        layer: its place or the name of its parameter.
        pretrained: whether it starts from its trained weights.
        coordinates: how many of its weights may move; None for all.
        calibration_images: for the statistics of a fresh network.

    Raises:
        SettingError: when there is no such layer.
    """

    def __init__(
        self, trained: Trained, *, layer: int | str, pretrained: bool, coordinates: int | None, calibration_images: int
    ):
        self._trained, self._pretrained, self._coordinates = trained, pretrained, coordinates
        self._calibration_images = calibration_images
        self._half = 0
        self._kept: dict[tuple[str, ...], tuple[Parameters, StudiedNetwork]] = {}
        self.name = self._resolved(layer)

    def _resolved(self, layer: int | str) -> str:
        """The parameter that a place means."""
        names = self._trained.layers
        places = {str(number): name for number, name in enumerate(names, 1)}
        if names:
            places |= {"first": names[0], "last": names[-1]}
        if len(names) > 1:
            places |= {"second_last": names[-2]}
        wanted = str(layer)
        parameters = self._trained.parameters
        if wanted not in places and wanted not in parameters:
            raise SettingError(f"layer {wanted!r}: {catalog.suggestion(wanted, [*places, *parameters])}")
        return places.get(wanted, wanted)

    def start(self, seed: int) -> Parameters:
        """The state of the network, and the positions in the layer that may move as `subset/<name>`, int64."""
        if self._pretrained:
            state = self._trained.pretrained(seed)
        else:
            state = self._calibrated(self._trained.initial(seed), seed).state_dict()
        tensors = {n: t.detach().to(self._trained.dtype).clone() for n, t in state.items() if t.is_floating_point()}
        return tensors | self._subset(tensors, seed, self.name)

    def _subset(self, tensors: Parameters, seed: int, name: str) -> Parameters:
        size = tensors[name].numel()
        if self._coordinates is None or self._coordinates >= size:
            return {}
        drawn = torch.randperm(size, generator=stream(seed, "coordinates", name))[: self._coordinates]
        return {f"{_SUBSET}{name}": drawn.sort().values}

    def _calibrated(self, module: nn.Module, seed: int) -> nn.Module:
        """The module with the statistics of one large batch in its batch norms."""
        norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        usual = [norm.momentum for norm in norms]
        images, _ = self._drawn(0, stream(seed, "calibration"), self._calibration_images)
        with torch.no_grad():
            for norm in norms:
                norm.momentum = 1.0
            module.train()(images)
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
        return module.eval()

    def _drawn(self, half: int, generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Images of one half of the split, none twice."""
        positions = self._trained.halves()[half]
        if count > len(positions):
            raise SettingError(f"{count} images of half the training split: must be at most {len(positions)}")
        return self._trained.images(positions[torch.randperm(len(positions), generator=generator)[:count]])

    def objective(
        self,
        tensors: Parameters,
        surrogate: Surrogate,
        generator: torch.Generator,
        batch_size: int,
        names: tuple[str, ...] | None = None,
    ) -> NetworkObjective:
        """The loss on a batch from one half of the training split."""
        studied = names or (self.name,)
        unknown = sorted(set(studied) - tensors.keys())
        if unknown:
            allowed = self._trained.parameters
            raise SettingError(f"tensors: no such tensors {unknown}; {catalog.suggestion(unknown[0], allowed)}")
        batch = Batch(self._network(tensors, studied), *self._drawn(self._half, generator, batch_size))
        return NetworkObjective(batch, surrogate)

    def held_out(self) -> "PosedNetwork":
        """The same layer on the other half of the training split."""
        other = copy.copy(self)
        other._half = 1 - self._half
        return other

    def _network(self, tensors: Parameters, names: tuple[str, ...]) -> StudiedNetwork:
        """The network in a state; kept until another state is asked for, since every batch has the same."""
        state_of, network = self._kept.get(names, (None, None))
        if state_of is not tensors:
            subset = {n: tensors.get(f"{_SUBSET}{n}") for n in names}
            state = {n: t for n, t in tensors.items() if not n.startswith(_SUBSET)}
            network = StudiedNetwork(self._trained.module(), self._trained.module(), state, subset)
            self._kept[names] = tensors, network
        return network
