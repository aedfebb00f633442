"""Sparse exchange of gradients for any model in `DistributedDataParallel`.

    ddp = DistributedDataParallel(model)
    hook = register_sparse_hook(ddp, compressor="hggtopk", density=0.01)

and training as before. DistributedDataParallel calls the hook with each bucket of gradients as soon as backward has
filled it. A thread takes the buckets in that order, the same on all ranks, compresses and exchanges them, while
backward computes the rest. What is kept between steps belongs to the parameters' names.
"""

import itertools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.variable import Variable
from torch.nn.parallel import DistributedDataParallel

from lowbit import catalog
from lowbit.compressors import GradientCompressor, make
from lowbit.distributed._arguments import demand_fitting, demand_possible, settings_of
from lowbit.distributed.exchange import Exchange
from lowbit.distributed.layout import Layout, layout_of
from lowbit.distributed.nodes import nodes_of, wires
from lowbit.distributed.replicas import demand_identical
from lowbit.distributed.state import merged, state_of
from lowbit.distributed.watch import Watch
from lowbit.distributed.worker import Job, Worker
from lowbit.errors import LostRankError, NonFiniteError, UserError
from lowbit.schemes import Wire, WireError

_hooks = itertools.count()
_CLOSED = (
    "this hook is closed: make a new DistributedDataParallel of the module, register a hook on it, and load its state"
)
_AFTER_NONFINITE = (
    "the job ends, since DistributedDataParallel cannot go on after half a step: start again from a checkpoint with a "
    "lower learning rate, or give a GradScaler as scaler=, with which all ranks skip such steps"
)


