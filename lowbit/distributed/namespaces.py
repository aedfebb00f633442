"""A network inside this machine: one namespace a rank, joined by a bridge, every link of a set rate.

    rank r: eth0 10.77.0.(r + 1)  --veth, tbf both ways, netem on the way to the bridge--  bridge

A namespace lives as long as a process in it: here a `cat` that reads a pipe of this process. When this process ends,
even by kill -9, the pipes close, and namespaces, links and bridge are gone with them. Nothing is written outside.

Needs `ip`, `tc`, `unshare`, `nsenter`, and root or CAP_SYS_ADMIN and CAP_NET_ADMIN; for a set latency also the kernel's
`netem`. Packets are cut to size before they are delayed, and wait in the delay's queue until the rate lets them go.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lowbit.cost import PAYLOAD_OF_MERGED_PACKET, PAYLOAD_OF_PACKET
from lowbit.errors import UserError

_TOOLS = ("ip", "tc", "unshare", "nsenter")
_SUBNET = "10.77.0"
INTERFACE = "eth0"
_INSTEAD = "measure on loopback alone: python -m lowbit netbench --loopback"
_BURST_SECONDS = 0.00055
_MERGED_BYTES = 65536
_QUEUE_SECONDS = 0.1
"""Of the rate, that wait before packets are dropped."""
_PACKETS = 100_000
"""That wait where there is no rate."""
_PAIR = "ip link add probe0 type veth peer name probe1"
_NEEDED = (
    ("no right to make network namespaces", "true"),
    ("no bridges in this kernel, or no right to make them", "ip link add probe0 type bridge"),
    ("no virtual links (veth) in this kernel", _PAIR),
    (
        "no rates of links (tbf) in this kernel",
        f"{_PAIR} && tc qdisc add dev probe0 root tbf rate 1mbit burst 8kb latency 100ms",
    ),
    ("no right to enter network namespaces", "nsenter --target $$ --net true"),
)
"""Why not, and what then fails."""
_DELAYED = f"{_PAIR} && tc qdisc add dev probe0 root netem delay 1ms"


def what_is_missing() -> str:
    """Why there can be no such network here; empty when there can."""
    if absent := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(absent)} not found (packages iproute2 and util-linux)"
    return next((f"{why} ({said})" for why, command in _NEEDED if (said := _fault(command))), "")


def demand_latency(seconds: float) -> None:
    """Try whether links can have a latency, if they are to have one.

    Raises:
        UserError: when they cannot, with what to do.
    """
    if seconds and (said := _fault(_DELAYED)):
        raise UserError(
            f"a latency of {1e3 * seconds:g} ms on links: needs netem, which this kernel does not have ({said}); load "
            "it (modprobe sch_netem), or leave the latency at 0: then links have a rate alone"
        )


def _fault(command: str) -> str:
    """What a command in a namespace of its own ends with; empty when it does what it should."""
    tried = subprocess.run(["unshare", "--net", "sh", "-c", command], capture_output=True, text=True, check=False)
    return (tried.stderr.strip() or f"status {tried.returncode}") if tried.returncode else ""


def address(rank: int) -> str:
    """Of a rank's interface."""
    return f"{_SUBNET}.{rank + 1}"


@dataclass(frozen=True)
class Network:
    """Ranks in namespaces of their own.

    Args:
        hub: what to put before a command to run it where the bridge is.
        places: the same for each rank's namespace.
    """

    hub: list[str]
    places: list[list[str]]

    def shape(self, rate_bits: float | None, latency_seconds: float = 0.0) -> None:
        """Set the rate of every link in each direction, and what a packet is delayed from one rank to another.

        Args:
            rate_bits: a second; None for as fast as it goes.
            latency_seconds: of a packet, one way.

        Raises:
            UserError: when a tool fails, with its message.
        """
        for rank, place in enumerate(self.places):
            for command in rules(f"port{rank}", rate_bits):
                _run(self.hub, command)
            for command in rules(INTERFACE, rate_bits, latency_seconds):
                _run(place, command)


def rules(device: str, rate_bits: float | None, latency_seconds: float = 0.0) -> list[str]:
    """Commands that set how a device sends, whatever its rate was; none takes a latency away again."""
    replace = f"tc qdisc replace dev {device}"
    waiting = _PACKETS
    if rate_bits is not None:
        waiting = max(1000, int(rate_bits / 8 * (latency_seconds + _QUEUE_SECONDS) / PAYLOAD_OF_PACKET))
    delay = f"netem delay {1e6 * latency_seconds:.0f}us limit {waiting}"
    if rate_bits is None:
        return [f"{replace} root {delay if latency_seconds else 'noqueue'}"]
    rate = f"tbf rate {rate_bits:.0f}bit burst {_burst(rate_bits)}b latency {1e3 * _QUEUE_SECONDS:.0f}ms"
    if not latency_seconds:
        return [f"{replace} root {rate}"]
    return [f"{replace} root handle 1: {rate}", f"{replace} parent 1:1 handle 10: {delay}"]


@contextmanager
def network(ranks: int) -> Iterator[Network]:
    """A network of so many ranks, whose links are as fast as it goes until they are shaped.

    Args:
        ranks: number of namespaces.

    Raises:
        UserError: when a tool fails, with its message.
    """
    with ExitStack() as stack:
        hub, *places = [_namespace(stack) for _ in range(ranks + 1)]
        _run(hub, "ip link add bridge type bridge")
        _run(hub, "ip link set bridge up")
        for rank, place in enumerate(places):
            port = f"port{rank}"
            _run(hub, f"ip link add {port} type veth peer name {INTERFACE} netns {place[2]}")
            _run(hub, f"ip link set {port} master bridge up")
            _run(place, f"ip address add {address(rank)}/24 dev {INTERFACE}")
            _run(place, f"ip link set {INTERFACE} up")
            _run(place, "ip link set lo up")
        yield Network(hub, places)


def _namespace(stack: ExitStack) -> list[str]:
    """A new namespace until the stack closes; what to put before a command to run it there."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(holder.wait)
    stack.callback(holder.kill)
    if holder.stdout.readline() != "ready\n":
        raise UserError(f"unshare --net: ended with status {holder.wait()}; run as root, or {_INSTEAD}")
    return ["nsenter", "--target", str(holder.pid), "--net"]


def _burst(rate_bits: float) -> int:
    """Bytes that a link lets through at once; tbf cuts larger packets."""
    return max(3 * 1514, int(rate_bits / 8 * _BURST_SECONDS))


def payload_of_packet(rate_bits: float | None) -> int:
    """Bytes of payload in a full packet: links from 1 Gb/s on let pass what the kernel has merged, 64 KiB at a time."""
    cut = rate_bits is not None and _burst(rate_bits) < _MERGED_BYTES
    return PAYLOAD_OF_PACKET if cut else PAYLOAD_OF_MERGED_PACKET


def _run(place: list[str], command: str) -> None:
    done = subprocess.run([*place, *command.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"{' '.join(place)} {command}: {done.stderr.strip() or done.returncode}; mend that, or {_INSTEAD}"
        )
