"""The loss of a network that the pipeline trains, as a function of single layers.

    L(theta) = mean cross-entropy over a batch of training images, in nats

Batch norms use their stored statistics; there is no regulariser and no augmentation. The training split is cut in two
once and for all: batches and reference gradients come from one half, held-out batches from the other.

Layers are named as the research notes count them, convolutions with low-bit layers from the input, or by parameter.
Roundings of activations pass gradients by the surrogate under study; roundings of weights pass them straight through,
as in XNOR-Net. With `coordinates` only some weights of a layer, drawn once for a seed, may move: every estimator is
asked about the same subspace, and steps stay in it.

**Reference**: for the networks and the layers a research note of 2021-05-19 on gradient estimators.
"""

from pathlib import Path
from typing import Literal

import torch

from lowbit.problems._base import NetworkProblem, Problem
from lowbit.problems._posed_network import PosedNetwork
from lowbit.problems._trained import Trained
from lowbit.spec import RunSpec
from lowbit.variant import Count, variant


@variant
class Network(NetworkProblem):
    """A layer of a network of the configuration.

    Args:
        of: name of its task in `tasks`; what `pretrain` there changes is how it is trained.
        layer: first, last, second_last, a number counted from the input, or the exact name of a parameter.
        start_from: a fresh initialisation whose batch norms have seen some images, or the pretrained weights.
        coordinates: weights of the layer that may move, drawn at random; null takes all.
        calibration_images: of the training split from which batch norms of a fresh initialisation have their
            statistics.
        dtype: of weights and images; losses are averaged in float64.
    """

    of: str
    layer: Count | str = "first"
    start_from: Literal["raw", "pretrained"] = "pretrained"
    coordinates: Count | None = 256
    calibration_images: Count = 512
    dtype: Literal["float32", "float64"] = "float32"

    def posed(self, training: RunSpec, data_folder: Path) -> Problem:
        """The problem for one network."""
        trained = Trained(training, data_folder, getattr(torch, self.dtype))
        return PosedNetwork(
            trained,
            layer=self.layer,
            pretrained=self.start_from == "pretrained",
            coordinates=self.coordinates,
            calibration_images=self.calibration_images,
        )
