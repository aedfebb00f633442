"""Files of one JSON object a line that a resumed run continues."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO


def reopen(path: Path, keep: Callable[[dict[str, Any]], bool]) -> TextIO:
    """Open a file for appending, cut off before the first line that is torn or that `keep` refuses.

    Lines are written through to the system one by one: a killed process loses none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        stream.seek(0)
        end = 0
        for line in stream:
            if not (line.endswith(b"\n") and keep(json.loads(line))):
                break
            end += len(line)
        stream.truncate(end)
    return path.open("a", buffering=1, encoding="utf-8")
