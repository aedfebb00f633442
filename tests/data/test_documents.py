"""Documents: nothing is lost but what was said before, and every split gets whole ones."""

import re

from hypothesis import given
from hypothesis import strategies as st

from lowbit.data._documents import Document, cut, divided, limited, normalised, without_repeats

LETTERS = st.text(alphabet="ab é\n.", max_size=60)


@given(st.lists(LETTERS, max_size=8))
def test_paragraphs_are_left_out_only_when_they_occurred(texts):
    documents = [Document(str(n), text) for n, text in enumerate(texts)]
    left = [normalised(p) for d in without_repeats(documents) for p in d.text.split("\n\n")]
    assert set(left) == {normalised(p) for text in texts for p in re.split(r"\n\s*\n", text)} - {""}
    assert len(left) == len(set(left))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60, unique=True), st.integers(0, 3))
def test_a_division_keeps_every_document_once(sizes, seed):
    documents = [Document(str(size), "x" * size) for size in sizes]
    parts = divided(documents, 0.2, 0.3, seed)
    assert sorted(d.key for part in parts.values() for d in part) == sorted(d.key for d in documents)
    total, largest = sum(sizes), max(sizes)
    assert abs(sum(d.bytes for d in parts["test"]) - 0.3 * total) <= largest
    assert abs(sum(d.bytes for d in parts["validation"]) - 0.2 * total) <= largest


@given(st.lists(LETTERS, max_size=6), st.integers(0, 200))
def test_limited_text_is_a_beginning_of_at_most_the_size(texts, size):
    short = list(limited([Document(str(n), text) for n, text in enumerate(texts)], size))
    assert sum(d.bytes for d in short) <= size
    assert all(text.startswith(d.text) for text, d in zip((t for t in texts if t), short, strict=False))


def test_a_cut_falls_on_a_line_end_and_never_inside_a_character():
    assert cut(Document("a", "first\nsecond\nthird"), 14).text == "first\nsecond"
    assert cut(Document("a", "ééé"), 3).text == "é"
    assert cut(Document("a", "short"), 5).text == "short"
