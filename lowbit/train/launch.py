"""Several processes on this machine that train together, forked from one that has imported PyTorch.

Importing it takes seconds, a fork milliseconds. The process that forks computes nothing itself, so that none of the
threads exists yet that would not survive a fork. It hands signals to the first rank, which tells the others; ends all
when one has failed; and its death ends them.
"""

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._dynamo  # which optimizers and DistributedDataParallel import at their first use
import torch.distributed as dist

from lowbit import catalog
from lowbit.compressors import GradientCompressor
from lowbit.errors import LostRankError, RankError, UserError
from lowbit.processes import die_with
from lowbit.spec import RunSpec
from lowbit.train.data_parallel import DataParallel
from lowbit.train.run import Interrupted, execute

GRACE_SECONDS = 20.0
"""Left to the other ranks once one has failed; finding out who is missing takes them seconds."""
VERDICT_SECONDS = 5.0
"""Left to the other ranks once one knows who is missing, which those that can still end then know too."""
Note = Callable[[int], None]
_PATIENCE = timedelta(minutes=5)  # until the ranks watch one another: the first may wait for the folder of the run


class Told(NamedTuple):
    """What a rank says at its end.

    Args:
        result: of work that is done, from the first; None where it is not.
        number: of the signal that stopped it.
        fault: what a user can mend.
        verdict: whether that says which rank is missing.
        trace: of any other error.
        lost: how it ended without a word.
    """

    result: Any = None
    number: int = 0
    fault: str = ""
    verdict: bool = False
    trace: str = ""
    lost: str = ""

    @property
    def failed(self) -> bool:
        """Whether other ranks wait in vain for this one."""
        return bool(self.fault or self.trace or self.lost)


def launch(spec: RunSpec, folder: Path, data_folder: Path, **settings: Any) -> dict[str, Any]:
    """Train a spec with `exchange` into a folder, in as many processes as it has ranks, and return the summary.

    Args:
        spec: what to run.
        folder: of this run.
        data_folder: the prepared dataset.
        settings: `resume` and `observers`, as of `lowbit.train.run.execute`.

    Raises:
        Interrupted: after SIGINT or SIGTERM, with the state saved.
        RankError: when a process has ended or hangs.
        UserError: as `execute`.
    """
    spec.code_digest  # noqa: B018  read once here, it is known to all ranks

    def work(note: Note) -> dict[str, Any]:
        return execute(spec, folder, data_folder, **settings, exchange=lambda run: DataParallel(run, note))

    return in_ranks([spec], work)


def in_ranks(specs: Sequence[RunSpec], work: Callable[[Note], Any]) -> Any:
    """Do some work in as many processes as runs have ranks, and return what the first of them makes of it.

    Args:
        specs: the runs, of one number of ranks on one kind of device.
        work: done in each process; what it is given is to be told every step that begins.

    Raises:
        Interrupted: when the work was.
        RankError: when a process has ended or hangs.
        UserError: as the work.
    """
    world, backend = specs[0].ranks, "nccl" if specs[0].device == "cuda" else "gloo"
    context = multiprocessing.get_context("fork")
    steps = context.RawArray("q", world)
    for spec in specs:
        _load_kernels(spec)
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # else the first collection in a rank would copy every page of what this process has imported
    with tempfile.TemporaryDirectory(prefix="lowbit-ranks-") as place:
        pipes, processes = [], []
        try:
            for rank in range(world):
                ours, theirs = context.Pipe(duplex=False)
                job = (rank, theirs, (backend, f"{place}/store", world), os.getpid(), steps, work)
                processes.append(context.Process(target=_rank, args=job, name=f"rank {rank}"))
                processes[-1].start()
                theirs.close()
                pipes.append(ours)
            told = _await(processes, pipes)
        finally:
            gc.unfreeze()
            for process in processes:
                process.kill()
                process.join()
    return _outcome(told, steps)


