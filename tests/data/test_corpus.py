"""A corpus read in blocks has the text, the tokens and the manifest that it would have if it were read whole."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tiny_sources import SOURCES

from lowbit import catalog
from lowbit.data import corpus
from lowbit.data._base import SPLITS, DataError, load_split
from lowbit.data._growing import GrowingTokens

END = "<|endoftext|>"
SETTINGS = {"files": ["*.txt"], "validation_fraction": 0.2, "test_fraction": 0.2}


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "raw"
    folder.mkdir()
    SOURCES["corpus"].make(folder, monkeypatch)
    return folder


def prepared(root: Path, name: str = "set", **settings) -> tuple[dict, dict[str, np.ndarray]]:
    folder = root.parent / name
    manifest = catalog.build("data", {"name": "corpus", **SETTINGS, **settings}).prepare(folder, root)
    return manifest, {split: load_split(folder, split)["tokens"] for split in SPLITS}


def documents(tokens: np.ndarray) -> list[str]:
    return tokens.astype(np.uint8).tobytes().decode().split(END)


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 20])
def test_every_document_is_in_one_split_whole_whatever_the_blocks(root, block, monkeypatch):
    monkeypatch.setattr(corpus, "_BLOCK", block)
    manifest, tokens = prepared(root)
    found = {split: documents(tokens[split]) for split in SPLITS}
    given = [d for path in sorted(root.iterdir()) for d in path.read_text().split(END)]
    assert sorted(d for split in SPLITS for d in found[split]) == sorted(given)
    assert manifest["documents"] == {split: len(found[split]) for split in SPLITS}
    assert manifest["bytes"] == {split: len(tokens[split]) for split in SPLITS}
    assert min(manifest["documents"].values()) >= 3
    digests = [hashlib.sha256(END.join(found[split]).encode()).hexdigest() for split in SPLITS]
    assert manifest["text_sha256"] == hashlib.sha256("\0".join(digests).encode()).hexdigest()


def test_a_document_that_occurs_again_is_in_the_same_split(root):
    (root / "again.txt").write_text((root / "one.txt").read_text())
    _, tokens = prepared(root)
    found = {split: set(documents(tokens[split])) for split in SPLITS}
    assert not found["train"] & found["test"] | found["train"] & found["validation"]


def test_blocks_do_not_change_words_or_pairs(root, monkeypatch):
    for tokenizer in ("word", "bpe"):
        whole = prepared(root, "whole", tokenizer=tokenizer, vocabulary=300)
        with monkeypatch.context() as patch:
            patch.setattr(corpus, "_BLOCK", 50)
            parts = prepared(root, "parts", tokenizer=tokenizer, vocabulary=300)
        assert whole[0]["files"] == parts[0]["files"]
        for split in SPLITS:
            if tokenizer == "word":
                assert np.array_equal(whole[1][split], parts[1][split])
            assert whole[0]["bytes"] == parts[0]["bytes"]
    words = json.loads((root.parent / "parts").joinpath("tokenizer.json").read_text())
    assert words["model"]["type"] == "BPE"


def test_reading_stops_after_enough_text(root):
    manifest, _ = prepared(root, max_bytes=4000)
    assert 4000 <= sum(manifest["bytes"].values()) < 4600
    assert sum(manifest["documents"].values()) < 40


def test_memory_holds_a_block_and_not_the_corpus(root, monkeypatch):
    monkeypatch.setattr(corpus, "_BLOCK", 1000)
    (root / "long.txt").write_text(END.join(f"document {n} " + "word " * 200 for n in range(4000)))
    prepared(root, "first")  # what is imported or cached once
    tracemalloc.start()
    manifest, _ = prepared(root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(manifest["bytes"].values()) > 4_000_000
    assert peak < 500_000


def test_text_that_is_not_utf8_is_named(root):
    (root / "two.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"two\.txt: not UTF-8 .* iconv"):
        prepared(root)


def test_a_split_without_text_is_refused(root):
    with pytest.raises(DataError, match="split test has no text"):
        prepared(root, test_fraction=0.0)


@pytest.mark.parametrize("count", [0, 1, 12345])
def test_an_array_that_grew_is_an_ordinary_one(tmp_path, count):
    tokens = np.arange(count, dtype=np.uint32)
    growing = GrowingTokens(tmp_path / "a.npy", np.uint16)
    for part in np.array_split(tokens, 3):
        growing.append(part)
    assert np.array_equal(growing.finished(), tokens)
    np.save(tmp_path / "b.npy", tokens.astype(np.uint16))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
