"""A run that is made of pieces: what an interrupted run has measured is kept, and all is published at the end.

<folder>/    events.jsonl, spec.json, summary.json, manifest.json; work/<piece>.json until then
"""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lowbit import manifest
from lowbit.atomic import write_text

Record = dict[str, Any]
Pieces = Mapping[str, Callable[[], Iterable[Record]]]


def measured(
    pieces: Pieces, folder: Path, identity: Record, progress: Callable[[Iterable], Iterable] = iter
) -> list[Record]:
    """The records of all pieces, in order; each is measured unless it is kept.

    Args:
        pieces: name -> measures it.
        folder: of the run.
        identity: what the records follow from; pieces that were kept under another one are measured again.
        progress: wraps the pieces (a progress bar).
    """
    work = folder / manifest.SCRATCH
    work.mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    for name, measure in progress(list(pieces.items())):
        done = work / f"{name}.json"
        kept = json.loads(done.read_text(encoding="utf-8")) if done.exists() else {}
        if kept.get("identity") != identity:
            kept = {"identity": identity, "lines": [_known(record) for record in measure()]}
            write_text(done, json.dumps(kept, allow_nan=False) + "\n")
        records += kept["lines"]
    return records


def publish(folder: Path, records: Iterable[Record], spec: str, summary: Record) -> None:
    """Write the run folder; a forced rerun measures anew.

    Args:
        folder: of the run.
        records: lines of events.jsonl.
        spec: text of spec.json.
        summary: content of summary.json.
    """
    write_text(folder / "events.jsonl", "".join(json.dumps(r, allow_nan=False) + "\n" for r in records))
    write_text(folder / "spec.json", spec)
    write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
    manifest.write(folder)
    shutil.rmtree(folder / manifest.SCRATCH)


def _known(content: Any) -> Any:
    """The content with null for numbers that are not."""
    if isinstance(content, dict):
        return {key: _known(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_known(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
