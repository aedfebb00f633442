"""The ten names that the field's code gives to compressors, as pairs of a compressor and a feedback."""

from typing import Any

HISTORICAL: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"name": "none"}, "none"),
    "topk": ({"name": "topk"}, "residual"),
    "topk2": ({"name": "topk"}, "none"),
    "gaussian": ({"name": "gaussian"}, "residual"),
    "gaussian2": ({"name": "gaussian", "adjustments": 5}, "none"),
    "randomk": ({"name": "randomk"}, "none"),
    "randomkec": ({"name": "randomk"}, "residual"),
    "dgcsampling": ({"name": "dgcsampling"}, "residual"),
    "redsync": ({"name": "redsync"}, "residual"),
    "hggtopk": ({"name": "hggtopk"}, "residual"),
}
"""Name -> a compressor and the name of a feedback."""


def as_variants(exchange: dict[str, Any]) -> dict[str, Any]:
    """Settings of an exchange whose compressor may have one of these names, in terms of variants.

    Example:
        >>> as_variants({"compressor": {"name": "topk2"}, "density": 0.1})
        {'compressor': {'name': 'topk'}, 'density': 0.1, 'feedback': {'name': 'none'}}
    """
    given = exchange.get("compressor", {})
    name = given.get("name", "hggtopk")
    settings, rule = HISTORICAL.get(name, ({"name": name}, "residual"))
    feedback = {"name": rule, **exchange.get("feedback", {})}
    compressor = {**settings, **given, "name": settings["name"]}
    return {**exchange, "compressor": compressor, "feedback": feedback}
