"""A network of the configuration and the images it was trained on, from the spec of its training run."""

import functools
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lowbit import catalog
from lowbit.data._base import check, load_split
from lowbit.errors import SettingError
from lowbit.estimators._base import Parameters
from lowbit.layers.bit_conv2d import BitConv2d
from lowbit.layers.convert import ConversionRules, bit_layers, convert
from lowbit.models._base import ImageModel
from lowbit.problems._base import stream
from lowbit.softmaxes.base_e import BaseE
from lowbit.spec import RunSpec
from lowbit.surrogates.identity import Identity


class Trained:
    """What a training run made and what it saw.

    Args:
        training: the run; `{seed}` in `start_from` stands for the number of the initialisation.
        data_folder: its prepared dataset.
        dtype: of weights and images.

    Raises:
        DataError: when the dataset is missing or damaged.
        SettingError: when it does not have images.
    """

    def __init__(self, training: RunSpec, data_folder: Path, dtype: torch.dtype):
        self.training, self.dtype = training, dtype
        self.manifest = check(data_folder)
        self._recipe = catalog.build("models", training.model)
        if self.manifest["kind"] != "images" or not isinstance(self._recipe, ImageModel):
            raise SettingError(f"network {training.task}: must be a model of images, got {training.model.name}")
        self._arrays = load_split(data_folder, "train")

    def module(self) -> nn.Module:
        """The low-bit network in evaluation mode, with the identity as surrogate, its weights of no meaning."""
        return self._built(stream(0))

    @functools.cached_property
    def _some_module(self) -> nn.Module:
        """A module to look at."""
        return self.module()

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return tuple(name for name, _ in self._some_module.named_parameters())

    def _built(self, draws: torch.Generator) -> nn.Module:
        shape, classes = tuple(self.manifest["input_shape"]), len(self.manifest["classes"])
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(draws.initial_seed())
            module = self._recipe.build(input_shape=shape, classes=classes, softmax=BaseE())
        q = self.training.quantization
        weight, activation = (catalog.build("quantizers", slot) for slot in (q.weight, q.activation))
        rules = ConversionRules(
            weight=weight, activation=activation, surrogate=Identity(), norm=q.norm == "rms", include=q.include,
            exclude=q.exclude,
        )  # fmt: skip
        convert(module, rules)
        return module.to(self.dtype).eval()

    def initial(self, seed: int) -> nn.Module:
        """The network as training begins with it: a function of the seed alone."""
        return self._built(stream(seed, "initialisation", 0))

    def pretrained(self, seed: int) -> Parameters:
        """The state that training ended with.

        Raises:
            SettingError: when its weights cannot be read.
        """
        path = (self.training.start_from or "(nowhere)").format(seed=seed)
        try:
            with safe_open(path, framework="pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            advice = "train the network first (in the pipeline: rule pretrain), or start from raw"
            raise SettingError(f"start_from pretrained: no weights at {path} ({error}); {advice}") from None
        other = self._some_module.state_dict().keys() ^ state.keys()
        if other:
            raise SettingError(f"{path}: not the weights of {self.training.model.name}: differs in {', '.join(other)}")
        return state

    @functools.cached_property
    def layers(self) -> tuple[str, ...]:
        """Weights of the low-bit convolutions, from the input."""
        found = bit_layers(self._some_module)
        return tuple(f"{name}.weight" for name, layer in found.items() if isinstance(layer, BitConv2d))

    def images(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Some training images, normalised as in training, and their labels.

        Args:
            part: positions in the split, shape (B,).

        Shape:
            returns (B, C, H, W) and (B,) int64.
        """
        images, labels = (torch.from_numpy(np.array(self._arrays[n][part.numpy()])) for n in ("images", "labels"))
        shape = (1, -1, 1, 1)
        mean, std = (255 * torch.tensor(self.manifest[n], dtype=self.dtype).view(shape) for n in ("mean", "std"))
        return (images.to(self.dtype) - mean) / std.clamp(min=1e-6), labels

    def halves(self) -> tuple[Tensor, Tensor]:
        """Positions of the training split in two parts that share none, the same for every seed."""
        shuffled = torch.randperm(len(self._arrays["labels"]), generator=stream(0, "halves"))
        return tuple(shuffled.tensor_split(2))
