"""What is claimed about training with compressed exchange, as data: of images in accuracy, of text in perplexity."""

from lowbit.analysis.claim import Bound, Claim

_HGG = "github.com/wzx666-yf/HGG-topk, README.md"
_DGC = "arXiv 1712.01887: compression without loss of {}"
_QUALITY = {
    "accuracy": {
        "measure": "test_accuracy_percent",
        "words": "test accuracy, weights chosen on the validation split",
        "figure": "accuracy_by_density",
        "metric": "accuracy",
    },
    "perplexity": {
        "measure": "test_perplexity",
        "words": "test perplexity, weights chosen on the validation split",
        "figure": "accuracy_by_density",
        "metric": "perplexity",
    },
}
_REFERENCES = {
    "accuracy": "90 % of the baseline's best validation accuracy",
    "perplexity": "1.1 times the baseline's best validation perplexity",
}
_NAMES = {"topk": "Top-k", "hggtopk": "HGG-TopK"}
_DENSITIES = (0.01, 0.05, 0.1)
_OVERHEAD = {
    "source": f"{_HGG}, targets",
    "measure": "overhead_percent",
    "words": "time of compressing and decompressing, in percent of the step",
    "rule": "bound",
    "figure": "step_breakdown",
}


def _quality(metric: str, arm: str, density: float) -> Claim:
    unit, margin = ("1 point", 1.0) if metric == "accuracy" else ("1 %", 0.01)
    return Claim(
        key=f"{arm}_{metric}_at_{density:g}",
        text=f"{_NAMES[arm]} at density {density:g} keeps {metric} within {unit} of dense training",
        source=_DGC.format(metric) if arm == "topk" else f"{_HGG}: close to the accuracy without compression",
        rule="within",
        margin=margin,
        treatment=f"{arm}-density{density:g}",
        **_QUALITY[metric],
    )


def _kept(metric: str, density: float) -> Claim:
    texts = {
        "accuracy": ("the accuracy of dense training", "test accuracy in percent of the baseline's of the same seed"),
        "perplexity": (
            "dense training: its perplexity is no more than 1 / 0.95 of dense",
            "the baseline's test perplexity of the same seed in percent of its own",
        ),
    }
    what, words = texts[metric]
    return Claim(
        key=f"hggtopk_keeps_95_percent_at_{density:g}",
        text=f"HGG-TopK at density {density:g} keeps more than 95 % of {what}",
        source=f"{_HGG}, targets",
        measure="kept_percent",
        words=words,
        metric=metric,
        rule="bound",
        bound=Bound(low=95),
        treatment=f"hggtopk-density{density:g}",
        figure="accuracy_by_density",
    )


def _volume(density: float) -> Claim:
    return Claim(
        key=f"volume_at_{density:g}",
        text=f"At density {density:g} communication is {100 * density:g} % of dense training's",
        source=f"{_HGG}: density as the share that is communicated",
        measure="wire_percent",
        words="bytes that all ranks send, in percent of a float32 ring all-reduce of the same gradients",
        rule="bound",
        bound=Bound(high=100 * density),
        treatment=f"hggtopk-density{density:g}",
        figure="bytes_and_bandwidth",
    )


def _needs_residual(metric: str) -> Claim:
    return Claim(
        key="topk_needs_its_residual",
        text=f"Error feedback is what saves {metric}: top-k at density 0.01 loses without it",
        source="arXiv 1901.09847, 1809.07599",
        rule="more" if metric == "accuracy" else "less",
        treatment="topk-density0.01",
        baseline="topk2",
        **_QUALITY[metric],
    )


def _as_fast(metric: str, arm: str) -> Claim:
    return Claim(
        key=f"{arm}_as_fast_at_0.05",
        text=f"{_NAMES[arm]} at density 0.05 converges as fast as dense training",
        source=_DGC.format(metric) if arm == "topk" else f"{_HGG}: close to training without compression",
        measure="steps_to_reference",
        words=f"steps to {_REFERENCES[metric]}",
        metric=metric,
        rule="within",
        margin=0.05,
        treatment=f"{arm}-density0.05",
        figure="time_to_accuracy",
    )


def _sooner(metric: str, key: str, where: str, arm: str) -> Claim:
    return Claim(
        key=f"{arm.partition('-')[0]}_sooner{key and '_' + key}",
        text=f"{_NAMES[arm.partition('-')[0]]} at density 0.01 reaches the reference {metric} sooner {where}",
        source="the field's reason to compress, e.g. arXiv 1712.01887",
        measure=f"seconds_to_reference{key and '_' + key}",
        words=f"seconds of training to {_REFERENCES[metric]}",
        metric=metric,
        rule="less",
        treatment=arm,
        figure="time_to_accuracy",
    )


CLAIMS = (
    *(_quality(metric, arm, density) for metric in _QUALITY for arm in _NAMES for density in _DENSITIES),
    *(_kept(metric, density) for metric in _QUALITY for density in _DENSITIES),
    *(_needs_residual(metric) for metric in _QUALITY),
    *(_as_fast(metric, arm) for metric in _QUALITY for arm in _NAMES),
    *(_volume(density) for density in (0.01, 0.05)),
    Claim(
        key="hggtopk_overhead",
        text="HGG-TopK takes less than 5 % of a training step",
        bound=Bound(high=5),
        treatment="hggtopk-density0.05",
        **_OVERHEAD,
    ),
    Claim(
        key="topk_overhead",
        text="Top-k takes 10 to 15 % of a training step",
        bound=Bound(low=10, high=15),
        treatment="topk-density0.05",
        **_OVERHEAD,
    ),
    Claim(
        key="pipeline_halves_overhead",
        text="The pipeline saves more than half of what the exchange costs a step",
        source=f"{_HGG}, targets",
        measure="pipeline_saves_percent",
        words="exposed time, a step minus one that exchanges nothing: percent less than without a pipeline",
        rule="bound",
        bound=Bound(low=50),
        treatment="hggtopk-density0.05",
        figure="step_breakdown",
    ),
    *(_sooner(metric, "", "on this machine", "hggtopk-density0.01") for metric in _QUALITY),
    *(
        _sooner(metric, key, f"over {rate}", f"{arm}-density0.01")
        for metric in _QUALITY
        for arm in ("hggtopk", "topk")
        for key, rate in (("100mbit", "100 Mb/s"), ("1gbit", "1 Gb/s"), ("10gbit", "10 Gb/s"))
    ),
)
