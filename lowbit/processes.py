"""Processes that belong together: a job ends with the Snakemake that started it, and a lock with its owner.

A Snakemake that is killed leaves its jobs running (a device stays busy, an output is written twice) and its lock in
place. Rules therefore export `LOWBIT_PARENT`, which `python -m lowbit` hands to `die_with`; `python -m lowbit unlock`
removes a lock that nobody holds.
"""

import datetime
import logging
import os
import platform
import re
import signal
import threading
import time
from pathlib import Path

from lowbit.errors import UserError

log = logging.getLogger("lowbit")

_PROC = Path("/proc")
_LOG_STAMP = "%Y-%m-%dT%H%M%S.%f.snakemake"
_HOST = re.compile(r"^\s*Host: (\S+)$", re.MULTILINE)


class LockHeld(UserError):
    """The Snakemake lock of a folder is, or may be, in use; the message says by whom and what to do."""


def die_with(parent_pid: int, *, poll_seconds: float = 0.5, grace_seconds: float = 20.0) -> None:
    """Watch a process from a daemon thread; once it is gone, send this process SIGTERM, and later SIGKILL.

    The kernel's own PR_SET_PDEATHSIG would watch the direct parent, which in a rule is a shell that outlives Snakemake.

    Args:
        parent_pid: the process to live with; a number that was reused since counts as gone.
        poll_seconds: time between two looks.
        grace_seconds: time left after SIGTERM to save the state of a run.
    """
    born, own_birth = _birth(parent_pid), _birth(os.getpid())
    if born is not None and own_birth is not None and born > own_birth:
        born = None

    def watch() -> None:
        while born is not None and _birth(parent_pid) == born:
            time.sleep(poll_seconds)
        log.warning("process %d, for which this one works, has ended: stopping", parent_pid)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="die_with", daemon=True).start()


def running_snakemakes(folder: Path) -> list[int]:
    """Process numbers of the Snakemakes that work in a folder on this host, those inside its jobs included.

    Raises:
        LockHeld: on a system without /proc, where this cannot be known.
    """
    if not (_PROC / "self").exists():
        raise LockHeld("no /proc here to look for a running Snakemake; if none runs, use `snakemake --unlock`")
    folder = folder.resolve()
    return sorted(int(p.name) for p in _PROC.iterdir() if p.name.isdigit() and _is_snakemake_in(p, folder))


def remove_stale_lock(folder: Path) -> bool:
    """Remove the Snakemake lock of a folder if its owner has died, and say whether there was one.

    Raises:
        LockHeld: when a Snakemake works in the folder, or the owner cannot be looked for from here.
    """
    locks = sorted((folder / ".snakemake" / "locks").glob("*.lock"))
    if not locks:
        return False
    if pids := running_snakemakes(folder):
        names = ", ".join(map(str, pids))
        raise LockHeld(f"{folder}: Snakemake still works here (process {names}); wait for it, or end it with kill -INT")
    host = _host_of_owner(folder, locks[0])
    if host not in (None, platform.node()):
        raise LockHeld(
            f"{folder}: locked from host {host}, and this is {platform.node()}; run this command there, "
            "or `snakemake --unlock` if that Snakemake has died"
        )
    for lock in locks:
        lock.unlink(missing_ok=True)
    return True


def _birth(pid: int) -> int | None:
    """Start of a living process in clock ticks since boot (0 without /proc); None when it is dead or a zombie."""
    if not (_PROC / "self").exists():
        return _birth_by_signal(pid)
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses, which may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _birth_by_signal(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0


def _is_snakemake_in(process: Path, folder: Path) -> bool:
    """Whether a /proc entry is a living Snakemake in a folder; processes of others are not ours to see."""
    try:
        arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        program = Path(arguments[0]).name
        # `snakemake`, `python .../bin/snakemake` or `python -m snakemake`, perhaps with options of Python before it.
        named = program == "snakemake" or (
            program.startswith("python") and any(Path(a).name == "snakemake" for a in arguments[1:6])
        )
        return named and (process / "cwd").readlink() == folder
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False


def _host_of_owner(folder: Path, lock: Path) -> str | None:
    """Where the lock was taken, from the last Snakemake log begun before it; None when no log says so."""
    locked = datetime.datetime.fromtimestamp(lock.stat().st_mtime)
    begun = {}
    for path in (folder / ".snakemake" / "log").glob("*.snakemake.log"):
        try:
            stamp = datetime.datetime.strptime(path.stem, _LOG_STAMP)
        except ValueError:
            continue
        if stamp <= locked:
            begun[stamp] = path
    if not begun:
        return None
    found = _HOST.search(begun[max(begun)].read_text(errors="replace"))
    return found and found.group(1)
