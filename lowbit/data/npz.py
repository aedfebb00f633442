"""An `.npz` archive with MedMNIST's key names: `train_images`, `train_labels`, `val_*` (optional), `test_*`.

**Reference**: J. Yang et al., MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image
classification, Scientific Data, 2023.
"""

from pathlib import Path

import numpy as np

from lowbit.data._base import DataError, ImageDataset, Raw, explained
from lowbit.data._images import Labelled, image_splits
from lowbit.data._source import below, data_root, raw_hashes
from lowbit.variant import NonNegativeInt, OpenFraction, variant

_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
_OPTIONAL = ("val_images", "val_labels")


@variant
class Npz(ImageDataset):
    """Images and labels from one npz file: uint8 (N, H, W) or (N, H, W, C), labels (N,) or (N, 1).

    Args:
        file: path relative to data_root.
        validation_fraction: share of each class of the training images, when the file has no val_images.
        split_seed: of the fixed stratified split; not the seed of a run.
    """

    file: str
    validation_fraction: OpenFraction = 0.1
    split_seed: NonNegativeInt = 0

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        root = data_root(root, self.file)
        path = below(root, self.file)
        with explained(str(path), f"put an npz file with {', '.join(_REQUIRED)} there, or mend `file`"):
            content = np.load(path, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: is one array, not an npz archive; save it with numpy.savez")
            with content:
                ignored = _unknown_keys(path, content.files)
                parts = {n: _labelled(path, content, n) for n in ("train", "val", "test") if f"{n}_images" in content}
        classes = [str(n) for n in range(1 + max(int(labels.max(initial=0)) for _, labels in parts.values()))]
        return Raw(
            image_splits(parts["train"], parts["test"], parts.get("val"), self.validation_fraction, self.split_seed),
            source=f"npz file {self.file}",
            details={"classes": classes, "raw_sha256": raw_hashes([path], root), "ignored": ignored},
        )


def _unknown_keys(path: Path, keys: list[str]) -> list[str]:
    """Keys that mean nothing here, after making sure that those which mean something are complete."""
    required = (*_REQUIRED, *(_OPTIONAL if set(_OPTIONAL) & set(keys) else ()))
    missing = [k for k in required if k not in keys]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)} but {', '.join(keys)}; rename its arrays (numpy.savez)")
    return sorted(set(keys) - set(required))


def _labelled(path: Path, content: np.lib.npyio.NpzFile, part: str) -> Labelled:
    images, labels = content[f"{part}_images"], content[f"{part}_labels"]
    if images.dtype != np.uint8:
        raise DataError(f"{path}: {part}_images: must be uint8 in 0..255, got {images.dtype}; scale and round them")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not 1 <= images.shape[3] <= 4:
        raise DataError(f"{path}: {part}_images: must be (N, H, W) or (N, H, W, 1 to 4), got {images.shape}; move axes")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        expected = f"whole numbers ({len(images)},) or ({len(images)}, 1): one class per image"
        raise DataError(f"{path}: {part}_labels: must be {expected}, got {labels.dtype} {labels.shape}; convert them")
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64)
