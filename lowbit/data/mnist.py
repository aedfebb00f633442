"""MNIST: 70,000 handwritten digits, 28x28 grey, in 10 classes; 60,000 train, 10,000 test.

torchvision checks the four packed files but trusts unpacked ones by name alone; here an unpacked file must have the
published checksum too.

**Reference**: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-Based Learning Applied to Document Recognition,
Proceedings of the IEEE, 1998.
"""

import gzip
import shutil
import tempfile
from pathlib import Path

import numpy as np

from lowbit.data._base import DataError, ImageDataset, Raw, explained
from lowbit.data._images import Labelled, image_splits
from lowbit.data._source import data_root, raw_hashes
from lowbit.variant import NonNegativeInt, OpenFraction, variant

_UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@variant
class Mnist(ImageDataset):
    """70,000 handwritten digits, 28x28 grey, in 10 classes; from data_root or by download.

    Args:
        download: fetch the four files into data_root when they are not there.
        validation_fraction: share of each class of the official training split, for model selection.
        split_seed: of the fixed stratified split; not the seed of a run.
    """

    download: bool = False
    validation_fraction: OpenFraction = 0.1
    split_seed: NonNegativeInt = 0

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        from torchvision.datasets import MNIST

        if self.download and root is not None:
            root.mkdir(parents=True, exist_ok=True)
        root = data_root(root, "MNIST/raw/*.gz (or, with download: true, is to hold it)").absolute()
        if self.download and _faults(_home(root)):
            with explained("MNIST: download failed", f"put {_names(MNIST)} into {root / 'MNIST' / 'raw'}"):
                MNIST(root, download=True)
        home = _home(root)
        faults = _faults(home)
        if faults:
            advice = f"put {_names(MNIST)} from {MNIST.mirrors[0]} there, or set download: true"
            raise DataError(f"{home}: {', '.join(faults)}; {advice}")
        with tempfile.TemporaryDirectory(dir=folder) as unpacked:
            files = _unpack(home, Path(unpacked) / "MNIST" / "raw")
            train, test = (_labelled(MNIST(unpacked, train=train)) for train in (True, False))
            hashes = raw_hashes(files, files[0].parent)
        return Raw(
            image_splits(train, test, None, self.validation_fraction, self.split_seed),
            source="torchvision.datasets.MNIST",
            details={"classes": list(MNIST.classes), "raw_sha256": hashes},
        )


def _names(cls: type) -> str:
    return ", ".join(file for file, _ in cls.resources)


def _home(root: Path) -> Path:
    """The folder that holds the files; torchvision's own place when none does."""
    places = (root / "MNIST" / "raw", root / "raw", root, root / "mnist")
    return next((p for p in places if any(p.glob("t10k-images-idx3-ubyte*"))), places[0])


def _intact(home: Path, name: str, packed_md5: str) -> Path | None:
    """The unpacked or else the packed file, whichever has the published checksum."""
    from torchvision.datasets.utils import check_integrity

    choices = ((home / name, _UNPACKED_MD5[name]), (home / f"{name}.gz", packed_md5))
    return next((path for path, md5 in choices if check_integrity(path, md5)), None)


def _faults(home: Path) -> list[str]:
    from torchvision.datasets import MNIST

    faults = []
    for file, md5 in MNIST.resources:
        name = file.removesuffix(".gz")
        if _intact(home, name, md5) is None:
            there = [f for f in (name, file) if (home / f).exists()]
            faults.append(f"{there[0]} differs from the published file" if there else f"{file} is missing")
    return faults


def _unpack(home: Path, target: Path) -> list[Path]:
    """Copies of the four files, unpacked, in a folder laid out as torchvision wants it."""
    from torchvision.datasets import MNIST

    target.mkdir(parents=True)
    for file, md5 in MNIST.resources:
        name = file.removesuffix(".gz")
        source = _intact(home, name, md5)
        with (
            (gzip.open if source.suffix == ".gz" else open)(source, "rb") as packed,
            (target / name).open("wb") as plain,
        ):
            shutil.copyfileobj(packed, plain)
    return sorted(target.iterdir())


def _labelled(part) -> Labelled:
    return part.data.numpy()[:, None], part.targets.numpy().astype(np.int64)
