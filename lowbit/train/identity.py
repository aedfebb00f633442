"""What the results of a run follow from, as digests: equal ones mean equal results."""

import hashlib
import json
from pathlib import Path
from typing import Any

from lowbit.data._base import sha256_of
from lowbit.spec import RunSpec


def identity_of(spec: RunSpec, data: dict[str, Any]) -> dict[str, str]:
    """Digests of all that the results follow from; with equal ones a half-done run is continued, a done one kept.

    Args:
        spec: of the run.
        data: manifest of the prepared dataset.
    """
    texts = {"spec": spec.to_json(), "data": json.dumps(data, sort_keys=True)}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    if spec.start_from:
        digests["start"] = sha256_of(Path(spec.start_from))
    return digests | {"code": spec.code_digest}


def finished(folder: Path, spec: RunSpec, data: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of a run that a folder has whole, if it would come out the same today.

    Args:
        folder: of the run.
        spec: of the run.
        data: manifest of the prepared dataset.
    """
    if not (folder / "manifest.json").exists() or (spec.start_from and not Path(spec.start_from).exists()):
        return None
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary if summary["identity"] == identity_of(spec, data) else None
