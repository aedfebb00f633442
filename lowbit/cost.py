"""What an exchange of gradients costs: bytes, messages, seconds, and the density below which it pays.

    seconds = compute + latency * messages + bytes * max(framing / rate, host)

with messages and bytes that follow one another (`volume`), compute for what compresses and adds up, and a host that
copies bytes while the network carries others. On the network a payload has headers and acknowledgements around it
(`framed_bytes`):

    >>> volume("allgather", ranks=8, entries=1_000_000, density=0.01)
    Volume(sent=560000.0, in_row=560000.0, messages=7)
    >>> round(exchange_seconds(volume("dense", ranks=8, entries=1_000_000), Link(rate_bits=1e9)), 4)
    0.0598
    >>> crossover("allgather", ranks=8, entries=1_000_000)
    0.125

**Reference**: R. Hockney, The Communication Challenge for MPP, 1994 (latency and bandwidth); R. Thakur,
R. Rabenseifner, W. Gropp, Optimization of Collective Communication Operations in MPICH, 2005.
"""

import math
from dataclasses import dataclass

SCHEMES = ("dense", "allgather", "shared", "gtopk", "oktopk")
PARTS = ("forward", "backward", "compress", "communicate", "decompress", "update", "step")
"""Of a training step, whose seconds are recorded; compress, communicate and decompress overlap with backward."""
INDEX_BYTES = 4
MESSAGE_BYTES = 420
"""Of the transport for a message, measured with gloo over TCP: headers, announcements, and their packets."""
PACKET_BYTES = 99
"""Of Ethernet, IP and TCP for a packet of 1448 bytes, and half an acknowledgement."""
PAYLOAD_OF_PACKET = 1448
PAYLOAD_OF_MERGED_PACKET = 45 * 1448
"""Of what the kernel sends as one packet where a network card, or a fast virtual link, would cut it."""


@dataclass(frozen=True)
class Volume:
    """What an exchange puts on the network.

    Args:
        sent: payload that one rank sends, in bytes, in the mean over ranks.
        in_row: bytes that must follow one another, which is more where some ranks wait for others.
        messages: that must follow one another.
    """

    sent: float
    in_row: float
    messages: int


def volume(
    scheme: str, ranks: int, entries: float, density: float = 1.0, value_bytes: float = 4, trees: bool = False
) -> Volume:
    """Bytes and messages of one exchange.

    Args:
        scheme: one of `SCHEMES`.
        ranks: P, that exchange.
        entries: N, of the gradient.
        density: k / N, fraction of entries sent; without meaning for `dense`.
        value_bytes: of a value on the wire; 2 for 16 bits.
        trees: whether collectives take log2 P messages in a row, as NCCL's do among many ranks, for as many bytes;
            otherwise they go round all ranks as gloo's: in two halves, which do not wait for one another.

    Raises:
        ValueError: for another scheme.
    """
    others, pair = ranks - 1, (value_bytes + INDEX_BYTES) * density * entries
    depth = (ranks - 1).bit_length()
    reduce, gather = (2 * depth, depth) if trees else (2 * others, others)
    if scheme == "dense" or scheme == "shared":
        sent = 2 * others / ranks * value_bytes * entries * (density if scheme == "shared" else 1.0)
        return Volume(sent, sent, reduce)
    if scheme == "allgather":
        return Volume(others * pair, others * pair, gather)
    if scheme == "oktopk":  # bounds and counts are 8 bytes each, and three of them for each other rank
        sent = 2 * others / ranks * pair + 24 * others
        return Volume(sent, sent, reduce + 2 * others + gather)
    if scheme == "gtopk":
        return Volume(2 * others / ranks * pair, 2 * depth * pair, 2 * depth)
    raise ValueError(f"scheme {scheme!r}: must be one of {', '.join(SCHEMES)}")


def crossover(scheme: str, ranks: int, entries: float) -> float:
    """Density below which a scheme sends fewer bytes in a row than a dense all-reduce, both of float32.

    `allgather` 1 / P, `shared` 1, `gtopk` (P - 1) / (2 P log2 P), `oktopk` 1 / 2 - 3 P / (2 N), since it
    sends counts at every density. 1 for every density, 0 for none.
    """
    dense, fixed, whole = (
        volume(name, ranks, entries, density).in_row for name, density in (("dense", 1), (scheme, 0), (scheme, 1))
    )
    return min(1.0, max(0.0, (dense - fixed) / (whole - fixed)))


def framed_bytes(payload: float, messages: float, payload_of_packet: int = PAYLOAD_OF_PACKET) -> float:
    """What the interfaces count for a payload: headers of messages and packets, and acknowledgements with it.

    Args:
        payload: bytes.
        messages: that carry it: of a ring, twice as many as go round one after another, since gloo halves them.
        payload_of_packet: bytes of it in a packet.
    """
    return payload * (1 + PACKET_BYTES / payload_of_packet) + MESSAGE_BYTES * messages


@dataclass(frozen=True)
class Link:
    """Every rank's way to the others.

    Args:
        rate_bits: a second, in each direction; infinite where nothing limits it.
        latency_seconds: of a message, what the processors need for it included.
        host_seconds_per_byte: that the processors need to hand over a byte.
        payload_of_packet: bytes of payload in a packet.
    """

    rate_bits: float = math.inf
    latency_seconds: float = 0.0
    host_seconds_per_byte: float = 0.0
    payload_of_packet: int = PAYLOAD_OF_PACKET

    @property
    def seconds_per_byte(self) -> float:
        """Of payload: what the network or the host needs, whichever is slower."""
        return max(8 * (1 + PACKET_BYTES / self.payload_of_packet) / self.rate_bits, self.host_seconds_per_byte)


def exchange_seconds(of: Volume, link: Link, compute_seconds: float = 0.0) -> float:
    """Time of one exchange.

    Args:
        of: what it puts on the network.
        link: the network.
        compute_seconds: to compress, and to add up what has arrived.
    """
    return compute_seconds + link.latency_seconds * of.messages + link.seconds_per_byte * of.in_row


def step_seconds(
    compute_seconds: float, wire_seconds: float, backward_seconds: float = 0.0, compress_seconds: float = 0.0
) -> float:
    """Time of a training step whose exchange hides behind the rest of backward, as far as that lasts.

    Args:
        compute_seconds: forward, backward and update, without an exchange.
        wire_seconds: of the exchange, without computing.
        backward_seconds: that the exchange may hide behind; 0 where the same processor does both.
        compress_seconds: to compress and to add up; hidden behind nothing, since the same device computes backward.
    """
    return compute_seconds + compress_seconds + max(0.0, wire_seconds - backward_seconds)
