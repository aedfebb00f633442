"""What is claimed, as data: text, source, the measure that settles it and the rule it is held to.

Verdicts are never written here; `lowbit.analysis.verdicts` computes them.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim about a study's treatment.

    Args:
        key: last part of the verdict's id.
        text: the claim.
        source: who claims it, and where.
        measure: the measure of `comparisons.MEASURES` that settles it.
        words: the measure in words.
        rule: "less": the treatment's measure is smaller than the baseline's; "within": the two are practically equal.
        margin: practical equality in the measure's unit (for a log ratio, a fraction).
        figure: the figure that shows it.
    """

    key: str
    text: str
    source: str
    measure: str
    words: str
    rule: Literal["less", "within"]
    margin: float
    figure: str


_GUIDE = "chaochao825/base2-softmax4training, EXPERIMENTS_GUIDE.md"
_WORDS = "test accuracy, weights chosen on the validation split"

CLAIMS: dict[str, tuple[Claim, ...]] = {
    "softmax": (
        Claim(
            key="smoother_gradients",
            text="Base-2 softmax gives smoother gradients",
            source=_GUIDE,
            measure="gradient_dispersion",
            words="spread of ln(gradient norm) about its running median",
            rule="less",
            margin=0.10,
            figure="gradient_norms",
        ),
        Claim(
            key="accuracy_within_1_point",
            text="Base-2 softmax keeps accuracy within 1 point",
            source=_GUIDE,
            measure="test_accuracy_percent",
            words=_WORDS,
            rule="within",
            margin=1.0,
            figure="final_comparison",
        ),
        Claim(
            key="accuracy_within_half_a_point",
            text="Base-2 softmax keeps accuracy within 0.5 points",
            source=f"{_GUIDE}; a stricter margin than its 1 point",
            measure="test_accuracy_percent",
            words=_WORDS,
            rule="within",
            margin=0.5,
            figure="final_comparison",
        ),
        Claim(
            key="faster_convergence",
            text="Base-2 softmax converges faster",
            source=_GUIDE,
            measure="steps_to_reference",
            words="steps to 90 % of the baseline's best validation accuracy",
            rule="less",
            margin=0.05,
            figure="accuracy_and_loss",
        ),
    )
}
"""Claims by study. Arms and tasks of your own have comparisons and controls without being named here."""

CONTROL_TEXT = "Arm {arm} reproduces arm {target}: every loss, gradient norm and final weight, to the last bit"
CONTROL_SOURCE = "identity: softmax_b(z; T) = softmax_e(z ln(b) / T)"
CONTROL_FIGURE = "effective_temperature"
