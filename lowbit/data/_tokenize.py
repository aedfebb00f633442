"""From the text of each split, all of it in memory, to what a dataset hands over."""

import hashlib
from pathlib import Path
from typing import Any

from lowbit.data._base import SPLITS, DataError, Raw, Split
from lowbit.data._documents import Document
from lowbit.data._tokenizers import Name, tokenizer


def text_splits(
    documents: dict[Split, list[Document]],
    separator: str,
    name: Name,
    vocabulary: int | None,
    source: str,
    details: dict[str, Any],
    path: Path | None = None,
) -> Raw:
    """What a text dataset hands over.

    Args:
        documents: of each split.
        separator: stands between two documents of a split.
        name: of the tokenizer.
        vocabulary: of the tokenizer, where it is learnt.
        source: as in `Raw`.
        details: further manifest entries.
        path: of a tokenizer's own file.

    Raises:
        DataError: when a split has no text, or a tokenizer's file cannot be read.
    """
    texts = {split: separator.join(d.text for d in documents[split]) for split in SPLITS}
    empty = [split for split in SPLITS if not texts[split].strip()]
    if empty:
        counts = ", ".join(f"{split} {len(documents[split])}" for split in SPLITS)
        raise DataError(f"no text in {empty}; documents: {counts}; give more documents or larger fractions")
    model = tokenizer(name, [texts["train"]], vocabulary, path)
    return Raw(
        {split: {"tokens": model.encode(texts[split]).astype(model.dtype)} for split in SPLITS},
        source=source,
        details={
            "tokenizer": name,
            "vocabulary": model.vocabulary,
            "bytes": {split: len(text.encode()) for split, text in texts.items()},
            "documents": {split: len(documents[split]) for split in SPLITS},
            "text_sha256": hashlib.sha256("\0".join(texts[split] for split in SPLITS).encode()).hexdigest(),
            **details,
        },
        files=model.files,
    )
