"""A progress bar over optimizer steps, for a person who watches."""

from typing import TYPE_CHECKING

from tqdm import tqdm

from lowbit.train.events import Evaluated, Event, RunStarted, StepsFinished
from lowbit.train.listeners._base import Listener

if TYPE_CHECKING:
    from lowbit.spec import RunSpec


class Progress(Listener):
    """Shows steps, loss, accuracy or perplexity, and throughput on stderr; silent when that is not a terminal.

    Args:
        spec: of the run; its path is the bar's title.
    """

    def __init__(self, spec: "RunSpec"):
        self._title = spec.path
        self._shown: dict[str, str] = {}
        self._bar: tqdm | None = None

    def handle(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._metric, self._unit = event.metric, event.unit
                self._bar = tqdm(
                    total=event.steps,
                    initial=event.first_step,
                    desc=self._title,
                    unit="step",
                    dynamic_ncols=True,
                    disable=None,  # silent unless stderr is a terminal
                )
            case StepsFinished(records=records):
                last = records[-1]
                self._show("loss", last["loss"])
                self._show(self._metric, last[self._metric])
                if (rate := last.get(f"{self._unit}_per_second")) is not None:
                    self._shown[f"{self._unit}/s"] = f"{rate:.0f}"
                self._bar.set_postfix(self._shown, refresh=False)
                self._bar.update(len(records))
            case Evaluated(record=record):
                self._show(f"validation {self._metric}", record[self._metric])
                self._bar.set_postfix(self._shown)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, name: str, value: float) -> None:
        self._shown[name] = f"{value:.4g}"
