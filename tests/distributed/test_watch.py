"""The watch over ranks, without ranks."""

import threading

from lowbit.distributed.watch import Watch


class Gone:
    """A store whose keeper has ended."""

    def clone(self):
        return self

    def set_timeout(self, timeout):
        """As of a store."""

    def check(self, keys):
        raise RuntimeError("connection reset by peer")

    def compare_set(self, *arguments):
        self.check(arguments)


def test_a_rank_that_computed_when_the_store_went_does_not_wait_for_an_answer():
    told = threading.Event()
    watch = Watch(Gone(), 1, 3, told.set, patience_seconds=1000)  # nobody would answer for that long
    watch.note(4, exchanges=True)
    said = []
    caller = threading.Thread(target=lambda: said.append(watch.call(4, ValueError("closed"))), daemon=True)
    caller.start()
    caller.join(60)
    assert said == ["step 4: the store of the process group is gone, and with it the rank that keeps it"]
    assert told.is_set()
    watch.close()
