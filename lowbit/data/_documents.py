"""Texts as lists of documents: without repeats, divided by document into splits, cut to a size."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lowbit.data._base import Split


@dataclass(frozen=True)
class Document:
    """A piece of text that stays whole: all of it goes to one split.

    Args:
        key: what its place in the order of hashes rests on: a name, or the text itself.
        text: what it says.
    """

    key: str
    text: str

    @property
    def bytes(self) -> int:
        """Length in UTF-8."""
        return len(self.text.encode())


def hashed(key: str, seed: int) -> bytes:
    """Sorting key of a fixed, arbitrary order."""
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()


def normalised(text: str) -> str:
    """Words and digits only: two texts that differ in case, wrapping or punctuation become equal."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def without_repeats(documents: Iterable[Document]) -> Iterator[Document]:
    """Documents that are left, without their paragraphs that occurred before, here or in an earlier document.

    Paragraphs are compared `normalised`; those without a word or a digit (underlines) go too.
    """
    seen = {""}
    for document in documents:
        fresh = []
        for paragraph in re.split(r"\n\s*\n", document.text):
            words = normalised(paragraph)
            if words not in seen:
                seen.add(words)
                fresh.append(paragraph)
        if fresh:
            yield replace(document, text="\n\n".join(fresh))


def divided(
    documents: list[Document], validation_fraction: float, test_fraction: float, seed: int
) -> dict[Split, list[Document]]:
    """Whole documents per split, by their place in the order of hashes; within a split in the order given.

    Args:
        documents: with different keys.
        validation_fraction: share of the bytes, as nearly as whole documents allow.
        test_fraction: likewise.
        seed: of the order of hashes.
    """
    total, done = sum(d.bytes for d in documents), 0
    split_of: dict[str, Split] = {}
    for document in sorted(documents, key=lambda d: hashed(d.key, seed)):
        middle = (done + document.bytes / 2) / total
        held: Split = "test" if middle < test_fraction else "validation"
        split_of[document.key] = held if middle < test_fraction + validation_fraction else "train"
        done += document.bytes
    splits: dict[Split, list[Document]] = {"train": [], "validation": [], "test": []}
    for document in documents:
        splits[split_of[document.key]].append(document)
    return splits


def cut(document: Document, size: int, at: str = "\n") -> Document:
    """The beginning of a document, at most `size` bytes, up to the last `at` in them if there is one."""
    if document.bytes <= size:
        return document
    text = document.text.encode()[:size].decode(errors="ignore")
    end = text.rfind(at)
    return replace(document, text=text[:end] if end > 0 else text)


def limited(documents: Iterable[Document], size: int) -> Iterator[Document]:
    """The first documents up to `size` bytes together; the last of them may be cut."""
    for document in documents:
        short = cut(document, size)
        if short.text:
            yield short
        size -= document.bytes
        if size <= 0:
            return
