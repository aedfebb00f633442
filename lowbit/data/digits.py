"""Handwritten digits of scikit-learn: 1,797 real 8x8 images in 10 classes, embedded in the library.

**Reference**: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
1998.
"""

from pathlib import Path

import numpy as np

from lowbit.data._base import ImageDataset, Raw, stratified_split
from lowbit.variant import NonNegativeInt, OpenFraction, variant


@variant
class Digits(ImageDataset):
    """1,797 real handwritten digits, 8x8 grey, 10 classes; needs no download.

    Args:
        validation_fraction: share of each class for model selection.
        test_fraction: share of each class that is read once, at the end of a run.
        split_seed: of the fixed stratified split; not the seed of a run.
    """

    validation_fraction: OpenFraction = 0.15
    test_fraction: OpenFraction = 0.25
    split_seed: NonNegativeInt = 0

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
        labels = bunch.target.astype(np.int64)
        fractions = (1 - self.validation_fraction - self.test_fraction, self.validation_fraction, self.test_fraction)
        parts = stratified_split(labels, fractions, self.split_seed)
        arrays = {
            split: {"images": images[part], "labels": labels[part]}
            for split, part in zip(("train", "validation", "test"), parts, strict=True)
        }
        classes = [str(n) for n in range(10)]
        return Raw(arrays, source="sklearn.datasets.load_digits", details={"classes": classes})
