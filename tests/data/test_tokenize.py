"""Tokenizers: any text comes back as it was, in tokens as wide as the vocabulary needs."""

import functools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lowbit.data import _tokenizers
from lowbit.data._base import SPLITS, DataError
from lowbit.data._documents import Document
from lowbit.data._tokenize import text_splits

LETTERS = st.text(alphabet="ab é\n.", max_size=60)


@functools.cache
def small_encoding() -> Tokenizer:
    return _tokenizers._learnt(["low-bit nets learn with few levels\n" * 20], 300)


@given(st.text(max_size=300))
def test_nothing_is_unknown_to_a_byte_pair_encoding(text):
    model = small_encoding()
    assert model.decode(_tokenizers._encoded(model, text).tolist()) == text


@given(LETTERS.map(lambda text: text * 9), st.integers(2, 40))
def test_chunks_add_up_to_the_text(text, size):
    _tokenizers._CHUNK, before = size, _tokenizers._CHUNK
    try:
        chunks = list(_tokenizers._chunks(text))
    finally:
        _tokenizers._CHUNK = before
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= size for chunk in chunks)


@pytest.mark.parametrize(("vocabulary", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_tokens_are_as_wide_as_the_vocabulary_needs(vocabulary, dtype, monkeypatch):
    class Stub:
        def get_vocab_size(self):
            return vocabulary

        def to_str(self):
            return "{}"

    monkeypatch.setattr(_tokenizers, "_learnt", lambda text, size: Stub())
    monkeypatch.setattr(_tokenizers, "_encoded", lambda model, text: np.array([0, vocabulary - 1], dtype=np.uint32))
    documents = {split: [Document("a", "text")] for split in SPLITS}
    raw = text_splits(documents, "\n", "bpe", 300, "test", {})
    assert raw.arrays["test"]["tokens"].dtype == dtype
    assert raw.arrays["test"]["tokens"][1] == vocabulary - 1


def of_words(train: str, other: str, vocabulary: int | None = None) -> tuple[list[str], dict[str, list[str]]]:
    """The vocabulary, and the words of each split as a model sees them."""
    documents = {split: [Document("a", train if split == "train" else other)] for split in SPLITS}
    raw = text_splits(documents, "\n", "word", vocabulary, "test", {})
    words = json.loads(raw.files["words.json"])
    assert raw.details["vocabulary"] == len(words)
    return words, {split: [words[number] for number in raw.arrays[split]["tokens"]] for split in SPLITS}


def test_words_end_their_lines_and_unknown_ones_are_named():
    words, seen = of_words(" no it was n't\n black <unk> it \n\n", "it was blue")
    assert words == ["<eos>", "<unk>", "it", "black", "n't", "no", "was"]
    assert seen["train"] == ["no", "it", "was", "n't", "<eos>", "black", "<unk>", "it", "<eos>", "<eos>"]
    assert seen["test"] == ["it", "was", "<unk>", "<eos>"]


def test_the_most_frequent_words_are_kept():
    text = " ".join(f"word{n} " * (2 if n < 298 else 1) for n in range(400))
    words, seen = of_words(text, "word297 word298", vocabulary=300)
    assert len(words) == 300
    assert set(words[2:]) == {f"word{n}" for n in range(298)}
    assert seen["test"] == ["word297", "<unk>", "<eos>"]


def gpt2_files(folder):
    """The two files of a byte-level encoding that knows the end of a text."""
    folder.mkdir()
    small_encoding().model.save(str(folder))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"<|endoftext|>": len(vocabulary)}))
    return folder


def test_a_tokenizers_own_files_give_its_own_tokens(tmp_path):
    text = "low-bit nets, few levels\n"
    expected = small_encoding().encode(text).ids
    two = _tokenizers.tokenizer("file", [], None, gpt2_files(tmp_path / "gpt2"))
    assert two.encode(text).tolist() == expected
    end = two.vocabulary - 1
    assert two.encode(f"{text}<|endoftext|>{text}").tolist() == [*expected, end, *expected]
    (tmp_path / "one.json").write_bytes(two.files["tokenizer.json"])
    one = _tokenizers.tokenizer("file", [], None, tmp_path / "one.json")
    assert one.encode(f"{text}<|endoftext|>").tolist() == [*expected, end]


def test_a_missing_or_wrong_tokenizer_file_says_what_is_needed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/vocab.json").write_text("{}")
    (tmp_path / "wrong.json").write_text("{}")
    for path, message in (
        (None, "needs tokenizer_file"),
        (tmp_path / "none.json", r"none\.json: missing; put it there or mend tokenizer_file"),
        (tmp_path / "folder", r"folder/merges\.txt: missing"),
        (tmp_path / "wrong.json", r"wrong\.json: no tokenizer"),
    ):
        with pytest.raises(DataError, match=message):
            _tokenizers.tokenizer("file", [], None, path)
