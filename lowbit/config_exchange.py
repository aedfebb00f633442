"""Which settings of an exchange of gradients could not change what a run does."""

from collections.abc import Iterator
from typing import Any

from lowbit.exchange_spec import Exchange

_NEEDS = {
    **dict.fromkeys(("compressor", "feedback", "density", "scheme", "granularity", "warmup"), "sparse"),
    **dict.fromkeys(("warmup_epochs", "ranks_per_node", "pipeline", "check_every_steps"), "sparse"),
    "matrix_rank": "powersgd",
}
_OF_COMPRESSION = ("feedback", "density", "scheme", "granularity", "warmup", "warmup_epochs")


def has_effect(key: str, method: str, compressor: str) -> bool:
    """Whether a setting of an exchange can change what a method does.

    Args:
        key: of the exchange.
        method: of the exchange.
        compressor: its name, where the method is sparse.
    """
    if _NEEDS.get(key, method) != method:
        return False
    return not (method == "sparse" and compressor == "none" and key in _OF_COMPRESSION)


def no_effect(exchange: Exchange | None, given: dict[str, Any] | None) -> Iterator[str]:
    """Settings of an arm's exchange that have no effect.

    Args:
        exchange: of the arm, resolved.
        given: as the arm has it.

    Yields:
        `path: why`, relative to the arm.
    """
    if exchange is None or not given:
        return
    for key, method in _NEEDS.items():
        if key in given and exchange.method != method:
            yield f"exchange.{key}: has no effect with method {exchange.method}; it needs method: {method}"
    if exchange.method == "sparse" and exchange.compressor.name == "none":
        for key in _OF_COMPRESSION:
            if key in given:
                yield f"exchange.{key}: has no effect with compressor none, which sends everything; remove it"
