"""CIFAR-10: 60,000 photographs, 32x32 colour, in 10 classes; 50,000 train, 10,000 test.

**Reference**: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, 2009.
"""

from pathlib import Path

from lowbit.data._base import ImageDataset, Raw
from lowbit.data._cifar import cifar
from lowbit.variant import NonNegativeInt, OpenFraction, variant


@variant
class Cifar10(ImageDataset):
    """60,000 photographs, 32x32 colour, in 10 classes; from data_root or by download.

    Args:
        download: fetch the archive into data_root when it is not there.
        validation_fraction: share of each class of the official training split, for model selection.
        split_seed: of the fixed stratified split; not the seed of a run.
    """

    download: bool = False
    validation_fraction: OpenFraction = 0.1
    split_seed: NonNegativeInt = 0

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        return cifar("CIFAR10", root, self.download, self.validation_fraction, self.split_seed)
