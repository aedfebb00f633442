"""Who is missing when an exchange fails: a roll call among the ranks of a job, and its end on all of them.

A collective that fails does not say because of whom. A rank whose collective failed or took too long calls the roll in
the store of the process group; a thread in every rank looks there once a second, and answers what its rank does. After
a few seconds, whoever has not answered has ended or cannot be reached; if all have, those that are not in the exchange
are late. All ranks then raise the same `RankError`. One that does not come to raise it, because it hangs somewhere
else, is ended.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist

log = logging.getLogger("lowbit")

_CALL, _VERDICT = "call", "verdict"


class Watch:
    """This rank's thread in the roll call.

    Args:
        store: that all ranks see, for this watch alone.
        rank: number of this rank.
        world: number of ranks.
        on_verdict: called once, from the thread, when the job is lost.
        poll_seconds: time between two looks into the store.
        patience_seconds: time that ranks have to answer.
        grace_seconds: time that this process has to end by itself once the job is lost.

    Attributes:
        verdict: why the job is lost; None while it is not.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        world: int,
        on_verdict: Callable[[], None],
        *,
        poll_seconds: float = 1.0,
        patience_seconds: float = 5.0,
        grace_seconds: float = 10.0,
    ):
        self.verdict: str | None = None
        self._store = store.clone()
        self._store.set_timeout(timedelta(seconds=patience_seconds))
        self._rank, self._world, self._on_verdict = rank, world, on_verdict
        self._poll, self._patience, self._grace = poll_seconds, patience_seconds, grace_seconds
        self._doing = (0, False, time.monotonic())
        self._decided, self._closed = threading.Event(), threading.Event()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def note(self, step: int, exchanges: bool) -> None:
        """Remember what this rank does: whether it exchanges the gradients of a step, or computes them."""
        self._doing = (step, exchanges, time.monotonic())

    def call(self, step: int, error: Exception) -> str:
        """Call the roll after an error in a step's exchange, and return the verdict."""
        told = self._tell(_CALL, f"{step}\n{error}")
        if not told or not self._decided.wait(2 * self._poll + 2 * self._patience):
            self._decide(f"step {step}: the store of the process group is gone, and with it the rank that keeps it")
        assert self.verdict is not None
        return self.verdict

    def fail(self, step: int, error: BaseException) -> None:
        """Tell all ranks that this one fails."""
        self._tell(_VERDICT, f"step {step}: rank {self._rank} of {self._world} failed: {error}")
        self._tell(_CALL, f"{step}\n")

    def close(self) -> None:
        """End the thread: this process ends by itself, or goes on without the watch."""
        self._closed.set()

    def _tell(self, key: str, text: str) -> bool:
        """Whether the store has been told; one in a process that is stopped never answers, whatever its timeout."""
        told = threading.Event()

        def tell() -> None:
            try:
                self._store.compare_set(key, "", text)
                told.set()
            except RuntimeError as error:
                log.warning("rank %d: the store of the process group cannot be reached: %s", self._rank, error)

        asking = threading.Thread(target=tell, name="tell", daemon=True)
        asking.start()
        asking.join(self._patience)
        return told.is_set()

    def _look(self) -> None:
        try:
            while not self._store.check([_CALL]):
                if self._closed.wait(self._poll):
                    return
            self._decide(self._hold_roll())
        except RuntimeError:
            if not self._doing[1]:
                return  # the rank that keeps the store has finished first
            self._decide(f"step {self._doing[0]}: the store is gone, and with it the rank that keeps it")
        if not self._closed.wait(self._grace):
            log.error("rank %d: %s. This process did not end by itself and is ended", self._rank, self.verdict)
            os._exit(1)

    def _decide(self, verdict: str) -> None:
        if not self._decided.is_set():
            self.verdict = verdict
            self._decided.set()
            self._on_verdict()

    def _hold_roll(self) -> str:
        """Answer, listen to the others, and take the first verdict that anyone reaches."""
        step, exchanges, since = self._doing
        self._store.set(f"here/{self._rank}", json.dumps([step, exchanges, time.monotonic() - since]))
        ends = time.monotonic() + self._patience
        absent = set(range(self._world))
        while absent and time.monotonic() < ends and not self._store.check([_VERDICT]):
            time.sleep(self._poll / 10)
            absent = {rank for rank in absent if not self._store.check([f"here/{rank}"])}
        text = "" if self._store.check([_VERDICT]) else self._judge(absent)
        return self._store.compare_set(_VERDICT, "", text).decode()

    def _judge(self, absent: set[int]) -> str:
        asked, _, error = self._store.get(_CALL).decode().partition("\n")
        step = int(asked)
        if absent:
            ranks = ", ".join(map(str, sorted(absent)))
            return (
                f"step {step}: rank {ranks} of {self._world} does not answer: it has ended or cannot be reached; look "
                "at its own messages (memory, fewer batches than the other ranks, a lost machine)"
            )
        answers = {rank: json.loads(self._store.get(f"here/{rank}")) for rank in range(self._world)}
        late = {r: a for r, a in answers.items() if a[0] < step or not a[1]}
        if not late:
            return f"step {step}: all {self._world} ranks wait for each other; the network between them fails: {error}"
        told = "; ".join(
            f"rank {r} of {self._world} is in step {s}, {'exchanging' if e else 'computing'} for {seconds:.0f} s"
            for r, (s, e, seconds) in late.items()
        )
        return (
            f"step {step}: other ranks have waited too long: {told}; find what is slow there, or allow a longer timeout"
        )
