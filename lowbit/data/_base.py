"""A prepared dataset: a folder of `.npy` arrays and a `manifest.json` that says what they are.

A dataset variant derives from `ImageDataset` or `TextDataset` and implements `arrays(root, folder)`; `prepare` writes
the folder whole or not at all. A run never sees the source: it calls `load`, which checks the manifest first.
"""

import contextlib
import hashlib
import json
import shutil
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from lowbit.data._scratch import scratch_beside
from lowbit.errors import UserError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DataError(UserError, ValueError):
    """A raw or prepared dataset that is missing, damaged or of the wrong form; the message says what to do."""


@dataclass
class Raw:
    """What a dataset variant hands over.

    Args:
        arrays: `{split: {"images": uint8 (N, C, H, W), "labels": int64 (N,)}}` or
            `{split: {"tokens": uint16 or uint32 (N,)}}`. An array may be a `numpy.memmap` that the variant filled
            inside the folder given to it.
        source: where the content comes from: a stable description without machine paths.
        details: further manifest entries: `classes` (names) for images; `vocabulary`, `bytes` (UTF-8 bytes per
            split) for text; hashes of raw files.
        files: further files to store beside the arrays: name -> bytes (a tokenizer).
    """

    arrays: dict[Split, dict[str, np.ndarray]]
    source: str
    details: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Dataset(ABC):
    """A source of data that can be prepared into a folder and loaded from it."""

    kind: ClassVar[str]

    @abstractmethod
    def arrays(self, root: Path | None, folder: Path) -> Raw:
        """Read the source.

        Args:
            root: the user's `data_root`, or None.
            folder: scratch space on the target's file system, for arrays too large for memory.

        Raises:
            DataError: when the source is missing or damaged; says what to put where.
        """

    def prepare(self, folder: Path, root: Path | None = None) -> dict[str, Any]:
        """Write arrays and manifest to a folder, whole or not at all, and return the manifest."""
        with scratch_beside(folder) as scratch:
            raw = self.arrays(root, scratch)
            manifest = self._manifest(raw)
            for split, arrays in raw.arrays.items():
                manifest["splits"][split] = {n: _store(scratch, f"{split}_{n}.npy", a) for n, a in arrays.items()}
            for name, content in raw.files.items():
                (scratch / name).write_bytes(content)
                manifest.setdefault("files", {})[name] = hashlib.sha256(content).hexdigest()
            (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            scratch.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            scratch.replace(folder)
        return manifest

    def load(self, folder: Path, split: Split) -> dict[str, np.ndarray]:
        """The arrays of one split, memory-mapped; see `check` for what is verified first."""
        check(folder)
        return load_split(folder, split)

    def _manifest(self, raw: Raw) -> dict[str, Any]:
        missing = [s for s in SPLITS if s not in raw.arrays]
        assert not missing, f"{type(self).__name__} made no {missing}"
        return {"kind": self.kind, "source": raw.source, "splits": {}, **raw.details}


class ImageDataset(Dataset):
    """Images with one label each: `images` uint8 (N, C, H, W) and `labels` int64 (N,)."""

    kind: ClassVar[str] = "images"

    def _manifest(self, raw: Raw) -> dict[str, Any]:
        manifest = super()._manifest(raw)
        shape = _checked_shape(raw.arrays, classes=len(raw.details["classes"]))
        mean, std = _moments(raw.arrays["train"]["images"])
        if min(std) == 0:
            raise DataError(f"std {std} of the training images: must not be 0; drop the constant channel")
        return manifest | {"input_shape": list(shape), "mean": mean, "std": std}


class TextDataset(Dataset):
    """One long sequence of token numbers per split: `tokens` uint16 or uint32 (N,)."""

    kind: ClassVar[str] = "text"

    def _manifest(self, raw: Raw) -> dict[str, Any]:
        assert {"vocabulary", "bytes"} <= raw.details.keys()
        for split in SPLITS:
            if len(raw.arrays[split]["tokens"]) < 2:
                raise DataError(f"split {split} has no text; give more documents or a larger {split} fraction")
        return super()._manifest(raw)


def _checked_shape(arrays: dict[Split, dict[str, np.ndarray]], classes: int) -> tuple[int, ...]:
    """Shape of one image, after making sure that every split has the promised form."""
    shape = arrays["train"]["images"].shape[1:]
    for split in SPLITS:
        images, labels = arrays[split]["images"], arrays[split]["labels"]
        if not len(images):
            raise DataError(f"split {split} is empty; give more images or a larger {split} fraction")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            expected = f"(N, {', '.join(map(str, shape))})" if len(shape) == 3 else "(N, channels, height, width)"
            got = f"{images.dtype} {images.shape}"
            raise DataError(f"images of {split}: must be uint8 {expected}, got {got}; convert them")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise DataError(f"labels of {split}: must be int64 ({len(images)},), got {labels.dtype} {labels.shape}")
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(f"labels of {split}: must be in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    absent = sorted(set(range(classes)) - set(arrays["train"]["labels"].tolist()))
    if absent:
        raise DataError(f"split train has no image of class {absent}; add some, renumber, or lower the other fractions")
    return shape


def _moments(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel in units of 255, summed in integers in chunks: exact and small."""
    step = max(1, 2**22 // images[0].size)
    total = np.zeros(images.shape[1], dtype=np.int64)
    squares = np.zeros_like(total)
    for start in range(0, len(images), step):
        chunk = images[start : start + step].astype(np.int64)
        total += chunk.sum(axis=(0, 2, 3))
        squares += (chunk**2).sum(axis=(0, 2, 3))
    count = len(images) * images.shape[2] * images.shape[3]
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    return [round(float(m) / 255, 8) for m in mean], [round(float(s) / 255, 8) for s in std]


def _store(folder: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    path = folder / name
    if not path.exists():
        np.save(path, array, allow_pickle=False)
    elif isinstance(array, np.memmap):
        array.flush()
    return {"file": name, "shape": list(array.shape), "dtype": str(array.dtype), "sha256": sha256_of(path)}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared dataset.

    Raises:
        DataError: when there is none.
    """
    try:
        return json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        raise DataError(f"{folder}: no prepared dataset here; run `python -m lowbit prepare` or snakemake") from None


def files_of(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(file name, sha256) of everything a manifest vouches for."""
    for arrays in manifest["splits"].values():
        yield from ((entry["file"], entry["sha256"]) for entry in arrays.values())
    yield from manifest.get("files", {}).items()


def check(folder: Path) -> dict[str, Any]:
    """Compare every file of a prepared dataset with its manifest, and return the manifest.

    Raises:
        DataError: names the first file that is missing or whose content differs.
    """
    manifest = read_manifest(folder)
    for name, expected in files_of(manifest):
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: missing; remove {folder} and prepare it again")
        if sha256_of(path) != expected:
            raise DataError(f"{path}: content differs from manifest.json; remove {folder} and prepare it again")
    return manifest


def load_split(folder: Path, split: Split) -> dict[str, np.ndarray]:
    """The arrays of one split of a prepared folder, memory-mapped read-only."""
    entries = read_manifest(folder)["splits"][split]
    return {n: np.load(folder / e["file"], mmap_mode="r", allow_pickle=False) for n, e in entries.items()}


def stratified_split(labels: np.ndarray, fractions: tuple[float, ...], seed: int) -> list[np.ndarray]:
    """Sorted index arrays, one per fraction, with every class divided alike.

    Args:
        labels: class of each sample, shape (N,).
        fractions: shares that add up to 1; the last part takes the remainder.
        seed: of the shuffle within a class.

    Raises:
        DataError: when a share is negative: the fractions that the user gave add up to more than 1.
    """
    if min(fractions) < 0:
        raise DataError(f"fractions {fractions}: must not be negative; lower the validation or test fraction")
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    for value in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == value))
        cuts = np.round(np.cumsum(fractions)[:-1] * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(p)) for p in parts]


@contextlib.contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Turn a low-level failure to read raw data into a `DataError` with advice."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{what}: {error}; {advice}") from error
