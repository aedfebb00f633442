"""What a hook is asked for: refused where it cannot be, or would not do what it promises."""

from collections.abc import Mapping, Sequence
from typing import Any

from lowbit import catalog
from lowbit.compressors import GradientCompressor
from lowbit.errors import SettingError
from lowbit.schemes import Scheme


def settings_of(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """A name with settings, where a name may stand alone."""
    return {"name": given} if isinstance(given, str) else dict(given)


def demand_possible(density: float, warmup: Sequence[float], warmup_steps: int, granularity: str) -> None:
    """Refuse numbers out of range and a warm-up without steps."""
    if not 0 < density <= 1 or not all(0 < d <= 1 for d in warmup):
        raise SettingError(f"density {density}, warm-up {tuple(warmup)}: must be in (0, 1], fractions that are sent")
    if bool(warmup) != (warmup_steps > 0):
        raise SettingError(f"{len(warmup)} stages of {warmup_steps} steps: a warm-up needs both, or neither")
    if granularity not in ("layer", "bucket"):
        raise SettingError(f"granularity {granularity!r}: {catalog.suggestion(granularity, ('layer', 'bucket'))}")


def demand_fitting(session: GradientCompressor, scheme: Scheme, workers: int) -> None:
    """Refuse a compressor that this scheme cannot send, or whose settings would have another effect than they promise.

    Args:
        session: the compressor of one rank.
        scheme: its way to the others.
        workers: ranks that compress.
    """
    if scheme.shared and not session.compressor.shares_indices:
        raise SettingError(
            f"scheme {type(scheme).__name__.lower()} needs the same indices on all ranks; use compressor randomk or "
            "randomkec, or another scheme"
        )
    if session.nonfinite != "raise":
        raise SettingError(
            f"nonfinite {session.nonfinite!r}: would leave other indices on this rank than on the others; leave it out "
            "and give a GradScaler as scaler=, with which all ranks skip the step"
        )
    if getattr(session.feedback, "warmup", ()):
        raise SettingError(
            "feedback.warmup: counts epochs, which the hook does not know; use warmup= and warmup_steps="
        )
    if getattr(session.feedback, "clip", 0) and session.feedback.workers != workers:
        raise SettingError(
            f"feedback.workers {session.feedback.workers}: the norm is shared among {workers} that compress; set it so"
        )
