"""Base and temperature are one knob: arms that are mathematically equal train alike, to the last bit.

And the theorem behind every "base-2 effect": with learning rate, weight decay and initial logit scale matched, base 2
retraces base e, in full precision and with ternary layers.
"""

import dataclasses
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "contracts"))
from checks.arms import THEOREM, Matched, check_same_run, difference, train_attention_net, train_gpt
from checks.layers import rules

from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.softmaxes.base2 import Base2
from lowbit.softmaxes.base_b import BaseB
from lowbit.softmaxes.base_e import BaseE

TERNARY = rules(TernaryAbsmean(), Int8Absmax())
SAME = [
    (Base2(), BaseE(temperature="1/ln2"), BaseB(base=2.0)),
    (BaseE(), Base2(temperature="ln2"), BaseB(base=2.0, temperature="ln2"), BaseB(base=math.e)),
    (Base2(temperature="1/ln2"), BaseB(base=2.0, temperature="1/ln2")),
    (Base2(temperature=0.7), BaseB(base=2.0, temperature=0.7)),
]
QUANTIZERS = {
    "fp": (NoQuantizer(), NoQuantizer()),
    "W1.58A32": (TernaryAbsmean(), NoQuantizer()),
    "W1.58A8": (TernaryAbsmean(granularity="channel"), Int8Absmax()),
}
with_optimizers = pytest.mark.parametrize("optimizer", THEOREM)
with_quantizers = pytest.mark.parametrize("quantizers", QUANTIZERS.values(), ids=QUANTIZERS)


@pytest.mark.parametrize("arms", SAME, ids=lambda arms: f"s={arms[0].scale:.4f}")
def test_equal_arms_share_one_float(arms):
    assert len({arm.scale for arm in arms}) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("arms", SAME[:2], ids=["base2", "standard"])
def test_equal_arms_are_bit_identical_runs(arms, dtype):
    first, *others = (train_gpt(arm, TERNARY, dtype) for arm in arms)
    assert len(first[0]) >= 50
    assert first[0][-1] < first[0][0]
    for other in others:
        check_same_run(first, other)


def test_base2_is_not_base_e():
    standard, base2 = (train_gpt(softmax, TERNARY, torch.float64)[0] for softmax in (BaseE(), Base2()))
    assert max(abs(a - b) for a, b in zip(standard, base2, strict=True)) > 1e-2


@with_optimizers
@with_quantizers
def test_matched_base2_retraces_base_e(optimizer, quantizers):
    standard = train_attention_net(BaseE(), optimizer, *quantizers)
    matched = train_attention_net(Base2(), optimizer, *quantizers, THEOREM[optimizer])
    assert len(standard) >= 50
    assert standard[-1] < 0.95 * standard[0], "a run that learns nothing proves nothing"
    assert difference(standard, matched) <= 1e-12
    assert difference(standard, train_attention_net(Base2(), optimizer, *quantizers)) > 1e-3


@pytest.mark.parametrize(
    ("optimizer", "left_out"),
    [
        (o, factor)
        for o in THEOREM
        for factor in ("weights", "lr", "weight_decay", "eps")
        if (o, factor) != ("sgd", "eps")
    ],
)
def test_every_factor_of_the_theorem_is_needed(optimizer, left_out):
    without = dataclasses.replace(THEOREM[optimizer], **{left_out: getattr(Matched(), left_out)})
    standard = train_attention_net(BaseE(), optimizer, *QUANTIZERS["fp"])
    assert difference(standard, train_attention_net(Base2(), optimizer, *QUANTIZERS["fp"], without)) > 1e-10
