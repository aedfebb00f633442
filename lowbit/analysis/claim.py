"""A claim about arms of a study that trains: text, source, the measure that settles it, the rule it is held to."""

import math
from dataclasses import dataclass
from typing import Literal

from lowbit.analysis.design import Design


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A range that an estimate must lie in.

    Args:
        low: of the range.
        high: of the range.
    """

    low: float = -math.inf
    high: float = math.inf

    def words(self, unit: str) -> str:
        """In words."""
        if math.isinf(self.high):
            return f"at least {self.low:g} {unit}"
        return f"at most {self.high:g} {unit}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g} {unit}"

    @property
    def threshold(self) -> float:
        """Its first end that is finite."""
        return self.low if math.isfinite(self.low) else self.high


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim about an arm of a study.

    Args:
        key: last part of the verdict's id.
        text: the claim.
        source: who claims it, and where.
        measure: the measure of `comparisons.MEASURES` that settles it.
        words: the measure in words.
        rule: "less", "more": the treatment's measure is smaller, larger than the baseline's; "within": the two are
            practically equal; "bound": the treatment's own measure lies in a range, whatever the baseline's is.
        margin: practical equality in the measure's unit (for a log ratio, a fraction); 0 where any difference counts.
        figure: the figure that shows it.
        treatment: the arm that it is about; None for the study's treatment.
        baseline: the arm that it is compared with; None for the study's baseline.
        bound: the range.
        metric: of the tasks that it is asked of, "accuracy" or "perplexity"; None for all.
    """

    key: str
    text: str
    source: str
    measure: str
    words: str
    rule: Literal["less", "more", "within", "bound"]
    margin: float = 0.0
    figure: str
    treatment: str | None = None
    baseline: str | None = None
    bound: Bound = Bound()
    metric: Literal["accuracy", "perplexity"] | None = None

    def arms(self, design: Design) -> tuple[str, str]:
        """Treatment and baseline in a study; the treatment alone, twice, where it is held to a bound."""
        treatment = self.treatment or design.treatment
        return treatment, treatment if self.rule == "bound" else self.baseline or design.baseline