class SparseHook:
    """What `register_sparse_hook` returns: the state of the exchange of one model.

    Attributes:
        step: exchanges of a whole gradient so far.
        exchange: bytes and seconds so far.
        wire_bytes: payload that this rank sent in the last step.
    """

    def __init__(
        self,
        model: DistributedDataParallel,
        exchange: Exchange,
        everyone: Wire,
        *,
        density: float,
        granularity: Literal["layer", "bucket"],
        warmup: Sequence[float],
        warmup_steps: int,
        scaler: torch.amp.GradScaler | None,
        pipeline: bool,
        check_every: int,
    ):
        self.exchange = exchange
        self.step = 0
        self.wire_bytes = 0
        self.everyone, self._density, self._granularity = everyone, density, granularity
        self._warmup, self._warmup_steps = tuple(warmup), warmup_steps
        self._scaler, self._pipeline, self._check_every = scaler, pipeline, check_every
        self._skip_unused = model.find_unused_parameters or model.static_graph
        self._model, self._names = model.module, {id(p): n for n, p in model.module.named_parameters()}
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._jobs: list[Job] = []
        self._sent_before = 0
        self._closed = False
        self._worker = Worker()
        place = f"lowbit/{model.process_group.group_name}/{next(_hooks)}"
        store = dist.PrefixStore(place, dist.distributed_c10d._get_default_store())
        self._watch = Watch(store, everyone.rank, everyone.world, self._worker.abandon)

    @property
    def density(self) -> float:
        """Of the coming step: that of the warm-up while it lasts, never below the one asked for."""
        stage = self.step // self._warmup_steps if self._warmup_steps else len(self._warmup)
        return max(self._density, self._warmup[stage]) if stage < len(self._warmup) else self._density

    def state_dict(self) -> dict[str, Tensor]:
        """What this rank keeps, as tensors by name: to be saved by every rank."""
        return state_of(self.exchange, self.step)

    def load_state_dict(self, *states: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint.

        Args:
            states: of all ranks that saved, in rank order. From as many ranks as now, each goes on from its own. From
                another number, rank i takes what ranks i, i + P, ... of them kept, and nothing is lost of the sum.

        Raises:
            UserError: for states that do not belong together.
        """
        self.step = merged(self.exchange, states)

    def close(self) -> None:
        """End the threads; for a model that is not trained on in this process: a further backward pass raises."""
        self._closed = True
        self._watch.close()
        self._worker.close()

    def lost(self, error: Exception) -> LostRankError:
        """Who is missing, after a collective has failed between two steps; the hook is closed."""
        verdict = self._watch.call(self.step + 1, error)
        self.close()
        return LostRankError(verdict)

    def on_bucket(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """Hand a bucket to the thread; the future is its buffer with the mean over ranks in it."""
        if not self._jobs:
            self._watch.note(self.step + 1, exchanges=False)
            self._sent_before = self.exchange.sent_bytes
            Variable._execution_engine.queue_callback(self._finish)
        buffer, layout = bucket.buffer(), self._layout(bucket)
        job = Job(buffer, layout)
        self._jobs.append(job)
        if self._closed:
            job.complete(UserError(_CLOSED))
        else:
            self._worker.submit(job, lambda: self._run(job))
        if self._watch.verdict:  # there is nobody to exchange with; `_finish` says why
            job.complete()
        if not self._pipeline:
            job.wait()
        return job.future

    def _run(self, job: Job) -> None:
        """In the thread: exchange one bucket, and find out who is missing if that fails."""
        scaled = self._scaler is not None
        scale, unused = float(self._scaler.get_scale()) if scaled else 1.0, self._skip_unused
        self._watch.note(self.step + 1, exchanges=True)
        try:
            job.applied = self.exchange.mean(
                job.buffer, job.layout, self.density, loss_scale=scale, skip_overflow=scaled, skip_unused=unused
            )
            self._watch.note(self.step + 1, exchanges=False)
        except WireError as error:
            raise LostRankError(self._watch.call(self.step + 1, error)) from error
        except NonFiniteError as error:
            self._watch.fail(self.step + 1, error)
            raise NonFiniteError(f"{str(error).partition(';')[0]}; {_AFTER_NONFINITE}") from error
        except BaseException as error:
            self._watch.fail(self.step + 1, error)
            raise

    def _finish(self) -> None:
        """At the end of backward: wait for all buckets, and raise here what went wrong in the thread."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.wait()
            if job.error is not None:
                self.close()
                raise job.error
        if self._watch.verdict:
            self.close()
            raise LostRankError(self._watch.verdict)
        if not all(job.applied for job in jobs):
            for job in (j for j in jobs if j.applied):
                self.exchange.postpone(job.buffer, job.layout)
        if self._check_every and self.step and self.step % self._check_every == 0:
            self._demand_identical()
        self.step += 1
        self.wire_bytes = self.exchange.sent_bytes - self._sent_before
        self._watch.note(self.step + 1, exchanges=False)

    def _demand_identical(self) -> None:
        self._watch.note(self.step + 1, exchanges=True)
        try:
            demand_identical(self._model, self.everyone, self.step)
        except WireError as error:
            raise self.lost(error) from error

    def _layout(self, bucket: dist.GradBucket) -> Layout:
        parameters = bucket.parameters()
        key = tuple(id(p) for p in parameters)
        if key not in self._layouts:
            self._layouts[key] = layout_of(bucket, self._names, self._granularity)
        return self._layouts[key]


def register_sparse_hook(
    model: DistributedDataParallel,
    compressor: str | Mapping[str, Any] | GradientCompressor = "hggtopk",
    density: float = 0.01,
    *,
    scheme: str | Mapping[str, Any] = "allgather",
    dense_dtype: torch.dtype | None = None,
    granularity: Literal["layer", "bucket"] = "layer",
    ranks_per_node: int = 1,
    warmup: Sequence[float] = (),
    warmup_steps: int = 0,
    scaler: torch.amp.GradScaler | None = None,
    pipeline: bool = True,
    timeout_seconds: float = 30.0,
    check_every: int = 0,
) -> SparseHook:
    """Let a model exchange few entries of its gradients; on all ranks, before the first backward.

    Parameters of one dimension (biases, scales of norms) are reduced densely.

    Args:
        model: whose gradients are exchanged among all ranks of its process group.
        compressor: a name, a name with settings, or a built one.
        density: fraction of every gradient that is sent, in (0, 1].
        scheme: variant of `lowbit.schemes`, as a name or with settings.
        dense_dtype: of what is reduced densely, on the wire; None for that of the gradients.
        granularity: whether a parameter or all of a bucket are compressed as one vector.
        ranks_per_node: ranks that average densely before the first of them exchanges with other nodes; consecutive.
        warmup: densities of the first stages of training, at least `density` each; 1 sends everything.
        warmup_steps: steps of each stage.
        scaler: of the loss, if it is scaled: residuals follow its scale, and all ranks skip a step that any of them
            overflows in.
        pipeline: whether backward goes on while a bucket is exchanged.
        timeout_seconds: longest wait for other ranks in a message, before the job is given up.
        check_every: compare the parameters of all ranks every so many steps; 0 for never.

    Raises:
        SettingError: for settings that do not exist, are out of range or do not fit one another.
    """
    demand_possible(density, warmup, warmup_steps, granularity)
    session = compressor if isinstance(compressor, GradientCompressor) else make(**settings_of(compressor))
    way = catalog.build("schemes", settings_of(scheme))
    demand_fitting(session, way, nodes_of(dist.get_world_size(model.process_group), ranks_per_node))
    everyone, between, inside = wires(Wire(model.process_group), ranks_per_node, timedelta(seconds=timeout_seconds))
    hook = SparseHook(
        model,
        Exchange(session, way, between, inside, dense_dtype),
        everyone,
        density=density,
        granularity=granularity,
        warmup=warmup,
        warmup_steps=warmup_steps,
        scaler=scaler,
        pipeline=pipeline,
        check_every=check_every,
    )
    model.register_comm_hook(hook, SparseHook.on_bucket)
    return hook
