"""The cost model: its formulas, what it says of other machines, and the command that answers with it."""

import doctest
import math

import pytest

from lowbit import cost
from lowbit.__main__ import main
from lowbit.cost_assumptions import Assumptions
from lowbit.errors import UserError

SPARSE = [scheme for scheme in cost.SCHEMES if scheme != "dense"]


def test_the_example_is_right():
    outcome = doctest.testmod(cost, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted == 3
    assert outcome.failed == 0


@pytest.mark.parametrize("ranks", [2, 4, 8, 4096])
def test_crossovers_by_bytes_are_the_closed_forms(ranks):
    entries = 1_000_000
    assert cost.crossover("allgather", ranks, entries) == pytest.approx(1 / ranks)
    assert cost.crossover("shared", ranks, entries) == 1
    assert cost.crossover("gtopk", ranks, entries) == pytest.approx((ranks - 1) / (2 * ranks * math.log2(ranks)))
    assert cost.crossover("oktopk", ranks, entries) == pytest.approx(0.5 - 1.5 * ranks / entries)


def test_counts_can_outweigh_a_small_gradient():
    for entries in (1000, 100_000):
        density = cost.crossover("oktopk", 64, entries)
        assert cost.volume("oktopk", 64, entries, density).in_row == pytest.approx(
            cost.volume("dense", 64, entries).in_row
        )
    assert cost.crossover("oktopk", 64, 100) == 0


def test_a_ring_of_two_sends_half_twice():
    assert cost.volume("dense", 2, 1000) == cost.Volume(4000, 4000, 2)
    assert cost.volume("gtopk", 5, 1000, 0.1).in_row == 2 * 3 * 800  # as deep as a tree of eight
    with pytest.raises(ValueError, match="scheme 'ring': must be one of dense, allgather"):
        cost.volume("ring", 2, 1000)


def test_messages_in_a_row():
    def messages(ranks, trees):
        return [cost.volume(scheme, ranks, 1000, 0.1, trees=trees).messages for scheme in cost.SCHEMES]

    assert cost.SCHEMES == ("dense", "allgather", "shared", "gtopk", "oktopk")
    assert messages(2, trees=False) == [2, 1, 2, 2, 5]
    assert messages(64, trees=False) == [126, 63, 126, 12, 315]
    assert messages(64, trees=True) == [12, 6, 12, 12, 144]
    assert messages(5, trees=True) == [6, 3, 6, 6, 17]


def test_compression_and_sums_by_hand():
    # 1000 bytes of memory a second: 10 ms to compress each of 1000 entries, 20 ms to add each of 100 that arrive
    assumed = Assumptions(compress_bytes=10, sum_bytes=20, memory_bytes_per_second=1000)
    seconds = {s: assumed.compress_seconds(s, 8, 1000, 0.1) for s in cost.SCHEMES}
    assert seconds == pytest.approx({"dense": 0, "allgather": 26, "shared": 12, "gtopk": 22, "oktopk": 14})
    measured = assumed.model_copy(update={"compress_seconds_per_entry": 0.5})
    assert measured.compress_seconds("allgather", 8, 1000, 0.1) == pytest.approx(500 + 16)


def test_a_step_on_assumptions_by_hand():
    worker = {"tokens": 10, "flops_per_second": 1000, "forward_flops": 2, "backward_flops": 4}
    network = {"latency_seconds": 1.0, "dense_bytes": 2, "value_bytes": 4}
    assumed = Assumptions(
        **worker, **network, compress_bytes=10, sum_bytes=20, memory_bytes_per_second=1000, overlap=0.5
    )
    rate = 8 * (1 + 99 / 1448) * 100  # 100 bytes of payload a second
    assert assumed.backward_seconds(1000) == pytest.approx(40)
    assert assumed.compute_seconds(1000) == pytest.approx(60)
    # 2 * 7/8 * 2000 bytes: 35 s, and 2 log2 8 messages; half of backward hides 20 of these 41 s
    assert assumed.step_seconds("dense", 8, 1000, 1.0, rate) == pytest.approx(60 + 21)
    # 7 * 8 * 100 bytes: 56 s, and log2 8 messages; less 20 s; 26 s to compress and to add
    assert assumed.step_seconds("allgather", 8, 1000, 0.1, rate) == pytest.approx(60 + 39 + 26)


def test_trees_send_as_much_in_fewer_messages():
    for scheme in cost.SCHEMES:
        ring, tree = (cost.volume(scheme, 64, 1000, 0.1, trees=trees) for trees in (False, True))
        assert ring.in_row == tree.in_row
        assert ring.messages >= tree.messages


def test_a_packet_has_its_headers_and_a_message_its_own():
    assert cost.framed_bytes(1448, 0) == 1448 + cost.PACKET_BYTES
    assert cost.framed_bytes(0, 3) == 3 * cost.MESSAGE_BYTES
    assert cost.framed_bytes(10**6, 0, cost.PAYLOAD_OF_MERGED_PACKET) < 1.002e6


def test_the_slower_of_network_and_host_counts():
    volume = cost.Volume(sent=1e6, in_row=1e6, messages=3)
    slow, fast = cost.Link(1e8, 1e-3, 2e-9), cost.Link(1e12, 1e-3, 2e-9)
    assert cost.exchange_seconds(volume, slow, 0.5) == pytest.approx(0.503 + 8e6 * (1 + 99 / 1448) / 1e8)
    assert cost.exchange_seconds(volume, fast, 0.5) == pytest.approx(0.503 + 2e-3)
    assert cost.Link().seconds_per_byte == 0


def test_backward_hides_the_network_and_not_the_compressor():
    assert cost.step_seconds(10.0, wire_seconds=3.0, backward_seconds=4.0, compress_seconds=1.0) == 11
    assert cost.step_seconds(10.0, wire_seconds=6.0, backward_seconds=4.0, compress_seconds=1.0) == 13
    assert cost.step_seconds(10.0, wire_seconds=6.0) == 16


@pytest.mark.parametrize("scheme", SPARSE)
@pytest.mark.parametrize("rate", [1e9, 1e11])
def test_at_the_crossover_both_steps_take_as_long(scheme, rate):
    assumed = Assumptions()
    density = assumed.crossover(scheme, 64, 355e6, rate)
    assert 0 < density < 1
    dense = assumed.step_seconds("dense", 64, 355e6, 1.0, rate)
    assert assumed.step_seconds(scheme, 64, 355e6, density, rate) == pytest.approx(dense)
    assert assumed.step_seconds(scheme, 64, 355e6, 0.9 * density, rate) < dense


def test_where_each_pays_is_as_documented():
    assumed = Assumptions()

    def limits(scheme, entries, rate):
        return [assumed.crossover(scheme, ranks, entries, rate) for ranks in (8, 64, 1024, 4096)]

    assert limits("oktopk", 355e6, 1e9) == pytest.approx([0.25] * 4, rel=0.02)
    assert limits("oktopk", 355e6, 1e10) == pytest.approx([0.25, 0.25, 0.242, 0.223], abs=0.003)
    assert limits("oktopk", 7e9, 1e11) == pytest.approx([0.225] * 4, abs=0.007)
    assert limits("oktopk", 7e9, 2e11) == pytest.approx([0.205] * 4, abs=0.015)
    assert limits("oktopk", 355e6, 1e11)[1:] == pytest.approx([0.23, 0.17, 0], abs=0.005)
    for rate, share in ((1e10, 0.99), (1e11, 0.92), (2e11, 0.85)):
        bounds = [share / (2 * ranks) for ranks in (8, 64, 1024, 4096)]
        assert limits("allgather", 7e9, rate) == pytest.approx(bounds, rel=0.02)


def test_what_backward_hides_cannot_be_saved():
    assumed = Assumptions(tokens=1e6)
    assert {scheme: assumed.crossover(scheme, 64, 355e6, 4e11) for scheme in SPARSE} == dict.fromkeys(SPARSE, 0.0)


def test_a_benchmark_replaces_the_compressor(tmp_path):
    path = tmp_path / "mine.csv"
    row = "compressors,{} n={} density={} input=normal{},milliseconds,{},ms"
    rows = [("hggtopk", 10**6, 0.01, "", 9.0), ("hggtopk", 10**6, 0.01, " device=cuda", 0.5),
            ("hggtopk", 10**8, 0.01, " device=cuda", 2.0), ("hggtopk", 10**8, 0.05, " device=cuda", 7.0),
            ("topk", 10**8, 0.01, " device=cuda", 30.0)]  # fmt: skip
    path.write_text("\n".join(["benchmark,case,metric,value,unit", *(row.format(*r) for r in rows)]))
    assert Assumptions().measured_by(path, "hggtopk", 0.01).compress_seconds_per_entry == pytest.approx(2e-11)
    assert Assumptions().measured_by(path, "hggtopk", 0.05).compress_seconds_per_entry == pytest.approx(7e-11)
    with pytest.raises(UserError, match=r"no milliseconds of sidco; make it: python -m lowbit benchmark compressors"):
        Assumptions().measured_by(path, "sidco", 0.01)
    with pytest.raises(UserError, match=r"not a CSV of `python -m lowbit benchmark compressors`"):
        Assumptions().measured_by(tmp_path, "topk", 0.01)


def test_the_command_answers(capsys):
    case = ["cost", "--entries", "355M", "--workers", "64"]
    assert main([*case, "--rate", "10gbit"]) == 0
    told = capsys.readouterr().out
    assert "assumed (not measured" in told
    assert told.splitlines()[-1].startswith("It pays: a step with density 0.01 by oktopk is 17.")
    assert main([*case, "--rate", "400gbit", "--assume", "tokens=1e6"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("It does not pay")


@pytest.mark.parametrize(("overlap", "hidden"), [(1, 29.08), (0.25, 7.27), (0, 0)])
def test_the_command_hides_as_much_as_is_assumed(overlap, hidden, capsys):
    # 4 operations of 355e6 parameters and 8192 tokens, at 4e14 a second: 29.08 ms
    case = ["cost", "--entries", "355M", "--workers", "64", "--rate", "10gbit", "--assume", f"overlap={overlap}"]
    assert main(case) == 0
    assert f"backward hides up to {hidden:g} ms of the network\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--assume", "tokns=1"], "did you mean 'tokens'"),
        (["--assume", "tokens=x"], "--assume tokens=x: Input should be a valid number"),
        (["--workers", "1"], "one alone exchanges nothing"),
        (["--density", "2"], "--density 2: must be in (0, 1]"),
        (["--compressor", "topk"], "--compressor topk: its time is taken from a benchmark; add --benchmark CSV"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, said, capsys):
    assert main(["cost", "--entries", "1M", "--workers", "4", "--rate", "1gbit", *arguments]) != 0
    assert said in capsys.readouterr().err
