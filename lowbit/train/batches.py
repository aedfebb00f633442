"""Batches of a prepared dataset: a pure function of (seed, step), for images and for text.

`Batch` carries inputs, targets and what each rank needs to normalise by. Training batches are shuffled anew each epoch;
the remainder that does not fill a step is left out of that epoch. Validation batches cover everything once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lowbit.data._base import Split, load_split, read_manifest
from lowbit.spec import RunSpec
from lowbit.train.reproducibility import derived_seed, generator


@dataclass(frozen=True)
class Batch:
    """Inputs and targets.

    Args:
        inputs: images (N, C, H, W) float, or tokens (N, S) int64.
        targets: classes (N,), next tokens (N, S), or class probabilities (N, K) under mixup.
        labels: int64 classes or tokens that accuracy is measured against.
    """

    inputs: Tensor
    targets: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        """Targets in the batch: samples or tokens."""
        return self.labels.numel()

    def part(self, which: slice) -> "Batch":
        """Some of the samples."""
        return Batch(self.inputs[which], self.targets[which], self.labels[which])


class Batches:
    """Common part: order and length of epochs.

    Attributes:
        unit: "samples" or "tokens".
        steps_per_epoch: optimizer steps in an epoch.
        memory_format: of images; the model's convolutions have the same.
    """

    unit: str
    memory_format = torch.channels_last

    def __init__(self, spec: RunSpec, folder: Path):
        self.spec = spec
        self.device = torch.device(spec.device)
        self.manifest = read_manifest(folder)
        self.arrays = {split: load_split(folder, split) for split in ("train", "validation", "test")}
        self.samples_per_step = spec.train.batch_size * spec.train.gradient_accumulation_steps
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def samples(self) -> int:
        """Training samples (images or sequences) in an epoch."""
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return max(1, self.samples // self.samples_per_step)

    def training(self, step: int) -> Batch:
        """The batch of an optimizer step, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, torch.randperm(self.samples, generator=generator(self.spec.seed, "order", epoch)))
        start = position * self.samples_per_step
        return self._training_batch(self._order[1][start : start + self.samples_per_step], step, epoch)

    def evaluation(self, split: Split) -> Iterator[Batch]:
        """Everything in a split, once, in order."""
        raise NotImplementedError

    def _training_batch(self, indices: Tensor, step: int, epoch: int) -> Batch:
        raise NotImplementedError


class ImageBatches(Batches):
    """Images, normalised by the training split's moments, and cropped, mirrored and mixed up as asked."""

    unit = "samples"

    def __init__(self, spec: RunSpec, folder: Path):
        super().__init__(spec, folder)
        dtype = torch.float64 if spec.train.precision == "float64" else torch.float32
        shape = (1, -1, 1, 1)
        self.mean = torch.tensor(self.manifest["mean"], dtype=dtype, device=self.device).mul(255).view(shape)
        std = torch.tensor(self.manifest["std"], dtype=dtype, device=self.device).mul(255)
        self.inv_std = std.clamp(min=1e-6).reciprocal().view(shape)
        self.classes = len(self.manifest["classes"])

    @property
    def samples(self) -> int:
        """Training images."""
        return len(self.arrays["train"]["labels"])

    def evaluation(self, split: Split) -> Iterator[Batch]:
        """All images of a split in order."""
        size = self.spec.train.validation_batch_size
        for start in range(0, len(self.arrays[split]["labels"]), size):
            images, labels = self._read(split, slice(start, start + size))
            yield Batch(self._normalised(images), labels, labels)

    def _read(self, split: Split, which: slice | np.ndarray) -> tuple[Tensor, Tensor]:
        arrays = self.arrays[split]
        images, labels = (torch.from_numpy(np.array(arrays[n][which])) for n in ("images", "labels"))
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _normalised(self, images: Tensor) -> Tensor:
        normalised = (images.to(self.mean.dtype) - self.mean) * self.inv_std
        return normalised.contiguous(memory_format=self.memory_format)

    def _training_batch(self, indices: Tensor, step: int, epoch: int) -> Batch:
        train = self.spec.train
        images, labels = self._read("train", indices.numpy())
        if not (train.crop_padding or train.horizontal_flip or train.mixup):
            return Batch(self._normalised(images), labels, labels)
        draws = generator(self.spec.seed, "augment", step)
        if train.crop_padding:
            images = _random_crop(images, train.crop_padding, draws)
        if train.horizontal_flip:
            flipped = torch.rand(len(images), generator=draws).to(self.device) < 0.5
            images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
        inputs = self._normalised(images)
        if not train.mixup:
            return Batch(inputs, labels, labels)
        share = float(np.random.default_rng(derived_seed(self.spec.seed, "mixup", step)).beta(train.mixup, train.mixup))
        partner = torch.randperm(len(inputs), generator=draws).to(self.device)
        one_hot = torch.nn.functional.one_hot(labels, self.classes).to(inputs.dtype)
        mix = (torch.lerp(x[partner], x, share) for x in (inputs, one_hot))
        return Batch(*mix, labels)


def _random_crop(images: Tensor, padding: int, draws: torch.Generator) -> Tensor:
    """Each image shifted by up to `padding` pixels each way, the border filled with zeros before normalisation."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, [padding] * 4)
    shifts = torch.randint(0, 2 * padding + 1, (2, count), generator=draws).to(images.device)
    rows = (shifts[0].view(-1, 1) + torch.arange(height, device=images.device)).view(count, 1, height, 1)
    columns = (shifts[1].view(-1, 1) + torch.arange(width, device=images.device)).view(count, 1, 1, width)
    samples = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
    channels = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    return padded[samples, channels, rows, columns]


class TextBatches(Batches):
    """Sequences of `context` tokens and the tokens that follow them.

    Training windows start at another offset in every epoch, so that borders between windows move.
    """

    unit = "tokens"

    @property
    def samples(self) -> int:
        """Windows that fit at any offset."""
        return max(1, (len(self.arrays["train"]["tokens"]) - 1) // self.spec.context - 1)

    def evaluation(self, split: Split) -> Iterator[Batch]:
        """Every token but the first of a split is predicted once; the last window may be shorter."""
        tokens, context = self.arrays[split]["tokens"], self.spec.context
        full = (len(tokens) - 1) // context
        size = self.spec.train.validation_batch_size
        for start in range(0, full, size):
            yield self._windows(tokens, np.arange(start, min(start + size, full)) * context, context)
        rest = len(tokens) - 1 - full * context
        if rest:
            yield self._windows(tokens, np.array([full * context]), rest)

    def _training_batch(self, indices: Tensor, step: int, epoch: int) -> Batch:
        offset = derived_seed(self.spec.seed, "offset", epoch) % self.spec.context
        return self._windows(
            self.arrays["train"]["tokens"], indices.numpy() * self.spec.context + offset, self.spec.context
        )

    def _windows(self, tokens: np.ndarray, starts: np.ndarray, length: int) -> Batch:
        windows = tokens[starts[:, None] + np.arange(length + 1)]
        windows = torch.from_numpy(windows.astype(np.int64)).to(self.device, non_blocking=True)
        return Batch(windows[:, :-1], windows[:, 1:], windows[:, 1:])


def batches(spec: RunSpec, folder: Path) -> Batches:
    """The batches of a run, by the kind of its prepared dataset."""
    kinds = {"images": ImageBatches, "text": TextBatches}
    return kinds[read_manifest(folder)["kind"]](spec, folder)
