"""Raw data in the real formats, a few kilobytes each, for every dataset that needs a source."""

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

RNG_SEED = 20


@dataclass(frozen=True)
class TinySource:
    """How to make a source, and the settings that read it.

    Args:
        make: called with an empty folder, which becomes data_root, and a patcher for published checksums.
        settings: of the variant.
    """

    make: Callable[[Path, pytest.MonkeyPatch], None]
    settings: dict[str, Any]


def pixels(*shape: int) -> np.ndarray:
    """Random images, all different."""
    return np.random.default_rng(RNG_SEED).integers(0, 256, shape, dtype=np.uint8)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Six pickled batches of 20 images and the class names, with their checksums in torchvision's lists."""
    from torchvision.datasets import CIFAR10

    rows = pixels(120, 3072)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    contents = {
        name: {"data": rows[20 * n : 20 * n + 20], "labels": [i % 10 for i in range(20)]}
        for n, name in enumerate(names)
    }
    _pickled(root / CIFAR10.base_folder, contents | {"batches.meta": {"label_names": list("abcdefghij")}})
    _publish(CIFAR10, root, patch)


def cifar100(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Two pickled batches of 400 and 100 images and the class names."""
    from torchvision.datasets import CIFAR100

    rows = pixels(500, 3072)
    labels = [i % 100 for i in range(400)]
    contents = {
        "train": {"data": rows[:400], "fine_labels": labels},
        "test": {"data": rows[400:], "fine_labels": labels[:100]},
        "meta": {"fine_label_names": [f"class{n}" for n in range(100)]},
    }
    _pickled(root / CIFAR100.base_folder, contents)
    _publish(CIFAR100, root, patch)


def mnist(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The four packed files, with 100 and 20 images."""
    from torchvision.datasets import MNIST

    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = pixels(120, 28, 28), (np.arange(120) % 10).astype(np.uint8)
    for part, rows in (("train", slice(0, 100)), ("t10k", slice(100, 120))):
        for kind, array in (("images-idx3", images[rows]), ("labels-idx1", labels[rows])):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            with gzip.GzipFile(raw / f"{part}-{kind}-ubyte.gz", "wb", mtime=0) as stream:
                stream.write(header + array.tobytes())
    patch.setattr(MNIST, "resources", [(name, md5(raw / name)) for name, _ in MNIST.resources])


def npz(root: Path, patch: pytest.MonkeyPatch) -> None:
    """80 training and 20 test images of 4 classes, 6x5 colour, without a validation split."""
    write_npz(root / "tiny.npz")


def write_npz(path: Path, **changes: np.ndarray | None) -> None:
    """An archive with MedMNIST's key names; an array given as None is left out."""
    images, labels = pixels(100, 6, 5, 3), (np.arange(100) % 4).astype(np.uint8)[:, None]
    arrays = {
        "train_images": images[:80], "train_labels": labels[:80],
        "test_images": images[80:], "test_labels": labels[80:],
    }  # fmt: skip
    np.savez(path, **{key: array for key, array in (arrays | changes).items() if array is not None})


def image_folder(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Two classes with 10 PNG and 10 JPEG training images and 3 others each, in two shapes."""
    images = pixels(46, 12, 17, 3)
    for index, image in enumerate(images):
        part = "train" if index < 40 else "val"
        folder = root / part / ("cat", "dog")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shape = image if index % 4 < 2 else image.transpose(1, 0, 2)
        Image.fromarray(shape).save(folder / f"{index:02}{'.png' if index % 3 else '.jpeg'}")


def text(root: Path, patch: pytest.MonkeyPatch) -> None:
    """40 different documents in two files."""
    words = np.random.default_rng(RNG_SEED).choice(["low", "bit", "nets", "learn", "with", "few", "levels"], (40, 30))
    documents = [f"Story {n}. {' '.join(row)}.\n" for n, row in enumerate(words)]
    for name, part in (("one.txt", documents[:25]), ("two.txt", documents[25:])):
        (root / name).write_text("<|endoftext|>".join(part))


SOURCES = {
    "cifar10": TinySource(cifar10, {"validation_fraction": 0.2}),
    "cifar100": TinySource(cifar100, {"validation_fraction": 0.25}),
    "mnist": TinySource(mnist, {}),
    "npz": TinySource(npz, {"file": "tiny.npz"}),
    "image_folder": TinySource(image_folder, {"size": 8}),
    "corpus": TinySource(text, {"files": ["*.txt"], "validation_fraction": 0.2, "test_fraction": 0.2}),
    "text": TinySource(text, {"files": ["*.txt"], "separator": "<|endoftext|>"}),
    "stdlib_text": TinySource(lambda root, patch: None, {"max_bytes": 30_000}),
}


def _pickled(folder: Path, contents: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))


def _publish(cls: type, root: Path, patch: pytest.MonkeyPatch) -> None:
    """Make torchvision expect the checksums of the files that are there."""
    folder = root / cls.base_folder
    for listed in ("train_list", "test_list"):
        patch.setattr(cls, listed, [[name, md5(folder / name)] for name, _ in getattr(cls, listed)])
    patch.setattr(cls, "meta", {**cls.meta, "md5": md5(folder / cls.meta["filename"])})
