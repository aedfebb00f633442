"""Your own text of any size, for example OpenWebText: read in blocks, tokenised as it is read, never whole in memory.

A document goes to its split by a hash of its text: wherever it stands, and however often, it is in one split only.
`text` is the variant for texts that fit into memory, with splits of exact sizes and without repeats.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lowbit.data._base import SPLITS, DataError, Raw, Split, TextDataset
from lowbit.data._documents import hashed
from lowbit.data._growing import GrowingTokens
from lowbit.data._source import below, data_root, found, raw_hashes
from lowbit.data._tokenizers import tokenizer
from lowbit.variant import Count, NonNegativeInt, OpenFraction, variant

_BLOCK = 1 << 20  # characters that are tokenised at once


@variant
class Corpus(TextDataset):
    """Text files below data_root that need not fit into memory; documents are divided by a hash of their text.

    Args:
        files: file names or globs.
        separator: what stands between the documents of a file; null: a file is one document.
        validation_fraction: share of the documents for model selection.
        test_fraction: share of the documents that is read once, at the end of a run.
        split_seed: of the fixed split by document; not the seed of a run.
        tokenizer: bytes; bpe: a byte-pair encoding learnt on the training split; word: what stands between blanks, and
            <eos> at the end of a line; file: that of tokenizer_file.
        tokenizer_file: a tokenizer.json, or a folder with GPT-2's vocab.json and merges.txt, below data_root.
        vocabulary: tokens of bpe (null is 1024), or the most frequent words that are kept (null keeps all).
        max_bytes: stop after so much text; null reads all.
    """

    files: tuple[str, ...]
    separator: str | None = "<|endoftext|>"
    validation_fraction: OpenFraction = 0.005
    test_fraction: OpenFraction = 0.005
    split_seed: NonNegativeInt = 0
    tokenizer: Literal["bytes", "bpe", "word", "file"] = "bytes"
    tokenizer_file: str | None = None
    vocabulary: Annotated[int, Field(ge=257)] | None = None
    max_bytes: Count | None = None

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        root = data_root(root, "your text files").absolute()
        paths = found(root, self.files)
        file = None if self.tokenizer_file is None else below(root, self.tokenizer_file)
        training = (text for split, text in self._documents(paths) if split == "train")
        model = tokenizer(self.tokenizer, training, self.vocabulary, file)
        outputs = {split: GrowingTokens(folder / f"{split}_tokens.npy", model.dtype) for split in SPLITS}
        digests = {split: hashlib.sha256() for split in SPLITS}
        documents, sizes = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0)
        pending: dict[Split, list[str]] = {split: [] for split in SPLITS}
        waiting = dict.fromkeys(SPLITS, 0)

        def write(split: Split) -> None:
            text = "".join(pending[split])
            content = text.encode()
            outputs[split].append(model.encode(text))
            digests[split].update(content)
            sizes[split] += len(content)
            pending[split], waiting[split] = [], 0

        of_lines = self.tokenizer == "word"
        joint = "" if of_lines else self.separator or "\n\n"
        for split, text in self._documents(paths):
            text = text.removesuffix("\n") + "\n" if of_lines else text
            pending[split] += [joint] * bool(documents[split]) + [text]
            documents[split] += 1
            waiting[split] += len(text)
            if waiting[split] >= _BLOCK:
                write(split)
        for split in SPLITS:
            if pending[split]:
                write(split)
        joined = "\0".join(digests[split].hexdigest() for split in SPLITS)
        return Raw(
            {split: {"tokens": outputs[split].finished()} for split in SPLITS},
            source=f"text files {', '.join(self.files)}",
            details={
                "tokenizer": self.tokenizer,
                "vocabulary": model.vocabulary,
                "bytes": sizes,
                "documents": documents,
                "text_sha256": hashlib.sha256(joined.encode()).hexdigest(),
                "raw_sha256": raw_hashes(sorted(paths), root),
            },
            files=model.files,
        )

    def _documents(self, paths: Iterable[Path]) -> Iterator[tuple[Split, str]]:
        """Each document with its split, in the order of the files."""
        left = self.max_bytes
        for path in paths:
            for text in _parts(path, self.separator):
                if not text.strip():
                    continue
                if left is not None:
                    if left <= 0:
                        return
                    left -= len(text.encode())
                yield self._split(text), text

    def _split(self, text: str) -> Split:
        place = int.from_bytes(hashed(text, self.split_seed)[:8], "big") / 2**64
        if place < self.test_fraction:
            return "test"
        return "validation" if place < self.test_fraction + self.validation_fraction else "train"


def _parts(path: Path, separator: str | None) -> Iterator[str]:
    """The documents of a file, of which no more than one and a block are in memory; all of it where it is one.

    Raises:
        DataError: when the file is not UTF-8.
    """
    rest = ""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if not separator:
                rest = file.read()
            while block := file.read(_BLOCK):
                *whole, rest = (rest + block).split(separator)
                yield from whole
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error}); convert the file, for example with iconv") from error
    yield rest
