"""Documentation text that CPython ships: the topics of `help()` and the docstrings of the standard library.

Real English technical prose with code, about 2 MB, on every machine that runs this program. It differs between Python
versions, so the manifest holds the hash of the text and the version. A document is one topic or all docstrings of one
module; documents share many paragraphs (topics contain one another, modules copy docstrings), and a paragraph that was
seen before is dropped, so that none is in two splits.
"""

import ast
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lowbit.data._base import DataError, Raw, TextDataset
from lowbit.data._documents import Document, cut, divided, hashed, without_repeats
from lowbit.data._tokenize import text_splits
from lowbit.variant import Count, NonNegativeInt, OpenFraction, variant

_NOT_THE_LIBRARY = {"idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data", "antigravity", "this"}
_LARGEST_SHARE = 20


@variant
class StdlibText(TextDataset):
    """Documentation text that CPython ships; needs no download.

    Args:
        tokenizer: bytes, or bpe: a byte-pair encoding learnt on the training split.
        vocabulary: tokens of bpe; bytes always has 256.
        max_bytes: stop gathering documents at this size, and cut a document at a twentieth of it; null takes all.
        validation_fraction: share of the text for model selection.
        test_fraction: share of the text that is read once, at the end of a run.
        split_seed: of the fixed split by document; not the seed of a run.
    """

    tokenizer: Literal["bytes", "bpe"] = "bytes"
    vocabulary: Annotated[int, Field(ge=257)] = 1024
    max_bytes: Count | None = None
    validation_fraction: OpenFraction = 0.1
    test_fraction: OpenFraction = 0.1
    split_seed: NonNegativeInt = 0

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        readers = _documents()
        order = sorted(readers, key=lambda name: hashed(name, self.split_seed))
        fresh = without_repeats(Document(name, _cleaned(readers[name]())) for name in order)
        documents = sorted(self._gathered(fresh), key=lambda d: d.key)
        splits = divided(documents, self.validation_fraction, self.test_fraction, self.split_seed)
        details = {"python": platform.python_version()}
        source = "pydoc_data.topics and docstrings of the standard library"
        return text_splits(splits, "\n\n", self.tokenizer, self.vocabulary, source, details)

    def _gathered(self, documents: Iterator[Document]) -> Iterator[Document]:
        size = 0
        for document in documents:
            if self.max_bytes is not None:
                document = cut(document, self.max_bytes // _LARGEST_SHARE, at="\n\n")
                if size + document.bytes > self.max_bytes:
                    return
            size += document.bytes
            yield document


def _documents() -> dict[str, Callable[[], str]]:
    """Name -> how to read it; reading takes seconds for all, and a small dataset needs few."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(f"pydoc_data.topics: {error}; install the complete standard library of Python") from error
    readers: dict[str, Callable[[], str]] = {f"topic {name}": partial(topics.get, name) for name in topics}
    library = Path(sysconfig.get_path("stdlib"))
    for top in sorted(sys.stdlib_module_names - _NOT_THE_LIBRARY):
        for path in (library / f"{top}.py", *(library / top).rglob("*.py")):
            parts = path.relative_to(library).parts
            if path.is_file() and not {"test", "tests"} & set(parts):
                readers["module " + "/".join(parts)] = partial(_docstrings, path)
    if len(readers) == len(topics):
        raise DataError(f"{library}: no source files of the standard library; use a Python that has them")
    return readers


def _docstrings(path: Path) -> str:
    with warnings.catch_warnings():
        # Old modules have escapes that today's parser warns of.
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes())
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = sorted((n for n in ast.walk(tree) if isinstance(n, documented)), key=lambda n: getattr(n, "lineno", 0))
    return "\n\n".join(filter(None, map(ast.get_docstring, nodes)))


def _cleaned(text: str) -> str:
    """Without tabs, blanks at line ends, lines of mere punctuation (underlines) and runs of empty lines."""
    lines = (line.expandtabs(8).rstrip() for line in text.splitlines())
    kept = (line for line in lines if not line or re.search(r"\w", line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")
