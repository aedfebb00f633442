"""Weights & Biases: on the user's account when logged in, else offline in a folder that `wandb sync` can upload."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowbit.errors import MissingExtraError
from lowbit.train.events import Event, RunFinished, RunStarted
from lowbit.train.listeners._base import Listener
from lowbit.train.listeners._scalars import scalars

if TYPE_CHECKING:
    from lowbit.spec import RunSpec


class WeightsAndBiases(Listener):
    """Logs the run's numbers to the project `lowbit`, under an identity that a resumed run finds again.

    A resumed run online continues the old one. Offline, each attempt is a folder of its own with the same identity;
    `wandb sync` uploads them in order. The mode is W&B's own choice when WANDB_MODE is set or the user is logged in,
    and offline otherwise. Nothing waits for the network without a limit.

    Args:
        folder: in which W&B makes its folder `wandb`.
        spec: of the run; becomes the run's name and configuration.

    Raises:
        MissingExtraError: when the extra is not installed.
    """

    def __init__(self, folder: Path, spec: "RunSpec"):
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError(
                "record.wandb: wandb is not installed; pip install 'lowbit[wandb]' or turn it off"
            ) from error
        self._wandb = wandb
        self._folder = folder
        self._spec = spec
        self._run: wandb.Run | None = None
        self._finished = False

    def handle(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._run = self._start()
        for step, values in scalars(event):
            self._run.log(values, step=step)
        if isinstance(event, RunFinished):
            self._finished = True

    def close(self) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if self._finished else 1)
            if self._wandb.run is None:  # its service serves no run of the caller: wait until it has written and ended
                self._wandb.teardown()
            for link in self._folder.rglob("debug-core.log"):  # leads to a log outside, which may vanish
                link.unlink()

    def _start(self) -> Any:
        config = self._spec.model_dump(mode="json")
        settings = self._wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            symlink=False,
            x_disable_stats=True,  # its sampling competes with the run for the processor; GpuSampler records the GPU
            login_timeout=30,
            init_timeout=30,
            finish_timeout=60,
        )
        self._wandb.setup(settings=settings)
        chosen = "WANDB_MODE" in os.environ or self._wandb.login(prompt=False, verify=False)
        return self._wandb.init(
            project="lowbit",
            name=self._spec.path,
            id=_identity(self._spec.path, config),
            config=config,
            dir=str(self._folder),
            mode=None if chosen else "offline",
            resume="allow",
            reinit="create_new",  # leaves a run alone that the caller's own code has open
            settings=settings,
        )


def _identity(path: str, config: dict[str, Any]) -> str:
    """A run id within W&B's alphabet and length: readable, and different for different settings."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
    return f"{path.replace('/', '-')[:100]}-{digest}"
