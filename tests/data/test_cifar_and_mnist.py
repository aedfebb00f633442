"""CIFAR and MNIST: the published files and no others, wherever they lie below data_root."""

import gzip
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import tiny_sources
from tiny_sources import SOURCES

from lowbit import catalog
from lowbit.data import mnist
from lowbit.data._base import DataError, load_split

CIFAR = ["cifar10", "cifar100"]
BASE = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python", "mnist": "MNIST/raw"}
SOME_FILE = {"cifar10": "data_batch_3", "cifar100": "train", "mnist": "train-labels-idx1-ubyte.gz"}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def build(name: str, **settings):
    return catalog.build("data", {"name": name, **SOURCES[name].settings, **settings})


@pytest.mark.parametrize("name", CIFAR)
def test_images_are_channel_first_and_the_test_split_is_the_official_one(name, root, tmp_path, monkeypatch):
    SOURCES[name].make(root, monkeypatch)
    manifest = build(name).prepare(tmp_path / "set", root)
    rows = tiny_sources.pixels({"cifar10": 120, "cifar100": 500}[name], 3, 32, 32)
    train, test = ({"cifar10": 100, "cifar100": 400}[name]), load_split(tmp_path / "set", "test")
    np.testing.assert_array_equal(test["images"], rows[train:])
    kept = np.concatenate([load_split(tmp_path / "set", s)["images"] for s in ("train", "validation")])
    assert {i.tobytes() for i in kept} == {i.tobytes() for i in rows[:train]}
    assert len(manifest["raw_sha256"]) == {"cifar10": 6, "cifar100": 2}[name]


@pytest.mark.parametrize("name", CIFAR)
def test_labels_stay_with_their_images(name, root, tmp_path, monkeypatch):
    SOURCES[name].make(root, monkeypatch)
    build(name).prepare(tmp_path / "set", root)
    classes = {"cifar10": 10, "cifar100": 100}[name]
    label_of = {image.tobytes(): n % classes for n, image in enumerate(tiny_sources.pixels(len_of(name), 3, 32, 32))}
    for split in ("train", "validation", "test"):
        loaded = load_split(tmp_path / "set", split)
        assert [label_of[image.tobytes()] for image in loaded["images"]] == loaded["labels"].tolist()


def len_of(name: str) -> int:
    return {"cifar10": 120, "cifar100": 500}[name]


def test_mnist_is_read_packed_and_unpacked_alike(root, tmp_path, monkeypatch):
    SOURCES["mnist"].make(root, monkeypatch)
    packed = build("mnist").prepare(tmp_path / "packed", root)
    assert packed["classes"][3] == "3 - three"
    np.testing.assert_array_equal(
        load_split(tmp_path / "packed", "test")["images"], tiny_sources.pixels(120, 28, 28)[100:, None]
    )
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (root / "MNIST" / "raw").iterdir():
        (flat / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    monkeypatch.setattr(mnist, "_UNPACKED_MD5", {p.name: tiny_sources.md5(p) for p in flat.iterdir()})
    assert build("mnist").prepare(tmp_path / "unpacked", flat) == packed


def test_an_unpacked_mnist_file_of_unknown_content_is_refused(root, tmp_path, monkeypatch):
    SOURCES["mnist"].make(root, monkeypatch)
    packed = root / "MNIST" / "raw" / SOME_FILE["mnist"]
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    with pytest.raises(
        DataError, match=r"train-labels-idx1-ubyte differs from the published file; put .*download: true"
    ):
        build("mnist").prepare(tmp_path / "set", root)


@pytest.mark.parametrize("name", BASE)
def test_a_damaged_file_is_named(name, root, tmp_path, monkeypatch):
    SOURCES[name].make(root, monkeypatch)
    path = root / BASE[name] / SOME_FILE[name]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{SOME_FILE[name]} differs from the published file.*download: true"):
        build(name).prepare(tmp_path / "set", root)


@pytest.mark.parametrize("name", BASE)
def test_a_missing_file_is_named(name, root, tmp_path, monkeypatch):
    SOURCES[name].make(root, monkeypatch)
    (root / BASE[name] / SOME_FILE[name]).unlink()
    with pytest.raises(DataError, match=f"{SOME_FILE[name]} is missing.*into|{SOME_FILE[name]} is missing.*put"):
        build(name).prepare(tmp_path / "set", root)


def test_damaged_class_names_are_named(root, tmp_path, monkeypatch):
    SOURCES["cifar10"].make(root, monkeypatch)
    (root / BASE["cifar10"] / "batches.meta").write_bytes(b"")
    with pytest.raises(DataError, match=r"batches\.meta differs from the published file"):
        build("cifar10").prepare(tmp_path / "set", root)


@pytest.mark.parametrize("name", BASE)
def test_an_empty_data_root_says_what_to_put_where(name, root, tmp_path):
    with pytest.raises(DataError, match=r"https?://.*download: true"):
        build(name).prepare(tmp_path / "set", root)


@pytest.mark.parametrize(
    ("name", "place"), [("cifar10", "CIFAR10"), ("cifar100", "cifar100"), ("mnist", "mnist"), ("mnist", "raw")]
)
def test_folders_that_users_make_are_found(name, place, root, tmp_path, monkeypatch):
    SOURCES[name].make(root, monkeypatch)
    expected = build(name).prepare(tmp_path / "set", root)
    moved = tmp_path / "moved" / place
    moved.parent.mkdir()
    shutil.move(root / "MNIST" / "raw" if name == "mnist" else root, moved)
    assert build(name).prepare(tmp_path / "set", tmp_path / "moved") == expected
    inside = moved if name == "mnist" else moved / BASE[name]
    assert build(name).prepare(tmp_path / "set", inside) == expected


@pytest.mark.parametrize("name", BASE)
def test_a_failed_download_becomes_advice(name, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    module = "mnist" if name == "mnist" else "cifar"
    monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", refuse)
    with pytest.raises(DataError, match=r"no route to host"):
        build(name, download=True).prepare(tmp_path / "set", tmp_path / "new")


@pytest.mark.parametrize("name", BASE)
def test_a_download_goes_to_data_root_and_only_when_needed(name, root, tmp_path, monkeypatch):
    SOURCES[name].make(root, monkeypatch)
    expected = build(name).prepare(tmp_path / "set", root)
    fetched = []

    def fetch(url, download_root, *args, filename=None, **kwargs):
        fetched.append(filename)
        shutil.copytree(root / (BASE[name] if name == "mnist" else ""), download_root, dirs_exist_ok=True)
        for path in Path(download_root).glob("*.gz"):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))

    module = "mnist" if name == "mnist" else "cifar"
    monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", fetch)
    new = tmp_path / "new"
    assert build(name, download=True).prepare(tmp_path / "set", new) == expected
    assert fetched
    fetched.clear()
    assert build(name, download=True).prepare(tmp_path / "set", new) == expected
    assert not fetched
