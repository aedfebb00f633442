"""Preparing is all or nothing, and refuses arrays that no run could use."""

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from lowbit import catalog
from lowbit.data._base import DataError, ImageDataset, Raw, TextDataset, load_split, read_manifest, stratified_split


def labelled(count: int = 6, shape: tuple[int, ...] = (1, 4, 4), classes: int = 2) -> dict[str, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    return {"images": images, "labels": np.arange(count) % classes}


@dataclass
class Given(ImageDataset):
    """Hands over what it was given."""

    splits: dict = field(default_factory=lambda: {s: labelled() for s in ("train", "validation", "test")})
    classes: tuple[str, ...] = ("a", "b")
    files: dict[str, bytes] = field(default_factory=dict)

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        return Raw(self.splits, "test", {"classes": list(self.classes)}, self.files)


def spoilt(split: str, **changes: np.ndarray) -> Given:
    given = Given()
    given.splits[split] = given.splits[split] | changes
    return given


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (spoilt("test", images=np.zeros((0, 1, 4, 4), np.uint8), labels=np.zeros(0, int)), "split test is empty"),
        (spoilt("train", images=np.zeros((6, 1, 4, 4), np.float32)), "images of train: must be uint8 .* float32"),
        (spoilt("train", images=np.zeros((6, 16), np.uint8)), r"must be uint8 \(N, channels, height, width\)"),
        (spoilt("test", **labelled(shape=(1, 5, 4))), r"images of test: must be uint8 \(N, 1, 4, 4\), got .*5, 4"),
        (
            spoilt("validation", labels=np.zeros(5, int)),
            r"labels of validation: must be int64 \(6,\), got int64 \(5,\)",
        ),
        (spoilt("train", labels=np.zeros(6)), "labels of train: must be int64 .* got float64"),
        (spoilt("test", labels=np.full(6, 2)), r"labels of test: must be in 0\.\.1, got 2\.\.2"),
        (spoilt("train", labels=np.zeros(6, int)), r"split train has no image of class \[1\]"),
        (spoilt("train", images=np.full((6, 1, 4, 4), 7, np.uint8)), r"std \[0\.0\] of the training images"),
    ],
)
def test_unusable_images_are_refused_and_nothing_is_left(dataset, message, tmp_path):
    with pytest.raises(DataError, match=message):
        dataset.prepare(tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_an_empty_text_is_refused(tmp_path):
    class Empty(TextDataset):
        def arrays(self, root, folder):
            splits = {
                s: {"tokens": np.arange(n, dtype=np.uint16)} for s, n in (("train", 9), ("validation", 1), ("test", 9))
            }
            return Raw(splits, "test", {"vocabulary": 9, "bytes": {}})

    with pytest.raises(DataError, match="split validation has no text"):
        Empty().prepare(tmp_path / "set")


def test_a_failed_preparation_keeps_the_old_folder(tmp_path):
    Given().prepare(tmp_path / "set")
    before = read_manifest(tmp_path / "set")
    with pytest.raises(DataError):
        Given(classes=("a",)).prepare(tmp_path / "set")
    assert read_manifest(tmp_path / "set") == before
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_new_preparation_replaces_the_old_folder_whole(tmp_path):
    Given(files={"old.txt": b"old"}).prepare(tmp_path / "set")
    Given(files={"new.txt": b"new"}).prepare(tmp_path / "set")
    assert (tmp_path / "set" / "new.txt").read_bytes() == b"new"
    assert not (tmp_path / "set" / "old.txt").exists()


def test_what_a_killed_process_left_is_removed_but_not_what_a_living_one_uses(tmp_path):
    left, used = tmp_path / ".set.partial-left", tmp_path / ".set.partial-used"
    for folder in (left, used):
        folder.mkdir()
        (folder / "train_images.npy").write_bytes(b"half")
    descriptor = os.open(used, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    Given().prepare(tmp_path / "set")
    os.close(descriptor)
    assert sorted(p.name for p in tmp_path.iterdir()) == [used.name, "set"]


def test_the_scratch_folder_is_locked_while_it_is_filled(tmp_path):
    class Nested(Given):
        def arrays(self, root, folder):
            Given().prepare(tmp_path / "set")
            assert folder.is_dir()
            return super().arrays(root, folder)

    Nested().prepare(tmp_path / "set")


def test_statistics_over_several_chunks_are_exact(tmp_path):
    train = labelled(50, (3, 200, 190))
    manifest = Given(splits={"train": train, "validation": train, "test": train}).prepare(tmp_path / "set")
    images = train["images"].astype(np.float64) / 255
    np.testing.assert_allclose(manifest["mean"], images.mean(axis=(0, 2, 3)), atol=1e-8)
    np.testing.assert_allclose(manifest["std"], images.std(axis=(0, 2, 3)), atol=1e-8)


def test_arrays_are_loaded_read_only(tmp_path):
    Given().prepare(tmp_path / "set")
    with pytest.raises(ValueError, match="read-only"):
        load_split(tmp_path / "set", "train")["images"][0] = 0


def test_a_missing_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="no prepared dataset here; run `python -m lowbit prepare`"):
        read_manifest(tmp_path)


def test_a_stratified_split_divides_every_class_alike():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    parts = stratified_split(labels, (0.5, 0.3, 0.2), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(160))
    assert [np.bincount(labels[p]).tolist() for p in parts] == [[50, 25, 5], [30, 15, 3], [20, 10, 2]]
    assert any((a != b).any() for a, b in zip(parts, stratified_split(labels, (0.5, 0.3, 0.2), seed=1), strict=True))


def test_fractions_above_one_are_refused(tmp_path):
    digits = catalog.build("data", {"name": "digits", "validation_fraction": 0.6, "test_fraction": 0.5})
    with pytest.raises(DataError, match="must not be negative; lower the validation or test fraction"):
        digits.prepare(tmp_path / "set")
