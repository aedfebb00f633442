"""One rank of a run whose ranks exchange gradients: the model in DistributedDataParallel, its hook, and what it tells.

The mean over ranks that the hook gives is the gradient of the whole batch: a rank divides its sum of losses by the
targets of the whole batch, times the number of ranks. Sums that all ranks need (losses, bytes, whether to stop, whether
to save) travel together, once a window of steps.
"""

import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from lowbit import cost
from lowbit.distributed.ddp_hook import SparseHook
from lowbit.distributed.torch_hooks import TorchHook
from lowbit.errors import RankError
from lowbit.train.assemble import Run
from lowbit.train.checkpoint import CheckpointError, load_weights, save_weights
from lowbit.train.clock import Clock, seconds_of
from lowbit.train.hook import hook_of
from lowbit.train.parallel import Ranks

log = logging.getLogger("lowbit")

_THREAD = ("compress", "communicate", "decompress")
_WARMING = 2  # steps that do not count in medians: connections, buckets that are formed anew


@dataclass(frozen=True)
class WatchedRanks(Ranks):
    """Ranks whose sums say who is missing when they fail."""

    lost: Callable[[Exception], Exception] = field(kw_only=True)
    group: dist.ProcessGroup = field(kw_only=True)

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor summed over all processes, in place."""
        try:
            dist.all_reduce(tensor, group=self.group)
            return tensor
        except RuntimeError as error:
            raise self.lost(error) from error


class DataParallel:
    """The exchange of a run's gradients, as one rank takes part in it.

    Args:
        run: whose model is trained; its ranks are watched from now on.
        note: told the step that begins.

    Attributes:
        model: what the forward pass of training calls.
        clock: of the current step.
        asked: what this rank wants: the number of a signal to stop by, and whether a state is due.
        stopping: whether any rank wanted to stop at the last window.
        saving: whether rank 0 wanted to save there.
    """

    def __init__(self, run: Run, note: Callable[[int], None] = lambda step: None):
        settings = run.spec.exchange
        self.settings, self.run, self.note = settings, run, note
        self.clock = Clock(run.spec.device)
        self.asked: Callable[[], tuple[int, bool]] = lambda: (0, False)
        self.stopping = self.saving = False
        run.ranks.sum(torch.zeros((), device=run.spec.device))  # rank 0 may have waited for the folder of the run
        self.model = DistributedDataParallel(
            run.state.model,
            forward_sync_buffers=False,  # `align_buffers` does it where they are read
            process_group=dist.new_group(timeout=timedelta(seconds=settings.timeout_seconds)),
            bucket_cap_mb=settings.bucket_mb,
        )
        self.hook = hook_of(self.model, run)
        self._counted = self._counters()
        self._entries = sum(p.numel() for p in run.state.model.parameters() if p.requires_grad)
        run.ranks = WatchedRanks(run.ranks.rank, run.ranks.world, lost=self.lost, group=self.model.process_group)

    @property
    def loss_factor(self) -> int:
        """What makes the mean over ranks of gradients their sum."""
        return self.run.ranks.world

    def begin(self, step: int) -> None:
        """A step begins, counted from 1."""
        self.note(step)
        self.clock.begin()

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager:
        """Context of a micro-batch: gradients are exchanged in the backward pass of the last one."""
        return contextlib.nullcontext() if last else self.model.no_sync()

    def told(self) -> dict[str, Any]:
        """What this rank alone knows of the step that ends, in the order of `_counters`, and its stamps."""
        before, self._counted = self._counted, self._counters()
        step = [now - then for now, then in zip(self._counted, before, strict=True)]
        return {"counted": step, "laps": self.clock.laps}

    def summed(self, pending: list[tuple[dict[str, Any], list[Tensor]]]) -> list[tuple[dict[str, Any], list[Tensor]]]:
        """A window of steps with the sums over ranks in it; afterwards all ranks know whether to stop and to save.

        Args:
            pending: of each step its record, with `told` in it, and loss, correct targets and gradient norm.
        """
        tensors = [tensor.double() for _, (loss, correct, _) in pending for tensor in (loss, correct)]
        told = [record.pop("told") for record, _ in pending]
        numbers = [float(number) for t in told for number in t["counted"][:2]] + [float(a) for a in self.asked()]
        mine = torch.cat([torch.stack(tensors), torch.tensor(numbers, dtype=torch.float64, device=tensors[0].device)])
        everyone = self.run.ranks.sum(mine)
        sums, counts, asked = everyone.split([len(tensors), 2 * len(told), 2])
        self.stopping, self.saving = (bool(a) for a in asked.tolist())
        window = []
        for (record, (*_, norm)), t, (loss, correct), (sent, entries) in zip(
            pending, told, sums.view(-1, 2), counts.view(-1, 2).tolist(), strict=True
        ):
            window.append(({**record, **self._record(t, int(sent), entries)}, [loss, correct, norm]))
        return window

    def _record(self, told: dict[str, Any], sent: int, entries: float) -> dict[str, Any]:
        """Further entries of a step's record; seconds are this rank's."""
        *_, messages, in_row, compress, communicate, decompress = told["counted"]
        seconds = seconds_of(told["laps"])
        seconds |= dict(zip(_THREAD, (compress, communicate, decompress), strict=True))
        s = self.settings
        compressing = s.ranks // (s.ranks_per_node if s.method == "sparse" else 1)
        return {
            "wire_bytes": sent,
            "messages": messages,
            "bytes_in_row": in_row,
            "entries_sent": entries / compressing / self._entries,
            **{f"{name}_seconds": value for name, value in seconds.items()},
        }

    def _counters(self) -> tuple[float, ...]:
        """Bytes and entries that this rank has sent so far, messages and bytes in a row, and seconds of its thread.

        In a row are those between nodes alone: inside a node there is no link to wait for.
        """
        if isinstance(self.hook, TorchHook):
            h = self.hook
            return h.sent_bytes, h.sent_entries, h.messages, h.sent_bytes, 0.0, 0.0, 0.0  # rings send all in a row
        e = self.hook.exchange
        in_row = e.between.messages, e.between.bytes_in_row
        return e.sent_bytes, e.sent_entries, *in_row, e.compress_seconds, e.wire_seconds, e.decompress_seconds

    def align_buffers(self) -> None:
        """Give all ranks the buffers of rank 0: running statistics, which each collects from its own share."""
        for buffer in self.run.state.model.buffers():
            try:
                dist.broadcast(buffer, 0, group=self.model.process_group)
            except RuntimeError as error:
                raise self.lost(error) from error

    def lost(self, error: Exception) -> RankError:
        """What to raise after a collective has failed."""
        if isinstance(self.hook, SparseHook):
            return self.hook.lost(error)
        return RankError(f"step {self.run.state.step + 1}: another rank has ended or cannot be reached: {error}")

    def save(self, folder: Path, step: int) -> None:
        """Write what this rank keeps after a step, and wait until all ranks have."""
        if kept := self.hook.state_dict():
            save_weights(kept, _file(folder, self.run.ranks.rank, step))
        self._how_many(True)

    def sweep(self, folder: Path, step: int) -> None:
        """Remove what ranks kept after other steps."""
        kept = {_file(folder, rank, step) for rank in range(self.run.ranks.world)}
        for path in set(folder.glob(_file(folder, "*", "*").name)) - kept:
            path.unlink()

    def recall(self, folder: Path, step: int | None) -> bool:
        """Go on from what all ranks kept after a step; False on all of them where one cannot read its file."""
        own, world = self.run.ranks.rank, self.run.ranks.world
        readable = step is not None
        states: list[dict[str, Tensor]] = []
        if readable and self.hook.state_dict():
            try:
                # A sparse hook is told who the other ranks were, without what they kept.
                needed = range(world) if isinstance(self.hook, SparseHook) else [own]
                for rank in needed:
                    mine = rank == own
                    states.append(load_weights(_file(folder, rank, step), lambda n, mine=mine: mine or "/" not in n))
            except CheckpointError as error:
                log.warning("%s; starting from step 0", error)
                readable = False
        if self._how_many(readable) < world:
            return False
        if states:
            self.hook.load_state_dict(*states)
        return True

    def _how_many(self, so: bool) -> int:
        """Ranks of which something is so."""
        return int(self.run.ranks.sum(torch.tensor(float(so), device=self.run.spec.device)))

    def summary(self, events: Path) -> dict[str, Any]:
        """What summary.json says of the exchange, from the records of all steps."""
        lines = map(json.loads, events.read_text(encoding="utf-8").splitlines())
        steps = [line for line in lines if line["type"] == "step"]
        ranks, counted = self.settings.ranks, steps[_WARMING:] or steps
        return {
            "ranks": ranks,
            "steps": len(steps),
            "wire_bytes": sum(s["wire_bytes"] for s in steps),
            "dense_wire_bytes": len(steps) * 2 * (ranks - 1) * 4 * self._entries,
            "messages": steps[-1]["messages"],
            "bytes_in_row": sum(s["bytes_in_row"] for s in steps),
            "entries_sent": sum(s["entries_sent"] for s in steps) / len(steps),
            "parameters": self._entries,
            "seconds": {name: median(s[f"{name}_seconds"] for s in counted) for name in cost.PARTS},
        }

    def close(self) -> None:
        """End the threads of the hook."""
        if isinstance(self.hook, SparseHook):
            self.hook.close()


def _file(folder: Path, rank: int | str, step: int | str) -> Path:
    return folder / f"exchange-rank{rank}-step{step}.safetensors"
