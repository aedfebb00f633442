"""Checksums that stand beside the files they vouch for: `manifest.json` of a run folder or of a prepared dataset.

Snakemake judges a file by its time alone: an output cut short under the same time goes unnoticed. A manifest is written
last in a folder, and `verify` compares every file with it later.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lowbit.atomic import is_partial, remove_partial, write_text

NAME = "manifest.json"
SCRATCH = "work"


@dataclass(frozen=True)
class Fault:
    """One file that is not as its manifest says.

    Args:
        path: the file, or the manifest itself when that cannot be used.
        kind: what is wrong; "unlisted" is a file of a run folder that the manifest does not know.
        detail: what was found and what was expected; may be empty.
    """

    path: Path
    kind: Literal["missing", "altered", "unlisted", "unreadable"]
    detail: str = ""


@dataclass
class Report:
    """What `verify` found.

    Args:
        folders: manifests read.
        files: files they vouch for.
        faults: in the order of the paths.
        faulty: the manifests of the folders with a fault.
    """

    folders: int = 0
    files: int = 0
    faults: list[Fault] = field(default_factory=list)
    faulty: list[Path] = field(default_factory=list)


def write(folder: Path) -> None:
    """Write the manifest of a run folder over all its files but the scratch folder `work/`.

    What killed writers left behind is removed first, so call this as the last writer of the folder.
    """
    remove_partial(folder)
    files = {name: _entry(folder / name) for name in _names(folder)}
    write_text(folder / NAME, json.dumps({"files": files}, indent=1) + "\n")


def verify(root: Path, progress: Callable[[Iterable[Path]], Iterable[Path]] = iter) -> Report:
    """Compare the files under a folder with every manifest below it.

    Args:
        root: a results folder, or any folder in it.
        progress: wraps the manifests while they are gone through (a progress bar).
    """
    report = Report()
    for path in progress(sorted(root.rglob(NAME))):
        report.folders += 1
        if faults := list(_check(path, report)):
            report.faults += faults
            report.faulty.append(path)
    return report


def _check(path: Path, report: Report) -> Iterator[Fault]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        expected = dict(_expected(manifest))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield Fault(path, "unreadable", f"not a manifest: {error!r}")
        return
    report.files += len(expected)
    for name, entry in sorted(expected.items()):
        yield from _compare(path.parent / name, entry)
    if "splits" not in manifest:
        for name in _names(path.parent):
            if name not in expected:
                left_behind = is_partial(path.parent / name)
                yield Fault(path.parent / name, "unlisted", "left by a writer that was killed" if left_behind else "")


def _expected(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, what is known of the content) of all that a manifest vouches for, in either of the two layouts.

    A prepared dataset (`lowbit/data/_base.py`) has `splits` of arrays, and plain sums of its further files.
    """
    if "splits" not in manifest:
        yield from ((name, {"sha256": e["sha256"], "bytes": e["bytes"]}) for name, e in manifest["files"].items())
        return
    for arrays in manifest["splits"].values():
        yield from ((entry["file"], {"sha256": entry["sha256"]}) for entry in arrays.values())
    yield from ((name, {"sha256": sha256}) for name, sha256 in manifest.get("files", {}).items())


def _compare(path: Path, expected: dict[str, Any]) -> Iterator[Fault]:
    if not path.is_file():
        yield Fault(path, "missing")
        return
    try:
        found = path.stat().st_size
        if found != expected.get("bytes", found):
            yield Fault(path, "altered", f"{found} bytes instead of {expected['bytes']}")
        elif (digest := _sha256_of(path)) != expected["sha256"]:
            yield Fault(path, "altered", f"sha256 {digest[:12]} instead of {expected['sha256'][:12]}")
    except OSError as error:
        yield Fault(path, "unreadable", str(error))


def _names(folder: Path) -> list[str]:
    """Relative names of the files of a run folder, sorted; neither its manifest nor its scratch folder."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(p.as_posix() for p in paths if p.parts[0] != SCRATCH and p.as_posix() != NAME)


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": _sha256_of(path), "bytes": path.stat().st_size}


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
