"""What is claimed, as data: text, source, the measure that settles it and the rule it is held to.

Verdicts are never written here; `lowbit.analysis.verdicts` computes them.
"""

from lowbit.analysis import exchange_claims
from lowbit.analysis.claim import Claim

_GUIDE = "chaochao825/base2-softmax4training, EXPERIMENTS_GUIDE.md"
_WORDS = "test accuracy, weights chosen on the validation split"
_TO_DO = "research note of 2021-06-16, to-do: CIFAR-10/100 with mixup, pretraining > training from scratch"
_LARGER_ACCURACY = {
    "source": _TO_DO,
    "measure": "test_accuracy_percent",
    "words": _WORDS,
    "rule": "more",
    "margin": 0.0,
    "figure": "pretraining_and_mixup",
}

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
    ),
    "transfer": (
        Claim(
            key="pretraining_helps",
            text="Pretraining beats training from scratch",
            treatment="pretrained",
            baseline="scratch",
            **_LARGER_ACCURACY,
        ),
        Claim(
            key="pretraining_helps_with_mixup",
            text="Pretraining beats training from scratch, both with mixup in low-bit training",
            treatment="pretrained_mixup",
            baseline="scratch_mixup",
            **_LARGER_ACCURACY,
        ),
        Claim(
            key="mixup_helps",
            text="Mixup helps training from scratch",
            treatment="scratch_mixup",
            baseline="scratch",
            **_LARGER_ACCURACY,
        ),
        Claim(
            key="mixup_helps_after_pretraining",
            text="Mixup helps fine-tuning",
            treatment="pretrained_mixup",
            baseline="pretrained",
            **_LARGER_ACCURACY,
        ),
    ),
    "exchange": exchange_claims.CLAIMS,
}
"""Claims by study. Arms and tasks of your own have comparisons and controls without being named here."""

CONTROL_TEXT = "Arm {arm} reproduces arm {target}: every loss, gradient norm and final weight, to the last bit"
CONTROLS = {
    "softmax": ("identity: softmax_b(z; T) = softmax_e(z ln(b) / T)", "effective_temperature"),
    "exchange": ("identity: the same entries are added in the same order", "accuracy_by_density"),
}
"""Why arms are equal on paper, and the figure that shows them, by study."""
