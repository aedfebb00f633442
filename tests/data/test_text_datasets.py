"""Texts: nothing is lost or invented by a tokenizer, and no text is in two splits."""

import ast
import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from tiny_sources import SOURCES
from tokenizers import Tokenizer

from lowbit import catalog
from lowbit.data import stdlib_text
from lowbit.data._base import SPLITS, DataError, load_split
from lowbit.data._documents import normalised


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "raw"
    folder.mkdir()
    SOURCES["text"].make(folder, monkeypatch)
    return folder


@pytest.fixture
def prepare(root, tmp_path):
    """Prepare user text with some settings, return the manifest."""

    def prepare_with(**settings):
        return catalog.build("data", {"name": "text", **settings}).prepare(tmp_path / "set", root)

    return prepare_with


def decoded(folder, split: str) -> str:
    tokens = load_split(folder, split)["tokens"]
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json")).decode(tokens.tolist())
    return tokens.astype(np.uint8).tobytes().decode()


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def stdlib(request, tmp_path_factory):
    """A small standard-library text: its folder and manifest."""
    folder = tmp_path_factory.mktemp("stdlib") / "set"
    settings = {"name": "stdlib_text", "tokenizer": request.param, "max_bytes": 60_000, "vocabulary": 400}
    return folder, catalog.build("data", settings).prepare(folder)


def test_tokens_decode_to_the_text_that_was_hashed(stdlib):
    folder, manifest = stdlib
    texts = [decoded(folder, split) for split in SPLITS]
    assert hashlib.sha256("\0".join(texts).encode()).hexdigest() == manifest["text_sha256"]
    assert [len(text.encode()) for text in texts] == [manifest["bytes"][split] for split in SPLITS]


def test_the_manifest_of_the_library_text_names_the_python_version(stdlib):
    manifest = stdlib[1]
    assert manifest["python"].startswith("{}.{}.{}".format(*sys.version_info[:3]))
    assert manifest["vocabulary"] == (400 if manifest["tokenizer"] == "bpe" else 256)
    assert 50_000 < sum(manifest["bytes"].values()) <= 60_000 + 3 * manifest["documents"]["train"]


def test_no_paragraph_of_the_library_text_occurs_twice(stdlib):
    folder, _ = stdlib
    paragraphs = {split: [normalised(p) for p in decoded(folder, split).split("\n\n")] for split in SPLITS}
    for split in SPLITS:
        assert len(paragraphs[split]) == len(set(paragraphs[split])) > 5
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(paragraphs[one]) & set(paragraphs[other])


def test_both_tokenizers_see_the_same_text(tmp_path):
    hashes = set()
    for tokenizer in ("bytes", "bpe"):
        dataset = catalog.build("data", {"name": "stdlib_text", "tokenizer": tokenizer, "max_bytes": 20_000})
        hashes.add(dataset.prepare(tmp_path / tokenizer)["text_sha256"])
    assert len(hashes) == 1


def test_the_tokenizer_learns_from_the_training_split_only(prepare, root, tmp_path):
    settings = {"train": ["one.txt"], "validation": ["two.txt"], "test": ["test.txt"], "tokenizer": "bpe"}
    (root / "test.txt").write_text("quixotic zebra " * 50)
    before = prepare(**settings, vocabulary=300)["files"]["tokenizer.json"]
    (root / "test.txt").write_text("something else " * 50)
    assert prepare(**settings, vocabulary=300)["files"]["tokenizer.json"] == before
    assert not any(
        "zebra" in token for token in json.loads((tmp_path / "set" / "tokenizer.json").read_text())["model"]["vocab"]
    )


