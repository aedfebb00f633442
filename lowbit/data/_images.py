"""From a source's images and labels to the three splits of an image dataset."""

import numpy as np

from lowbit.data._base import Split, stratified_split

Labelled = tuple[np.ndarray, np.ndarray]


def image_splits(
    train: Labelled, test: Labelled, validation: Labelled | None, validation_fraction: float, split_seed: int
) -> dict[Split, dict[str, np.ndarray]]:
    """`Raw.arrays` of an image dataset whose official test split stays as it is.

    Args:
        train: images (N, C, H, W) and labels (N,).
        test: likewise; becomes the test split.
        validation: likewise; None takes a stratified part out of `train`, with the next two arguments.
        validation_fraction: share of each class.
        split_seed: fixes which images.
    """
    if validation is None:
        images, labels = train
        kept, held = stratified_split(labels, (1 - validation_fraction, validation_fraction), split_seed)
        train, validation = (images[kept], labels[kept]), (images[held], labels[held])
    parts: dict[Split, Labelled] = {"train": train, "validation": validation, "test": test}
    return {split: {"images": images, "labels": labels} for split, (images, labels) in parts.items()}
