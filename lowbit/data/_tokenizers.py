"""From text to token numbers: bytes, a byte-pair encoding learnt on the training split, words, or a tokenizer's file.

`bytes`, `bpe` and GPT-2's files are lossless: with `bytes` a token is a UTF-8 byte, and a byte-level encoding has every
single byte in its vocabulary. With `word` a token is what stands between blanks, and every line ends with <eos>, as
Penn Treebank and WikiText are read in the literature; a word that the vocabulary lacks is <unk>, so that perplexities
can be compared for one vocabulary only.

**Reference**: R. Sennrich, B. Haddow and A. Birch, Neural Machine Translation of Rare Words with Subword Units, 2016
(arXiv:1508.07909); T. Mikolov et al., Recurrent Neural Network Based Language Model, Interspeech 2010.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from lowbit.data._base import DataError

Name = Literal["bytes", "bpe", "word", "file"]
END_OF_LINE, UNKNOWN = "<eos>", "<unk>"
END_OF_TEXT = "<|endoftext|>"
_CHUNK = 1 << 16
_CHUNKS_AT_ONCE = 16
_BPE_VOCABULARY = 1024


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer that is ready.

    Args:
        encode: text -> unsigned token numbers.
        vocabulary: number of tokens.
        files: what to store beside the tokens: name -> bytes.
    """

    encode: Callable[[str], np.ndarray]
    vocabulary: int
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The smallest of uint16 and uint32 that holds every token."""
        return np.uint16 if self.vocabulary < 65536 else np.uint32


def tokenizer(name: Name, training: Iterable[str], vocabulary: int | None, path: Path | None = None) -> Tokenizer:
    """Make a tokenizer.

    Args:
        name: see the module.
        training: texts of the training split, read once by `bpe` and `word`.
        vocabulary: tokens of `bpe` (fewer where the text has no more pairs to merge), or of `word` (the most frequent;
            None keeps all).
        path: for `file`: a `tokenizer.json` of the library tokenizers, or a folder with GPT-2's `vocab.json` and
            `merges.txt`.

    Raises:
        DataError: when the file is missing or no tokenizer.
    """
    if name == "bytes":
        return Tokenizer(lambda text: np.frombuffer(text.encode(), np.uint8), 256)
    if name == "word":
        return _of_words(_words(training, vocabulary))
    model = _learnt(training, vocabulary or _BPE_VOCABULARY) if name == "bpe" else _read(path)
    files = {"tokenizer.json": model.to_str().encode()}
    return Tokenizer(lambda text: _encoded(model, text), model.get_vocab_size(), files)


def _words(training: Iterable[str], vocabulary: int | None) -> list[str]:
    """The words of a text, the most frequent first, with the ends of lines and what stands for the others."""
    counts: Counter[str] = Counter()
    for text in training:
        counts.update(_split(text))
    special = [END_OF_LINE, UNKNOWN]
    words = sorted(counts.keys() - set(special), key=lambda word: (-counts[word], word))
    return special + words[: None if vocabulary is None else vocabulary - len(special)]


def _split(text: str) -> Iterator[str]:
    for line in text.removesuffix("\n").split("\n"):
        yield from line.split()
        yield END_OF_LINE


def _of_words(words: list[str]) -> Tokenizer:
    numbers = {word: number for number, word in enumerate(words)}
    unknown = numbers[UNKNOWN]

    def encode(text: str) -> np.ndarray:
        return np.fromiter((numbers.get(word, unknown) for word in _split(text)), dtype=np.uint32)

    return Tokenizer(encode, len(words), {"words.json": json.dumps(words, ensure_ascii=False).encode()})


def _chunks(text: str) -> Iterator[str]:
    """The text in pieces that end before a blank: the library keeps many times the size of a piece in memory."""
    start = 0
    while start < len(text):
        end = min(start + _CHUNK, len(text))
        if end < len(text):
            blank = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = blank if blank > 0 else end
        yield text[start:end]
        start = end


def _learnt(training: Iterable[str], vocabulary: int):
    from tokenizers import Tokenizer, models, trainers

    model = _byte_level(Tokenizer(models.BPE()))
    alphabet = model.pre_tokenizer.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(itertools.chain.from_iterable(_chunks(text) for text in training), trainer)
    return model


def _byte_level(model):
    """GPT-2's way into and out of pairs of bytes."""
    from tokenizers import decoders, pre_tokenizers

    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    return model


def _read(path: Path | None):
    from tokenizers import Tokenizer, models

    if path is None:
        raise DataError("tokenizer: file needs tokenizer_file: a tokenizer.json, or a folder with GPT-2's two files")
    files = [path / "vocab.json", path / "merges.txt"] if path.is_dir() else [path]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise DataError(f"{' and '.join(missing)}: missing; put it there or mend tokenizer_file")
    try:
        if not path.is_dir():
            return Tokenizer.from_file(str(path))
        model = _byte_level(Tokenizer(models.BPE.from_file(*map(str, files))))
    except Exception as error:  # the library raises nothing more precise
        raise DataError(f"{path}: no tokenizer ({error}); give a tokenizer.json or GPT-2's two files") from error
    if END_OF_TEXT in model.get_vocab():
        model.add_special_tokens([END_OF_TEXT])
    return model


def _encoded(model, text: str) -> np.ndarray:
    chunks = _chunks(text)
    groups = iter(lambda: list(itertools.islice(chunks, _CHUNKS_AT_ONCE)), [])
    numbers = (encoding.ids for group in groups for encoding in model.encode_batch(group))
    return np.fromiter(itertools.chain.from_iterable(numbers), dtype=np.uint32)
