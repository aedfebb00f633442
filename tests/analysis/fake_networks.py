"""A run of the network study whose times follow a law."""

import json
from dataclasses import dataclass
from pathlib import Path

from lowbit import cost
from lowbit.config_networks import Extrapolation

LINKS = {"100mbit": 1e8, "10gbit": 1e10, "1gbit": 1e9}
SIZES = (100_000, 1_000_000, 300_000)
METHODS = {
    "dense float32": ("dense", 4, 2e-9),
    "dense bfloat16": ("dense", 2, 1e-9),
    "hggtopk 0.01 allgather": ("allgather", 4, 1e-8),
    "hggtopk 0.01 gtopk": ("gtopk", 4, 1.2e-8),
    "hggtopk 0.01 oktopk": ("oktopk", 4, 1.5e-8),
    "randomkec 0.01 shared": ("shared", 4, 5e-9),
}
SENT = {"dense": 4, "shared": 4, "allgather": 2, "gtopk": 1, "oktopk": 6}
"""Messages of one of two ranks: gloo's rings go round in two halves."""
HOOKS = {"noop": None, "allreduce": "dense float32", "bf16": "dense bfloat16", "hggtopk 0.01": "hggtopk 0.01 allgather"}
PARAMETERS = 1_000_000
EXTRAPOLATION = Extrapolation(workers=(8, 1024), gbit_per_second=(1, 10, 100, 400)).model_dump(mode="json")


@dataclass(frozen=True)
class Fake:
    """What the run found.

    Args:
        latency: seconds of a message.
        of_links: seconds of a packet that links were given.
        host: seconds of a byte.
        noop: seconds of a step without exchange.
        held_out: factor on all times of the link that is held out.
        miscounted: factor on what the kernel counts.
        why_loopback: why there are no links.
    """

    latency: float = 3e-4
    of_links: float = 0.0
    host: float = 3e-9
    noop: float = 0.02
    held_out: float = 1.0
    miscounted: float = 1.0
    why_loopback: str = ""

    def write(self, results: Path) -> None:
        """The run folder."""
        folder = results / "network/links"
        folder.mkdir(parents=True)
        hardware = {"processor": "a chip", "cores": 2, "threads": 1}
        summary = {"device": "cpu", "machine": hardware, "why_loopback": self.why_loopback}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "spec.json").write_text("{}")
        links = {"loopback": None} if self.why_loopback else LINKS
        lines = [json.dumps(line) for link, rate in links.items() for line in self._of_link(link, rate)]
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n")

    def _of_link(self, link: str, rate: float | None):
        held_out = link == "1gbit"
        for size in SIZES:
            for method in METHODS:
                line = self._exchange(link, rate, method, size)
                yield {**line, "type": "exchange", "method": method, "held_out_link": held_out,
                       "entries": size, "held_out_size": size == 300_000}  # fmt: skip
        for hook, method in HOOKS.items():
            line = self._exchange(link, rate, method, PARAMETERS) if method else self._nothing(link, rate)
            seconds = self.noop + (line.pop("seconds") if method else 0.0)
            yield {**line, "seconds": seconds, "type": "training", "method": hook, "held_out_link": held_out}

    def _nothing(self, link: str, rate: float | None) -> dict:
        return {"link": link, "rate_bits": rate, "ranks": 2, "density": 0.01, "payload_bytes": 0.0, "messages": 0.0,
                "messages_in_row": 0.0, "framed_bytes": 0.0, "counted_bytes": None if rate is None else 0.0,
                "payload_of_packet": 1448, "latency_seconds": self.of_links}  # fmt: skip

    def _exchange(self, link: str, rate: float | None, method: str, size: int) -> dict:
        scheme, width, computing = METHODS[method]
        volume = cost.volume(scheme, 2, size, 0.01 if scheme != "dense" else 1.0, width)
        ways = cost.Link(rate or float("inf"), self.latency + self.of_links, self.host)
        seconds = cost.exchange_seconds(volume, ways, computing * size) * (self.held_out if link == "1gbit" else 1.0)
        payload, messages = 2 * volume.sent, 2 * SENT[scheme]
        framed = cost.framed_bytes(payload, messages)
        return self._nothing(link, rate) | {
            "scheme": scheme, "value_bytes": width, "seconds": seconds, "compute_seconds": computing * size,
            "payload_bytes": payload, "messages": messages, "messages_in_row": volume.messages, "framed_bytes": framed,
            "counted_bytes": None if rate is None else framed * self.miscounted,
        }  # fmt: skip
