"""Tokenizers: any text comes back as it was, in tokens as wide as the vocabulary needs."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lowbit.data import _tokenize
from lowbit.data._base import SPLITS
from lowbit.data._documents import Document

LETTERS = st.text(alphabet="ab é\n.", max_size=60)


@functools.cache
def small_encoding() -> Tokenizer:
    return _tokenize._learnt("low-bit nets learn with few levels\n" * 20, 300)


@given(st.text(max_size=300))
def test_nothing_is_unknown_to_a_byte_pair_encoding(text):
    model = small_encoding()
    assert model.decode(_tokenize._encoded(model, text).tolist()) == text


@given(LETTERS.map(lambda text: text * 9), st.integers(2, 40))
def test_chunks_add_up_to_the_text(text, size):
    _tokenize._CHUNK, before = size, _tokenize._CHUNK
    try:
        chunks = list(_tokenize._chunks(text))
    finally:
        _tokenize._CHUNK = before
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= size for chunk in chunks)


@pytest.mark.parametrize(("vocabulary", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_tokens_are_as_wide_as_the_vocabulary_needs(vocabulary, dtype, monkeypatch):
    class Stub:
        def get_vocab_size(self):
            return vocabulary

        def to_str(self):
            return "{}"

    monkeypatch.setattr(_tokenize, "_learnt", lambda text, size: Stub())
    monkeypatch.setattr(_tokenize, "_encoded", lambda model, text: np.array([0, vocabulary - 1], dtype=np.uint32))
    documents = {split: [Document("a", "text")] for split in SPLITS}
    raw = _tokenize.text_splits(documents, "\n", "bpe", 300, "test", {})
    assert raw.arrays["test"]["tokens"].dtype == dtype
    assert raw.arrays["test"]["tokens"][1] == vocabulary - 1
