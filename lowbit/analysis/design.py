"""What a study meant to run: its tasks, arms and seeds, and which arm plays which part."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowbit.errors import UserError

FURTHER = {
    "exchange": ("links", "exposed", "volumes"),
    "estimator": ("layers", "descents", "surrogates"),
    "network": ("fits", "assumptions"),
    "compressor": ("costs", "steps", "slopes", "benchmark", "matrix", "audit", "modes"),
}
"""Tables of a study beside those that every study has."""

_KEYS = ("study", "baseline", "treatment", "controls", "runs")


@dataclass(frozen=True, kw_only=True)
class Design:
    """One study as its analysis sees it.

    Args:
        study: name of the study, and of its folder below the results.
        baseline: arm that the others are compared with.
        treatment: arm whose claimed effect is under test.
        controls: arm -> arm whose runs it must reproduce bit for bit.
        runs: task -> arm -> seeds, in the order of the configuration.
    """

    study: str
    baseline: str
    treatment: str
    controls: dict[str, str]
    runs: dict[str, dict[str, tuple[int, ...]]]

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm of any task, in the order in which the tasks name them."""
        return tuple(dict.fromkeys(arm for arms in self.runs.values() for arm in arms))

    def role(self, arm: str) -> str:
        """The part an arm plays: baseline, treatment, control or plain arm."""
        if arm in (self.baseline, self.treatment):
            return "baseline" if arm == self.baseline else "treatment"
        return "control" if arm in self.controls else "arm"

    def folder(self, results: Path, task: str, arm: str, seed: int) -> Path:
        """The folder of one run."""
        return results / self.study / task / arm / f"seed{seed}"


def parse(text: str) -> Design:
    """Read a design from JSON text, or from the JSON file that the text names.

    Raises:
        UserError: when it is not JSON, a key is missing, or a part is given to an arm that no task has.
    """
    content = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
    try:
        given: dict[str, Any] = json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(f"design: not valid JSON ({error}); pass an object with the keys {', '.join(_KEYS)}") from None
    missing = [key for key in _KEYS if key not in given]
    if missing:
        raise UserError(f"design: {', '.join(missing)} missing; it must have {', '.join(_KEYS)}")
    runs = {task: {arm: tuple(seeds) for arm, seeds in arms.items()} for task, arms in given["runs"].items()}
    design = Design(runs=runs, **{key: given[key] for key in _KEYS if key != "runs"})
    named = {"baseline": design.baseline, "treatment": design.treatment}
    named |= {f"controls.{control}": target for control, target in design.controls.items()}
    for place, arm in [*named.items(), *((f"controls ({c})", c) for c in design.controls)]:
        if arm not in design.arms:
            raise UserError(f"design: {place}: no arm {arm!r} in runs; it must be one of {', '.join(design.arms)}")
    return design
