"""What a network in this machine needs is tried before it is promised."""

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


def test_a_failure_says_what_to_do_instead(path):
    tools(path, "nsenter", "*master*")
    instead = r"Operation not permitted; mend that, or measure on loopback alone: python -m lowbit netbench --loopback"
    with pytest.raises(UserError, match=instead), namespaces.network(2):
        pass
