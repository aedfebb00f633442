"""Npz archives with MedMNIST's key names, and what is said about those that differ."""

import numpy as np
import pytest
from tiny_sources import pixels, write_npz

from lowbit import catalog
from lowbit.data._base import DataError, load_split, sha256_of


@pytest.fixture
def prepare(tmp_path):
    """Write an archive with changes, prepare it, return the manifest."""

    def write_and_prepare(settings=None, **changes):
        write_npz(tmp_path / "tiny.npz", **changes)
        dataset = catalog.build("data", {"name": "npz", "file": "tiny.npz", **(settings or {})})
        return dataset.prepare(tmp_path / "set", tmp_path)

    return write_and_prepare


def test_channels_come_first_and_the_raw_hash_is_kept(prepare, tmp_path):
    manifest = prepare()
    assert manifest["input_shape"] == [3, 6, 5]
    assert manifest["raw_sha256"] == {"tiny.npz": sha256_of(tmp_path / "tiny.npz")}
    images = load_split(tmp_path / "set", "test")["images"]
    np.testing.assert_array_equal(images.transpose(0, 2, 3, 1), pixels(100, 6, 5, 3)[80:])


def test_grey_images_get_one_channel(prepare):
    grey = pixels(100, 6, 5)
    assert prepare(train_images=grey[:80], test_images=grey[80:])["input_shape"] == [1, 6, 5]


def test_flat_labels_are_taken_too(prepare, tmp_path):
    prepare()
    expected = [load_split(tmp_path / "set", s)["labels"].copy() for s in ("train", "test")]
    prepare(train_labels=np.arange(80) % 4, test_labels=(np.arange(80, 100) % 4).astype(np.uint16))
    for split, labels in zip(("train", "test"), expected, strict=True):
        np.testing.assert_array_equal(load_split(tmp_path / "set", split)["labels"], labels)


def test_validation_comes_out_of_train_unless_the_file_has_its_own(prepare, tmp_path):
    assert prepare({"validation_fraction": 0.25})["splits"]["validation"]["images"]["shape"][0] == 20
    own = pixels(8, 6, 5, 3) // 2
    manifest = prepare(val_images=own, val_labels=np.arange(8) % 4)
    assert manifest["splits"]["train"]["images"]["shape"][0] == 80
    np.testing.assert_array_equal(load_split(tmp_path / "set", "validation")["images"], own.transpose(0, 3, 1, 2))


def test_the_split_seed_moves_images_between_train_and_validation(prepare):
    one, other = (prepare({"split_seed": seed})["splits"] for seed in (0, 1))
    assert one["validation"] != other["validation"]
    assert one["test"] == other["test"]


def test_unknown_arrays_are_reported(prepare):
    assert prepare(names=np.array(["a", "b"]))["ignored"] == ["names"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, r"has no test_labels but train_images, train_labels, test_images; rename"),
        ({"val_images": pixels(8, 6, 5, 3)}, "has no val_labels but"),
        ({"train_images": np.zeros((80, 6, 5, 3), np.float32)}, "train_images: must be uint8 in 0..255, got float32"),
        ({"train_images": pixels(80, 6, 6, 6)}, r"train_images: must be \(N, H, W\) or .*, got \(80, 6, 6, 6\)"),
        ({"train_images": pixels(80, 6, 5, 3, 1)}, r"train_images: must be \(N, H, W\)"),
        ({"train_images": pixels(80, 30)}, r"train_images: must be \(N, H, W\)"),
        ({"train_labels": np.zeros((80, 14), int)}, r"train_labels: must be whole numbers .* got int64 \(80, 14\)"),
        ({"train_labels": np.zeros(80)}, "train_labels: must be whole numbers .* got float64"),
        ({"test_labels": np.zeros(7, int)}, r"test_labels: must be whole numbers \(20,\)"),
        ({"train_labels": np.arange(80) % 4 * 2}, r"split train has no image of class \[1, 3, 5\]"),
        ({"test_labels": np.full(20, 9)}, "split train has no image of class"),
        ({"train_labels": np.arange(80) % 4 - 1}, r"labels of train: must be in 0"),
        ({"test_images": pixels(20, 7, 5, 3)}, r"images of test: must be uint8 \(N, 3, 6, 5\)"),
        ({"train_labels": np.array([object()] * 80)}, "allow_pickle=False"),
    ],
)
def test_arrays_of_the_wrong_form_are_refused(prepare, changes, message):
    with pytest.raises(DataError, match=message):
        prepare(**changes)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"text", None])
def test_a_file_that_is_no_archive_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "tiny.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"tiny\.npz: .*put an npz file with train_images"):
        catalog.build("data", {"name": "npz", "file": "tiny.npz"}).prepare(tmp_path / "set", tmp_path)


def test_a_truncated_archive_is_refused(prepare, tmp_path):
    prepare()
    content = (tmp_path / "tiny.npz").read_bytes()
    for size in (len(content) // 2, len(content) - 30):
        (tmp_path / "tiny.npz").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"tiny\.npz"):
            catalog.build("data", {"name": "npz", "file": "tiny.npz"}).prepare(tmp_path / "set", tmp_path)


def test_damaged_content_is_refused(prepare, tmp_path):
    prepare()
    content = bytearray((tmp_path / "tiny.npz").read_bytes())
    content[2000] ^= 1
    (tmp_path / "tiny.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"tiny\.npz: .*CRC"):
        catalog.build("data", {"name": "npz", "file": "tiny.npz"}).prepare(tmp_path / "set", tmp_path)


def test_a_bare_array_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", pixels(3, 3))
    with pytest.raises(DataError, match="is one array, not an npz archive"):
        catalog.build("data", {"name": "npz", "file": "one.npy"}).prepare(tmp_path / "set", tmp_path)


def test_an_absolute_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be relative to data_root"):
        catalog.build("data", {"name": "npz", "file": str(tmp_path / "x.npz")}).prepare(tmp_path / "set", tmp_path)
