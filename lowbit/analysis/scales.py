"""What a spec implies before a single step: effective temperature and the analytic factor on the gradient.

softmax_b(z; T) = softmax_e(z / T_eff) with T_eff = T / ln(b), and d(-ln p_y)/dz = (p - y) / T_eff: base and
temperature are one knob, and the size of the gradient carries the factor 1 / T_eff whatever the network does.
"""

import math
from typing import Any

from lowbit.variant import LN2, number

_LOG_BASE = {"base_e": lambda s: 1.0, "base2": lambda s: LN2, "base_b": lambda s: math.log(s.get("base", 2.0))}


def effective_temperature(softmax: dict[str, Any]) -> float:
    """T / ln(b) of a softmax's settings; NaN for one that is not of the exponential family.

    Example:
        >>> effective_temperature({"name": "base2", "temperature": "ln2"})
        1.0
    """
    if softmax["name"] not in _LOG_BASE:
        return math.nan
    return number(softmax.get("temperature", 1.0)) / _LOG_BASE[softmax["name"]](softmax)


def gradient_factor(spec: dict[str, Any]) -> float:
    """The factor that the softmax of the loss and the loss scale put on every gradient, against base e at T = 1."""
    of_softmax = 1.0 / effective_temperature(spec["softmax"]) if spec["softmax_where"] != "attention" else 1.0
    return number(spec["loss"]["scale"]) * of_softmax


def scale_only(spec: dict[str, Any], baseline: dict[str, Any]) -> bool:
    """Whether the only difference between two specs of a task is the factor on the loss."""
    ignored = {"arm", "seed", "loss"}
    same = all(spec.get(key) == baseline.get(key) for key in (spec.keys() | baseline.keys()) - ignored)
    same_loss = {**spec["loss"], "scale": 0} == {**baseline["loss"], "scale": 0}
    return same and same_loss and number(spec["loss"]["scale"]) != number(baseline["loss"]["scale"])