def test_a_byte_pair_encoding_is_the_same_in_another_process(prepare, root, tmp_path):
    settings = {"name": "text", "files": ["*.txt"], "separator": "<|endoftext|>", "tokenizer": "bpe", "vocabulary": 350}
    expected = catalog.build("data", settings).prepare(tmp_path / "here", root)
    code = (
        "import sys, json, pathlib; from lowbit import catalog;"
        "catalog.build('data', json.loads(sys.argv[1])).prepare(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, json.dumps(settings), str(tmp_path / "there"), str(root)]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(catalog.PACKAGE.parent)})
    assert json.loads((tmp_path / "there" / "manifest.json").read_text()) == expected


def test_the_end_of_a_file_is_no_line_of_its_own(root, prepare, tmp_path):
    for name in ("a", "b", "c", "d"):
        (root / f"{name}.lines").write_text(f"first of {name}\nsecond of {name}\n")
    prepare(train=["[ab].lines"], validation=["c.lines"], test=["d.lines"], tokenizer="word")
    words = json.loads((tmp_path / "set" / "words.json").read_text())
    seen = " ".join(words[number] for number in load_split(tmp_path / "set", "train")["tokens"])
    assert seen == "first of a <eos> second of a <eos> first of b <eos> second of b <eos>"


def test_docstrings_are_taken_in_the_order_of_the_source(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""First."""\nclass A:\n    """Second."""\n    def f(self):\n        """Third."""\ndef g():\n    "Fourth."\n'
    )
    assert stdlib_text._docstrings(path) == "First.\n\nSecond.\n\nThird.\n\nFourth."


def test_library_documents_leave_out_tests_and_programs():
    names = stdlib_text._documents().keys()
    assert {"topic assert", "module json/decoder.py", "module argparse.py"} <= names
    parts = {part for name in names for part in name.removeprefix("module ").split("/")}
    assert not {"test", "tests", "idlelib", "lib2to3", "site-packages", "test_typing.py"} & parts
    assert not any("sysconfigdata" in name for name in names)


def test_cleaning_keeps_words_and_indentation():
    text = "\n\nTitle\n*****\n\n\n\n\tcode(x)   \n   ---\n>>> 1\n"
    assert stdlib_text._cleaned(text) == "Title\n\n        code(x)\n>>> 1"
    assert ast.parse(stdlib_text._cleaned("if x:\n\ty = 1")).body


def test_explicit_files_are_taken_as_they_are(prepare, root, tmp_path):
    contents = {"train": " = A = \r\n\n low\tbit \n", "validation": "naïve\n\n\n", "test": "x y\n"}
    for split, content in contents.items():
        (root / f"{split}.tokens").write_bytes(content.encode())
    manifest = prepare(train=["train.tokens"], validation=["validation.tokens"], test=["test.tokens"])
    assert {split: decoded(tmp_path / "set", split) for split in SPLITS} == contents
    assert manifest["bytes"]["validation"] == len("naïve\n\n\n".encode())
    assert set(manifest["raw_sha256"]) == {"train.tokens", "validation.tokens", "test.tokens"}


def test_files_are_divided_by_document_in_their_order(prepare, root, tmp_path):
    manifest = prepare(
        files=["one.txt", "two.txt"], separator="<|endoftext|>", validation_fraction=0.2, test_fraction=0.3
    )
    counts = [manifest["documents"][split] for split in SPLITS]
    assert sum(counts) == 40
    assert np.abs(np.array(counts) - (20, 8, 12)).max() <= 2
    given = [part for name in ("one.txt", "two.txt") for part in (root / name).read_text().split("<|endoftext|>")]
    parts = {split: decoded(tmp_path / "set", split).split("<|endoftext|>") for split in SPLITS}
    assert sorted(given) == sorted(itertools.chain(*parts.values()))
    assert all([given.index(p) for p in part] == sorted(given.index(p) for p in part) for part in parts.values())


def test_the_split_does_not_depend_on_the_order_of_the_documents(prepare, root, tmp_path):
    settings = {"files": ["*.txt"], "separator": "<|endoftext|>"}
    prepare(**settings)
    before = {split: set(decoded(tmp_path / "set", split).split("<|endoftext|>")) for split in SPLITS}
    (root / "one.txt").rename(root / "zzz.txt")
    prepare(**settings)
    assert before == {split: set(decoded(tmp_path / "set", split).split("<|endoftext|>")) for split in SPLITS}
    prepare(**settings, split_seed=1)
    assert before != {split: set(decoded(tmp_path / "set", split).split("<|endoftext|>")) for split in SPLITS}


def test_repeated_documents_are_dropped_and_counted(prepare, root):
    (root / "copy.txt").write_text((root / "two.txt").read_text().upper().replace("<|ENDOFTEXT|>", "<|endoftext|>"))
    manifest = prepare(files=["one.txt", "two.txt", "copy.txt"], separator="<|endoftext|>")
    assert sum(manifest["documents"].values()) == 40
    assert manifest["ignored"] == ["15 documents that occur before"]


def test_validation_comes_out_of_train_when_not_named(prepare, root, tmp_path):
    manifest = prepare(train=["one.txt"], test=["two.txt"], separator="<|endoftext|>", validation_fraction=0.2)
    assert manifest["documents"] == {"train": 20, "validation": 5, "test": 15}
    assert decoded(tmp_path / "set", "test") == (root / "two.txt").read_text()


def test_a_small_part_keeps_the_proportions(prepare):
    settings = {"files": ["*.txt"], "separator": "<|endoftext|>", "test_fraction": 0.3}
    full, small = prepare(**settings)["bytes"], prepare(**settings, max_bytes=2000)["bytes"]
    assert 1500 < sum(small.values()) <= 2000 + 40 * len("<|endoftext|>")
    for split in SPLITS:
        assert small[split] / sum(small.values()) == pytest.approx(full[split] / sum(full.values()), abs=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "got none of them; set `files`, or `train` and `test`"),
        ({"train": ["one.txt"]}, "got train; set"),
        ({"train": ["one.txt"], "validation": ["two.txt"]}, "got train, validation; set"),
        ({"files": ["*.txt"], "test": ["two.txt"]}, "got test, files; set"),
        ({"files": ["*.tokens"]}, r"\*\.tokens: no such file"),
        ({"files": ["/etc/*.txt"]}, "must be relative to data_root"),
        ({"train": ["*.txt"], "test": ["two.txt"]}, r"two\.txt: in two splits; narrow the patterns"),
        ({"files": ["*.txt"]}, "need at least 3, found 2; set `separator`"),
        ({"train": ["one.txt"], "test": ["two.txt"]}, "need at least 2, found 1; set `separator`"),
        (
            {"files": ["*.txt"], "separator": "<|endoftext|>", "test_fraction": 0},
            r"no text in \['test'\]; documents: train 36, validation 4, test 0; give more documents or larger",
        ),
    ],
)
def test_settings_that_give_no_three_splits_are_refused(settings, message, prepare):
    with pytest.raises(DataError, match=message):
        prepare(**settings)


def test_text_that_is_not_utf8_is_named(prepare, root):
    (root / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt: not UTF-8 .*position 2.*convert the file"):
        prepare(files=["*.txt"])
