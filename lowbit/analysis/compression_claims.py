"""What is claimed about compressors of gradients, as data: of which arm, where, and the bound it is held to."""

import math
from dataclasses import dataclass
from typing import Literal

from lowbit.analysis.claim import Bound


@dataclass(frozen=True, kw_only=True)
class CompressorClaim:
    """One claim.

    Args:
        key: last part of the verdict's id.
        text: the claim.
        source: who claims it, and where.
        of: what settles it: "speed", how many times faster than torch.topk; "step", percent of a training step;
            "slope", of log time against log N, minus that of the claimed number of operations; or "selections".
        arm: of the study.
        bound: of the estimate.
        device: that it speaks of; "" where it does not matter.
        sizes: smallest and largest N of the cases.
        band: range that the claim names, where the bound is its lower end alone.
        work: for slopes, the column with the slope of the claimed number of operations, or "" for N.
        measure: for selections, a column of the comparisons.
        figure: the figure that shows it.
    """

    key: str
    text: str
    source: str
    of: Literal["speed", "step", "slope", "selections"]
    arm: str
    bound: Bound
    figure: str
    device: str = ""
    sizes: tuple[float, float] = (0, math.inf)
    band: tuple[float, float] | None = None
    work: str = ""
    measure: str = ""


_HGG = "github.com/wzx666-yf/HGG-topk"
_BANDS = {
    "10k": ("2 to 3 times faster than top-k at 10,000 entries", (10_000, 10_000), (2, 3)),
    "100k": ("4 to 5 times faster than top-k at 100,000 entries", (100_000, 100_000), (4, 5)),
    "1m": ("6 to 10 times faster than top-k from a million entries on", (1_000_000, math.inf), (6, 10)),
}
_INEXACT = " in eager operations (this package's, exact=False)"
DEVICES = ("cpu", "cuda")


def _speed(device: str, arm: str, words: str) -> tuple[CompressorClaim, ...]:
    return tuple(
        CompressorClaim(
            key=f"{arm}_speed_{key}",
            text=f"HGG-TopK{words} is {text}",
            source=f"{_HGG}, UPDATES.md and COMPRESSION_UPDATE.md",
            of="speed",
            arm=arm,
            bound=Bound(low=band[0]),
            band=band,
            sizes=sizes,
            device=device,
            figure="speedup",
        )
        for key, (text, sizes, band) in _BANDS.items()
    )


def _step(device: str) -> tuple[CompressorClaim, ...]:
    common = {"source": f"{_HGG}, targets", "of": "step", "device": device, "figure": "time_by_size"}
    below, between = Bound(high=5), Bound(low=10, high=15)
    return (
        CompressorClaim(key="hggtopk_step", text="HGG-TopK takes less than 5 % of a training step", arm="hggtopk",
                        bound=below, **common),
        CompressorClaim(key="topk_step", text="Top-k takes 10 to 15 % of a training step", arm="topk",
                        bound=between, **common),
    )  # fmt: skip


def _slopes(device: str) -> tuple[CompressorClaim, ...]:
    table = {
        "topk": ("Top-k takes O(N log k)", "slope_n_log_k", f"{_HGG}, COMPRESSION_UPDATE.md"),
        "hggtopk": ("HGG-TopK takes O(N)", "", f"{_HGG}, COMPRESSION_UPDATE.md"),
        "gaussian": ("Gaussian-k takes O(N)", "", "arXiv 1911.08772"),
        "redsync": ("RedSync's search takes O(N)", "", "arXiv 1808.04357"),
        "dgcsampling": ("Sampling a threshold takes O(N)", "", "arXiv 1712.01887"),
    }
    return tuple(
        CompressorClaim(
            key=f"{arm}_complexity",
            text=text,
            source=source,
            of="slope",
            arm=arm,
            bound=Bound(high=0.1),
            work=work,
            sizes=(100_000, math.inf),
            device=device,
            figure="time_by_size",
        )
        for arm, (text, work, source) in table.items()
    )


def _accuracy(arm: str, words: str) -> CompressorClaim:
    return CompressorClaim(
        key=f"{arm}_accuracy",
        text=f"HGG-TopK{words} finds the threshold with more than 99 % accuracy",
        source=f"{_HGG}, README.md and COMPRESSION_UPDATE.md",
        of="selections",
        arm=arm,
        measure="accuracy_percent",
        bound=Bound(low=99),
        figure="along_the_trace",
    )


def _window(arm: str, text: str, source: str, window: str) -> CompressorClaim:
    return CompressorClaim(
        key=f"{arm}_window", text=text, source=source, of="selections", arm=arm, measure=f"percent_{window}",
        bound=Bound(low=90), figure="along_the_trace",
    )  # fmt: skip


_GAUSSIAN = ("arXiv 1911.08772, accepted counts", "two_thirds_to_four_thirds")
_REDSYNC = ("arXiv 1808.04357, accepted counts", "k_to_two_k")
_SAMPLED = ("arXiv 1712.01887", "two_thirds_to_four_thirds")

CLAIMS = (
    *(claim for device in DEVICES for claim in _speed(device, "hggtopk", "")),
    *_speed("cpu", "hggtopk_inexact", _INEXACT),
    *(claim for device in DEVICES for claim in (*_step(device), *_slopes(device))),
    _accuracy("hggtopk", ", exact by construction,"),
    _accuracy("hggtopk_inexact", _INEXACT),
    _window("gaussian_reference", "Gaussian-k's threshold, as published, selects 2k/3 to 4k/3 entries", *_GAUSSIAN),
    _window("gaussian", "Gaussian-k's threshold, searched by halving, selects 2k/3 to 4k/3 entries", *_GAUSSIAN),
    _window("redsync_reference", "RedSync's threshold, as in the field's code, selects k to 2k entries", *_REDSYNC),
    _window("redsync", "RedSync's threshold, as described, selects k to 2k entries", *_REDSYNC),
    _window("dgcsampling_reference", "A sampled threshold, as in the field's code, selects 2k/3 to 4k/3", *_SAMPLED),
    _window("dgcsampling", "A sampled threshold, as described, selects 2k/3 to 4k/3 entries", *_SAMPLED),
)
