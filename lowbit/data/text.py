"""Your own text files, for example WikiText-2 or a collection of stories; the text is taken as it is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lowbit.data._base import SPLITS, DataError, Raw, Split, TextDataset
from lowbit.data._documents import Document, divided, limited, normalised
from lowbit.data._source import below, data_root, found, raw_hashes
from lowbit.data._tokenize import text_splits
from lowbit.variant import Count, NonNegativeInt, OpenFraction, variant


@variant
class Text(TextDataset):
    """Text files below data_root: either `train` and `test`, or `files` that are divided by document.

    A document is a file, or with `separator` a part of a file. Where documents are divided, repeated ones are dropped.

    Args:
        train: file names or globs of the training text.
        validation: likewise; empty takes documents out of train.
        test: likewise.
        files: file names or globs of text to be divided into all three.
        separator: what stands between the documents of a file, such as <|endoftext|>; null: a file is one document.
        validation_fraction: share of the text for model selection, where it is to be taken out.
        test_fraction: share of the text that is read once, at the end of a run; for `files`.
        split_seed: of the fixed split by document; not the seed of a run.
        tokenizer: bytes; bpe: a byte-pair encoding learnt on the training split; word: what stands between blanks, and
            <eos> at the end of a line; file: that of tokenizer_file.
        tokenizer_file: a tokenizer.json, or a folder with GPT-2's vocab.json and merges.txt, below data_root.
        vocabulary: tokens of bpe (null is 1024), or the most frequent words that are kept (null keeps all).
        max_bytes: keep the beginning of each split, all three in proportion; null keeps all.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    separator: str | None = None
    validation_fraction: OpenFraction = 0.1
    test_fraction: OpenFraction = 0.1
    split_seed: NonNegativeInt = 0
    tokenizer: Literal["bytes", "bpe", "word", "file"] = "bytes"
    tokenizer_file: str | None = None
    vocabulary: Annotated[int, Field(ge=257)] | None = None
    max_bytes: Count | None = None

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        named = {key: getattr(self, key) for key in (*SPLITS, "files") if getattr(self, key)}
        if set(named) not in ({"files"}, {"train", "test"}, set(SPLITS)):
            given = ", ".join(named) or "none of them"
            raise DataError(f"train, validation, test, files: got {given}; set `files`, or `train` and `test`")
        root = data_root(root, "your text files").absolute()
        paths = {key: found(root, patterns) for key, patterns in named.items()}
        if len(every := [p for group in paths.values() for p in group]) > len(set(every)):
            repeated = sorted({str(p) for p in every if every.count(p) > 1})
            raise DataError(f"{', '.join(repeated)}: in two splits; narrow the patterns")
        documents = {key: list(self._documents(group)) for key, group in paths.items()}
        splits, repeats = self._divided(documents)
        if self.max_bytes is not None:
            splits = _in_proportion(splits, self.max_bytes)
        details = {
            "raw_sha256": raw_hashes(sorted(every), root),
            "ignored": [f"{repeats} documents that occur before"] if repeats else [],
        }
        joint = "\n\n" if self.separator is None else self.separator
        if self.tokenizer == "word":  # a separator would grow together with its neighbours, a blank line be an <eos>
            joint = "\n"
            splits = {k: [replace(d, text=d.text.removesuffix("\n")) for d in v] for k, v in splits.items()}
        source = f"text files {', '.join(p for patterns in named.values() for p in patterns)}"
        file = None if self.tokenizer_file is None else below(root, self.tokenizer_file)
        return text_splits(splits, joint, self.tokenizer, self.vocabulary, source, details, file)

    def _documents(self, paths: list[Path]) -> Iterator[Document]:
        for path in paths:
            try:
                text = path.read_bytes().decode()
            except UnicodeDecodeError as error:
                raise DataError(f"{path}: not UTF-8 ({error}); convert the file, for example with iconv") from error
            for part in text.split(self.separator) if self.separator else [text]:
                if part.strip():
                    yield Document(part, part)

    def _divided(self, documents: dict[str, list[Document]]) -> tuple[dict[Split, list[Document]], int]:
        """Documents per split, and how many were dropped because they occur before."""
        if set(documents) == set(SPLITS):
            return documents, 0
        given = documents.get("files") or documents["train"]
        # Of equal documents the first stays, in its place.
        fresh = list({normalised(d.text): d for d in reversed(given)}.values())[::-1]
        if len(fresh) < (needed := 3 if "files" in documents else 2):
            advice = "set `separator`, or name files for each split"
            raise DataError(f"documents to divide: need at least {needed}, found {len(fresh)}; {advice}")
        test_fraction = self.test_fraction if "files" in documents else 0.0
        splits = divided(fresh, self.validation_fraction, test_fraction, self.split_seed)
        return splits | {k: documents[k] for k in ("test",) if k in documents}, len(given) - len(fresh)


def _in_proportion(splits: dict[Split, list[Document]], size: int) -> dict[Split, list[Document]]:
    """The beginning of each split, together at most `size` bytes."""
    bytes_of = {split: sum(d.bytes for d in documents) for split, documents in splits.items()}
    total = max(size, sum(bytes_of.values()))
    return {split: list(limited(documents, bytes_of[split] * size // total)) for split, documents in splits.items()}
