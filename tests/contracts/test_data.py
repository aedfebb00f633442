"""What every dataset owes: a whole, checked, reproducible folder with disjoint splits and true statistics."""

import itertools
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lowbit import catalog
from lowbit.data._base import SPLITS, DataError, Dataset, check, files_of, load_split
from lowbit.data._documents import normalised

sys.path.append(str(Path(__file__).parents[1] / "data"))
from tiny_sources import SOURCES, TinySource

NAMES = catalog.available("data")
IMAGES = [name for name in NAMES if catalog.base_class("data", name) == "ImageDataset"]
PIECES = r"\n\n|<\|endoftext\|>"
FROM_NOTHING = TinySource(lambda root, patch: None, {})


@dataclass(frozen=True)
class Prepared:
    name: str
    dataset: Dataset
    folder: Path
    again: Path
    manifest: dict


@pytest.fixture(scope="module", params=NAMES)
def prepared(request, tmp_path_factory):
    """Every variant, prepared twice from one tiny source; a variant without one must need none."""
    base = tmp_path_factory.mktemp(request.param)
    source = SOURCES.get(request.param, FROM_NOTHING)
    root = base / "raw"
    root.mkdir()
    dataset = catalog.build("data", {"name": request.param, **source.settings})
    with pytest.MonkeyPatch.context() as patch:
        source.make(root, patch)
        manifest = dataset.prepare(base / "first" / "set", root)
        dataset.prepare(base / "second" / "other_name", root)
    return Prepared(request.param, dataset, base / "first" / "set", base / "second" / "other_name", manifest)


def arrays(prepared: Prepared) -> dict[str, dict[str, np.ndarray]]:
    return {split: prepared.dataset.load(prepared.folder, split) for split in SPLITS}


def test_the_manifest_has_the_keys_that_a_run_reads(prepared):
    manifest = json.loads((prepared.folder / "manifest.json").read_text())
    assert manifest == json.loads(json.dumps(prepared.manifest))
    assert set(manifest["splits"]) == set(SPLITS)
    assert manifest["kind"] == prepared.dataset.kind
    assert isinstance(manifest["source"], str)
    assert manifest["source"]
    if manifest["kind"] == "images":
        assert len(manifest["mean"]) == len(manifest["std"]) == manifest["input_shape"][0]
        assert all(isinstance(name, str) for name in manifest["classes"])
    else:
        assert set(manifest["bytes"]) == set(manifest["documents"]) == set(SPLITS)
        assert len(manifest["text_sha256"]) == 64
        assert manifest["tokenizer"] in ("bytes", "bpe")


def test_arrays_are_what_the_manifest_says_and_of_the_promised_type(prepared):
    for split, loaded in arrays(prepared).items():
        entries = prepared.manifest["splits"][split]
        for name, array in loaded.items():
            assert (list(array.shape), str(array.dtype)) == (entries[name]["shape"], entries[name]["dtype"])
            assert len(array) > 0
        if prepared.manifest["kind"] == "images":
            assert loaded["images"].dtype == np.uint8
            assert loaded["labels"].dtype == np.int64
            assert list(loaded["images"].shape[1:]) == prepared.manifest["input_shape"]
            assert loaded["labels"].shape == loaded["images"].shape[:1]
            assert loaded["labels"].max() < len(prepared.manifest["classes"])
        else:
            assert loaded["tokens"].dtype in (np.uint16, np.uint32)
            assert loaded["tokens"].max() < prepared.manifest["vocabulary"]


def test_only_listed_files_are_in_the_folder(prepared):
    listed = {name for name, _ in files_of(prepared.manifest)} | {"manifest.json"}
    assert {p.name for p in prepared.folder.iterdir()} == listed
    assert [p.name for p in prepared.folder.parent.iterdir()] == ["set"]


def test_an_untouched_folder_passes_and_a_flipped_byte_is_named(prepared):
    assert check(prepared.folder) == json.loads((prepared.folder / "manifest.json").read_text())
    for name, _ in files_of(prepared.manifest):
        path = prepared.folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataError, match=f"{name}: content differs"):
            prepared.dataset.load(prepared.folder, "train")
        path.write_bytes(content)
    check(prepared.folder)


def test_a_missing_file_is_named(prepared):
    name, _ = next(files_of(prepared.manifest))
    content = (prepared.folder / name).read_bytes()
    (prepared.folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: missing"):
        check(prepared.folder)
    (prepared.folder / name).write_bytes(content)


def test_preparing_twice_gives_the_same_bytes(prepared):
    first = {p.name: p.read_bytes() for p in prepared.folder.iterdir()}
    second = {p.name: p.read_bytes() for p in prepared.again.iterdir()}
    assert first == second


def test_the_manifest_has_no_machine_path(prepared):
    text = (prepared.folder / "manifest.json").read_text()
    assert str(prepared.folder.parents[1]) not in text
    assert str(Path.home()) not in text
    assert sys.prefix not in text


def test_no_sample_is_in_two_splits(prepared):
    loaded = arrays(prepared)
    if prepared.manifest["kind"] == "images":
        content = {split: {image.tobytes() for image in loaded[split]["images"]} for split in SPLITS}
    else:
        assert prepared.manifest["tokenizer"] == "bytes"
        texts = {split: loaded[split]["tokens"].astype(np.uint8).tobytes().decode() for split in SPLITS}
        content = {split: {normalised(p) for p in re.split(PIECES, text)} - {""} for split, text in texts.items()}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not content[one] & content[other], (one, other)


@pytest.mark.parametrize("prepared", IMAGES, indirect=True, scope="module")
def test_mean_and_std_are_those_of_the_training_images(prepared):
    images = load_split(prepared.folder, "train")["images"].astype(np.float64) / 255
    np.testing.assert_allclose(prepared.manifest["mean"], images.mean(axis=(0, 2, 3)), atol=1e-8)
    np.testing.assert_allclose(prepared.manifest["std"], images.std(axis=(0, 2, 3)), atol=1e-8)


@pytest.mark.parametrize("prepared", IMAGES, indirect=True, scope="module")
def test_every_class_is_in_every_split_of_a_balanced_source(prepared):
    classes = range(len(prepared.manifest["classes"]))
    for split in SPLITS:
        counts = np.bincount(load_split(prepared.folder, split)["labels"], minlength=len(classes))
        assert counts.min() > 0, split
        assert counts.max() - counts.min() <= 0.1 * counts.max(), split


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained(name):
    unexplained = [key for key, setting in catalog.signature("data", name).items() if not setting.text]
    assert not unexplained


@pytest.mark.parametrize("name", [n for n in SOURCES if n != "stdlib_text"])
@pytest.mark.parametrize("root", [None, Path("no/such/folder")])
def test_without_data_root_the_message_says_what_to_set(name, root, tmp_path):
    dataset = catalog.build("data", {"name": name, **SOURCES[name].settings})
    with pytest.raises(DataError, match=r"^data_root: .+ set it to the folder that holds .+"):
        dataset.prepare(tmp_path / "set", root)
    assert not list(tmp_path.iterdir())


def test_heavy_libraries_wait_until_a_dataset_is_prepared():
    code = f"import sys; {'; '.join(f'import lowbit.data.{n}' for n in NAMES)}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "torchvision", "sklearn", "PIL", "tokenizers", "tqdm"} & set(modules)
