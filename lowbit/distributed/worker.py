"""A thread that does jobs in the order they come, and the futures by which DistributedDataParallel waits for them."""

import queue
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from lowbit.distributed.layout import Layout


class Job:
    """Exchange of one bucket.

    Args:
        buffer: of the bucket, in which the result will be.
        layout: of the buffer.

    Attributes:
        future: completed with the buffer, also after an error: a future that is never completed would hang backward,
            and an exception in it would lose its type.
        applied: whether the buffer has the mean over ranks, rather than an overflow.
        error: what went wrong.
    """

    def __init__(self, buffer: Tensor, layout: Layout):
        devices = [buffer.device] if buffer.is_cuda else []
        self.future: torch.futures.Future[Tensor] = torch.futures.Future(devices=devices)
        self.buffer, self.layout = buffer, layout
        self.applied = False
        self.error: BaseException | None = None
        self._done, self._once = threading.Event(), threading.Lock()

    @property
    def done(self) -> bool:
        """Whether nobody needs to wait for it."""
        return self._done.is_set()

    def complete(self, error: BaseException | None = None) -> None:
        """Mark as done; only the first call counts."""
        with self._once:
            if not self.done:
                self.error = error
                self.future.set_result(self.buffer)
                self._done.set()

    def wait(self) -> None:
        """Wait until it is done or abandoned."""
        self._done.wait()


class Worker:
    """One thread for jobs; a daemon, so that a job that hangs cannot keep the process."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, Callable[[], None]] | None] = queue.SimpleQueue()
        self._pending: list[Job] = []
        threading.Thread(target=self._work, name="exchange", daemon=True).start()

    def submit(self, job: Job, run: Callable[[], None]) -> None:
        """Do a job after those submitted before; after one that failed, none is done."""
        self._pending = [j for j in self._pending if not j.done] + [job]
        self._jobs.put((job, run))

    def abandon(self) -> None:
        """Complete all jobs as they are: nobody waits any longer, though the thread may."""
        for job in self._pending:
            job.complete()

    def close(self) -> None:
        """End the thread after the jobs submitted."""
        self._jobs.put(None)

    def _work(self) -> None:
        failed: BaseException | None = None
        while (next_job := self._jobs.get()) is not None:
            job, run = next_job
            if failed is None:
                try:
                    run()
                except BaseException as error:  # raised again in the thread that trains
                    failed = error
            job.complete(failed)
