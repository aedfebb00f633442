"""Class folders: which files, which classes, which split, and the pixels that come out."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sources import SOURCES, pixels

from lowbit import catalog
from lowbit.data import _decode
from lowbit.data._base import DataError, load_split
from lowbit.data._class_folders import list_images


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "raw"
    SOURCES["image_folder"].make(folder, monkeypatch)
    return folder


@pytest.fixture
def prepare(root, tmp_path):
    """Prepare the class folders with some settings, return the manifest."""

    def prepare_with(**settings):
        return catalog.build("data", {"name": "image_folder", "size": 8, **settings}).prepare(tmp_path / "set", root)

    return prepare_with


def lengths(manifest: dict) -> list[int]:
    return [manifest["splits"][split]["labels"]["shape"][0] for split in ("train", "validation", "test")]


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_a_single_held_out_folder_is_the_test_split(prepare):
    manifest = prepare(validation_fraction=0.2)
    assert lengths(manifest) == [32, 8, 6]
    assert manifest["classes"] == ["cat", "dog"]
    assert manifest["source"] == "class folders train, val"


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_with_a_test_folder_the_other_one_is_the_validation_split(name, prepare, root):
    shutil.copytree(root / "val", root / "test")
    (root / "val").rename(root / name)
    (root / "test" / "cat" / next((root / "test" / "cat").iterdir()).name).unlink()
    assert lengths(prepare()) == [40, 6, 5]


def test_folders_can_be_named(prepare, root):
    (root / "test").mkdir()
    (root / "train").rename(root / "training")
    assert lengths(prepare(train="training", test="val")) == [36, 4, 6]
    with pytest.raises(DataError, match="one folder for two splits"):
        prepare(train="training", validation="val", test="val")


def test_folders_may_lie_deeper(prepare, root, tmp_path):
    shutil.move(root / "train", root / "pets" / "train")
    shutil.move(root / "val", root / "pets" / "val")
    assert lengths(prepare(subfolder="pets")) == [36, 4, 6]


def test_the_largest_centred_square_is_taken(prepare, root, tmp_path):
    wide = np.zeros((30, 90, 3), np.uint8)
    wide[:, :30, 0] = wide[:, 30:60, 1] = wide[:, 60:, 2] = 255
    for name in ("val/cat", "val/dog"):
        shutil.rmtree(root / name)
    save(root / "val" / "cat" / "wide.png", wide)
    save(root / "val" / "dog" / "tall.png", wide.transpose(1, 0, 2))
    prepare()
    images = load_split(tmp_path / "set", "test")["images"]
    assert images.shape == (2, 3, 8, 8)
    # Antialiasing looks one pixel beyond the square, as it does when scaling comes before cropping.
    inside = images[:, :, 1:-1, 1:-1]
    np.testing.assert_array_equal(inside[:, 1], np.full((2, 6, 6), 255))
    assert not inside[:, [0, 2]].any()
    assert images[:, [0, 2]].max() < 64


def test_an_image_of_the_right_size_keeps_its_pixels(prepare, root, tmp_path):
    image = pixels(8, 8, 3)
    for name in ("cat", "dog"):
        shutil.rmtree(root / "val" / name)
        save(root / "val" / name / "a.png", image)
    prepare()
    np.testing.assert_array_equal(load_split(tmp_path / "set", "test")["images"][0], image.transpose(2, 0, 1))
    assert prepare(channels="grey")["input_shape"] == [1, 8, 8]


def test_every_image_goes_with_the_label_of_its_folder(prepare, root, tmp_path):
    for part in ("train", "val"):
        for label, name in enumerate(("cat", "dog")):
            for path in list((root / part / name).iterdir()):
                path.unlink()
                save(path.with_suffix(".png"), np.full((9, 9), 100 * label + int(path.stem), np.uint8))
    prepare(channels="grey")
    for split in ("train", "validation", "test"):
        loaded = load_split(tmp_path / "set", split)
        np.testing.assert_array_equal(loaded["images"][:, 0, 0, 0] >= 100, loaded["labels"] == 1)


def test_images_come_in_the_order_of_their_names_whatever_the_file_system_says(root):
    for number in (7, 2, 9, 4):
        save(root / "train" / "cat" / f"new{number}.PNG", pixels(9, 9))
    listing = list_images(root / "train", ["dog", "cat"])
    relative = [path.relative_to(root / "train").parts for path in listing.files]
    assert relative == sorted(relative, key=lambda parts: (parts[0] != "dog", parts[1]))
    assert len(relative) == 44
    np.testing.assert_array_equal(listing.labels, [int(parts[0] == "cat") for parts in relative])


def test_the_arrays_are_filled_on_disk(root, tmp_path):
    dataset = catalog.build("data", {"name": "image_folder", "size": 8})
    raw = dataset.arrays(root, tmp_path)
    assert all(isinstance(arrays["images"], np.memmap) for arrays in raw.arrays.values())


def test_the_raw_hash_follows_names_and_contents(prepare, root):
    before = prepare()["raw_sha256"]
    first = next((root / "val" / "cat").glob("*"))
    first.rename(first.with_stem("renamed"))
    assert prepare()["raw_sha256"]["val"] != before["val"]
    assert prepare()["raw_sha256"]["train"] == before["train"]


def test_a_class_list_chooses_orders_and_names_classes(prepare, root, tmp_path):
    save(root / "train" / "emu" / "a.png", pixels(9, 9, 3))
    (root / "classes.txt").write_text("# folder name\ndog\tgood dog, hound\n\ncat  grey cat\n")
    manifest = prepare(class_list="classes.txt")
    assert manifest["classes"] == ["good dog, hound", "grey cat"]
    assert manifest["ignored"] == ["1 class folders that the class list does not name"]
    (root / "classes.txt").write_text("dog\n")
    assert prepare(class_list="classes.txt")["classes"] == ["dog"]
    assert set(load_split(tmp_path / "set", "train")["labels"]) == {0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\nemu\n", r"train: no folder for emu; add it, or leave it out of the class list; there are cat, dog"),
        ("cat\ndog\ncat\n", r"classes\.txt: line 3: 'cat' stands here a second time"),
        ("\n# nothing\n", r"classes\.txt: names no class"),
        (None, r"classes\.txt: .*No such file.*one class folder per line"),
    ],
)
def test_a_class_list_out_of_step_is_refused(content, message, prepare, root):
    if content is not None:
        (root / "classes.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        prepare(class_list="classes.txt")


def test_a_class_without_a_held_out_folder_is_named(prepare, root):
    shutil.rmtree(root / "val" / "dog")
    with pytest.raises(DataError, match=r"val: no folder for dog"):
        prepare()


def test_a_class_without_images_is_named(prepare, root):
    shutil.rmtree(root / "train" / "dog")
    (root / "train" / "dog").mkdir()
    with pytest.raises(DataError, match=r"train/dog: no image"):
        prepare()


@pytest.mark.parametrize("gone", ["train", "val"])
def test_a_missing_folder_says_what_is_needed(gone, prepare, root):
    shutil.rmtree(root / gone)
    with pytest.raises(DataError, match=r"no folder .*; needs train/<class>/\* and val/<class>/\* or test/<class>/\*"):
        prepare()


def test_other_files_are_counted_and_hidden_ones_are_not(prepare, root):
    for name in ("boxes.txt", "more.TXT", "README", ".DS_Store"):
        (root / "train" / "cat" / name).write_text("no image")
    manifest = prepare()
    assert manifest["ignored"] == ["2 files that are no images (.txt)", "1 files that are no images (no suffix)"]
    assert lengths(manifest) == [36, 4, 6]


@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
def test_a_damaged_image_is_named_and_nothing_is_left(content, prepare, root, tmp_path):
    path = next((root / "train" / "dog").glob("*.png"))
    path.write_bytes(path.read_bytes()[:200] if content == "truncated" else content)
    with pytest.raises(DataError, match=rf"dog/{path.name}: cannot be decoded .*replace or remove the file"):
        prepare()
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_more_than_eight_bits_are_refused(prepare, root):
    save(root / "train" / "dog" / "deep.png", np.full((9, 9), 40_000, np.uint16))
    with pytest.raises(DataError, match=r"deep\.png: image mode I;16; must be 8 bits per channel"):
        prepare()


def test_a_disk_that_is_too_small_is_noticed_before_it_is_full(prepare, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(_decode.shutil, "disk_usage", lambda path: usage(6000))
    with pytest.raises(DataError, match="6,912 bytes needed, 6,000 free; make room or lower `size`"):
        prepare()


def test_an_empty_validation_split_is_refused(prepare):
    with pytest.raises(DataError, match=r"split validation is empty; .* larger validation fraction"):
        prepare(validation_fraction=0)