def _load_kernels(spec: RunSpec) -> None:
    """Compile or load the kernels of a compressor once for all ranks."""
    if spec.device == "cpu" and spec.exchange.method == "sparse":
        torch.set_num_threads(1)
        parts = (("compressors", spec.exchange.compressor), ("feedback", spec.exchange.feedback))
        session = GradientCompressor(*(catalog.build(*part) for part in parts))
        for _ in range(3):  # a first choice, one from a guess, and one after it
            session.send(torch.arange(64.0), "kernels", 0.1)


def _rank(
    rank: int, pipe: Connection, group: tuple[str, str, int], parent: int, steps: Any, work: Callable[[Note], Any]
) -> None:
    """In the process: join the group, work, tell the end."""
    backend, store, world = group
    os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which passes it on
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    die_with(parent)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    if sys.platform.startswith("linux"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        if backend == "nccl":
            torch.cuda.set_device(rank)
        meeting = dist.FileStore(store, world)
        dist.init_process_group(backend, store=meeting, rank=rank, world_size=world, timeout=_PATIENCE)

        def note(step: int) -> None:
            steps[rank] = step

        result = work(note)
        told = Told(result if rank == 0 else {})
        dist.destroy_process_group()
    except BaseException as error:
        told = _told(error)
    pipe.send(told)
    pipe.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if told.result is not None else 1)  # threads of a hook may hang


def _told(error: BaseException) -> Told:
    if isinstance(error, Interrupted):
        return Told(number=error.exit_status - 128)
    if isinstance(error, UserError):
        return Told(fault=str(error), verdict=isinstance(error, LostRankError))
    return Told(trace="".join(traceback.format_exception(error)))


def _await(processes: list, pipes: list[Connection]) -> list[Told]:
    """What each rank says at its end, or how it ended without a word; those that hang are given up."""
    signals: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        signals.append(number)
        for process in processes if len(signals) > 1 else processes[:1]:
            if process.exitcode is None:
                os.kill(process.pid, signal.SIGKILL if len(signals) > 1 else number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    told: dict[int, Told] = {}
    ends: float | None = None
    try:
        while len(told) < len(processes) and (ends is None or time.monotonic() < ends):
            waiting = {pipes[rank]: rank for rank in range(len(pipes)) if rank not in told}
            for pipe in wait(list(waiting), None if ends is None else max(0.0, ends - time.monotonic())):
                rank = waiting[pipe]
                told[rank] = _last_words(pipe, processes[rank])
                # Others wait for one that has failed, and have little left to do after the first has published.
                if ends is None and (rank == 0 or told[rank].failed):
                    ends = time.monotonic() + GRACE_SECONDS
                if told[rank].verdict:
                    ends = min(ends, time.monotonic() + VERDICT_SECONDS)
                if signals and told[rank].lost:  # it was not yet ready to save
                    raise Interrupted(signals[0])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if len(signals) > 1:
        raise Interrupted(signals[-1])
    return [told.get(rank, Told(lost="hangs, and was killed")) for rank in range(len(processes))]


def _last_words(pipe: Connection, process: multiprocessing.Process) -> Told:
    try:
        return pipe.recv()
    except EOFError:
        process.join()
        status = process.exitcode
        return Told(
            lost=f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        )


def _outcome(told: list[Told], steps: list[int]) -> Any:
    """The result, or the error that explains best why there is none."""
    if told[0].result is not None:
        return told[0].result
    if stopped := [end.number for end in told if end.number]:
        raise Interrupted(stopped[0])
    lost = [f"step {steps[r]}: rank {r} of {len(told)} {end.lost}" for r, end in enumerate(told) if end.lost]
    faults = list(dict.fromkeys(end.fault for end in told if end.fault))
    if lost:
        raise RankError("\n".join([*lost, *faults]))
    if faults:
        raise UserError(faults[0])
    raise RuntimeError("a process has failed:\n" + "\n".join(end.trace for end in told if end.trace))
