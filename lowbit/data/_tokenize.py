"""From the text of each split to token numbers: bytes, or a small byte-pair encoding learnt on the training split.

Both are lossless. With `bytes` a token is a UTF-8 byte. With `bpe` (GPT-2's byte-level form) nothing is unknown, since
every single byte is in the vocabulary.

**Reference**: R. Sennrich, B. Haddow and A. Birch, Neural Machine Translation of Rare Words with Subword Units, 2016
(arXiv:1508.07909).
"""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from lowbit.data._base import SPLITS, DataError, Raw, Split
from lowbit.data._documents import Document

_CHUNK = 1 << 16


def text_splits(
    documents: dict[Split, list[Document]],
    separator: str,
    tokenizer: Literal["bytes", "bpe"],
    vocabulary: int,
    source: str,
    details: dict[str, Any],
) -> Raw:
    """What a text dataset hands over.

    Args:
        documents: of each split.
        separator: stands between two documents of a split.
        tokenizer: see the module.
        vocabulary: tokens of `bpe`; fewer where the text has no more pairs to merge.
        source: as in `Raw`.
        details: further manifest entries.

    Raises:
        DataError: when a split has no text.
    """
    texts = {split: separator.join(d.text for d in documents[split]) for split in SPLITS}
    empty = [split for split in SPLITS if not texts[split].strip()]
    if empty:
        counts = ", ".join(f"{split} {len(documents[split])}" for split in SPLITS)
        raise DataError(f"no text in {empty}; documents: {counts}; give more documents or larger fractions")
    files = {}
    if tokenizer == "bytes":
        vocabulary, tokens = 256, {split: np.frombuffer(text.encode(), np.uint8) for split, text in texts.items()}
    else:
        model = _learnt(texts["train"], vocabulary)
        vocabulary = model.get_vocab_size()
        tokens = {split: _encoded(model, text) for split, text in texts.items()}
        files["tokenizer.json"] = model.to_str().encode()
    dtype = np.uint16 if vocabulary < 65536 else np.uint32
    return Raw(
        {split: {"tokens": tokens[split].astype(dtype)} for split in SPLITS},
        source=source,
        details={
            "tokenizer": tokenizer,
            "vocabulary": vocabulary,
            "bytes": {split: len(text.encode()) for split, text in texts.items()},
            "documents": {split: len(documents[split]) for split in SPLITS},
            "text_sha256": hashlib.sha256("\0".join(texts[split] for split in SPLITS).encode()).hexdigest(),
            **details,
        },
        files=files,
    )


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


def _learnt(text: str, vocabulary: int):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(_chunks(text), trainer)
    return model


def _encoded(model, text: str) -> np.ndarray:
    encodings = (encoding.ids for chunk in _chunks(text) for encoding in model.encode_batch([chunk]))
    return np.fromiter(itertools.chain.from_iterable(encodings), dtype=np.uint32)
