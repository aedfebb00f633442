"""Names of a run's numbers in dashboards: the same in TensorBoard and in Weights & Biases."""

from lowbit.train.events import Evaluated, Event, RunFinished, StepsFinished

TAGS = {
    "loss": "train/loss",
    "accuracy": "train/accuracy",
    "perplexity": "train/perplexity",
    "gradient_norm": "train/gradient_norm",
    "lr": "lr",
    "zero_fraction": "ternary/zero_fraction",
    "flip_rate": "ternary/flip_rate",
    "samples_per_second": "throughput/samples_per_second",
    "tokens_per_second": "throughput/tokens_per_second",
    "memory_bytes": "memory_bytes",
}


def scalars(event: Event) -> list[tuple[int, dict[str, float]]]:
    """(step, {tag: value}) of every step that an event reports on; empty for events without numbers."""
    match event:
        case StepsFinished(records=records):
            return [(r["step"], {tag: r[key] for key, tag in TAGS.items() if key in r}) for r in records]
        case Evaluated(record=record):
            values = {key: value for key, value in record.items() if key not in ("step", "epoch", "split")}
            return [(record["step"], {f"{record['split']}/{key}": value for key, value in values.items()})]
        case RunFinished(state=state, results=results):
            tested = {f"test/{weights}/{k}": v for weights, values in results.items() for k, v in values.items()}
            return [(state.step, tested)]
        case _:
            return []
