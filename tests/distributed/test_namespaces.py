"""What a network in this machine needs is tried before it is promised."""

import re
import subprocess

import pytest

from lowbit.distributed import namespaces
from lowbit.errors import UserError

_TOOL = """#!/bin/sh
case "$*" in {refused}) echo "Error: {said}" >&2; exit 2;; esac
"""
_PASSES_ON = '[ "$1" = --net ] && shift\nexec "$@"\n'
FAILING = {
    "unshare": ("*", "no right to make network namespaces"),
    "ip": ("*bridge*", "no bridges in this kernel"),
    "ip ": ("*veth*", "no virtual links (veth) in this kernel"),
    "tc": ("*tbf*", "no rates of links (tbf) in this kernel"),
    "nsenter": ("*", "no right to enter network namespaces"),
}


def tools(folder, failing: str = "", refused: str = "nothing") -> None:
    """Programs that do nothing, of which one refuses."""
    for name in ("ip", "tc", "unshare", "nsenter"):
        text = _TOOL.format(refused=refused if name == failing else "nothing", said="Operation not permitted")
        (folder / name).write_text(text + (_PASSES_ON if name == "unshare" else ""))
        (folder / name).chmod(0o755)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_nothing_is_missing_where_everything_works(path):
    tools(path)
    assert namespaces.what_is_missing() == ""


@pytest.mark.parametrize(("tool", "refused", "why"), [(t.strip(), *case) for t, case in FAILING.items()])
def test_what_fails_is_named(path, tool, refused, why):
    tools(path, tool, refused)
    told = namespaces.what_is_missing()
    assert told.startswith(why)
    assert told.endswith("(Error: Operation not permitted)")


@pytest.mark.skipif(bool(namespaces.what_is_missing()), reason="no right to make namespaces")
def test_links_are_shaped_again_and_again():
    with namespaces.network(2) as joined:
        for rate, told in ((1e8, "rate 100Mbit"), (2e9, "rate 2Gbit"), (None, "noqueue")):
            joined.shape(rate)
            for place, interface in ((joined.places[1], "eth0"), (joined.hub, "port0")):
                command = [*place, "tc", "qdisc", "show", "dev", interface]
                assert told in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(bool(namespaces.what_is_missing()), reason="no right to make namespaces")
def test_what_waits_behind_a_rate_can_be_replaced_again_and_again():
    """As netem is put there; a plain queue stands for it, since kernels without netem have that."""
    with namespaces.network(2) as joined:
        for rate, shown in ((1e8, "rate 100Mbit"), (2e9, "rate 2Gbit"), (None, ""), (1e8, "rate 100Mbit")):
            for command in namespaces.rules("eth0", rate, 0.001):
                words = re.sub("netem delay [0-9]+us", "pfifo", command).split()
                subprocess.run([*joined.places[0], *words], check=True, capture_output=True)
            asked = [*joined.places[0], "tc", "qdisc", "show", "dev", "eth0"]
            told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
            assert shown in told
            assert ("pfifo 10: parent 1:1" if rate else "root refcnt") in told
            assert ("tbf" in told) == bool(rate), told


def test_a_latency_is_one_way_and_waits_behind_the_rate():
    rate = "tbf rate 100000000bit burst 6875b latency 100ms"
    assert namespaces.rules("eth0", 1e8) == [f"tc qdisc replace dev eth0 root {rate}"]
    assert namespaces.rules("eth0", 1e8, 0.001) == [
        f"tc qdisc replace dev eth0 root handle 1: {rate}",
        "tc qdisc replace dev eth0 parent 1:1 handle 10: netem delay 1000us limit 1000",
    ]
    assert namespaces.rules("eth0", None) == ["tc qdisc replace dev eth0 root noqueue"]
    assert namespaces.rules("eth0", None, 2e-5) == ["tc qdisc replace dev eth0 root netem delay 20us limit 100000"]
    in_flight = int(namespaces.rules("eth0", 1e10, 0.05)[1].split()[-1]) * 1448
    assert in_flight > 1e10 / 8 * 0.05, "a long link must hold what is on its way"
    told = []
    joined = namespaces.Network(["hub"], [["place"]])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(namespaces, "_run", lambda place, command: told.append((*place, "netem" in command)))
        joined.shape(1e8, 0.001)
    assert told == [("hub", False), ("place", False), ("place", True)]


def test_a_latency_that_the_kernel_cannot_make_is_refused(path):
    tools(path, "tc", "*netem*")
    assert namespaces.what_is_missing() == "", "it is not needed without a latency"
    namespaces.demand_latency(0.0)
    with pytest.raises(
        UserError, match=r"a latency of 1 ms on links: needs netem, .*Operation not permitted.*modprobe"
    ):
        namespaces.demand_latency(0.001)
    tools(path)
    namespaces.demand_latency(0.001)


def test_a_failure_says_what_to_do_instead(path):
    tools(path, "nsenter", "*master*")
    instead = r"Operation not permitted; mend that, or measure on loopback alone: python -m lowbit netbench --loopback"
    with pytest.raises(UserError, match=instead), namespaces.network(2):
        pass
