"""Real processes with gloo between them: started in a tenth of a second each, and gone whatever happens.

Processes are forked from a server that has imported PyTorch and compiled the kernels (`imported.py`), and which has
never run autograd, so that forking is safe. Arguments and results travel as bytes of `torch.save`: as objects of a
message tensors would be sent as open files, of which there may not be many. When one fails or time is up, all are
killed and waited for.
"""

import io
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from lowbit.compressors._base import Sparse

_SERVER = multiprocessing.get_context("forkserver")


def _start_server() -> None:
    """Python 3.11 does not tell the server where the modules lie that it is to import."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    _SERVER.set_forkserver_preload(["imported"])
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


class Ended(NamedTuple):
    """How a rank has ended: what it returned or said, its exit status (negative for a signal), and when."""

    result: Any
    error: str
    status: int
    seconds: float


def run(function: Callable[..., Any], world: int, *arguments: Any, seconds: float = 100) -> list[Any]:
    """What `function(rank, world, *arguments)` returned on every rank, in rank order; fails when any rank fails."""
    ended = endings(function, world, *arguments, seconds=seconds, stop_early=True)
    errors = [f"rank {rank} (exit {end.status}): {end.error}" for rank, end in enumerate(ended) if end.status]
    # the first to fail is the cause: the others were killed, or saw a connection close
    assert not errors, "\n".join(sorted(errors, key=lambda text: "exit -9" in text))
    return [end.result for end in ended]


def endings(
    function: Callable[..., Any],
    world: int,
    *arguments: Any,
    seconds: float = 100,
    stop_early: bool = False,
    tcp: bool = False,
    without: tuple[int, ...] = (),
) -> list[Ended]:
    """How every rank ends; what still runs after so many seconds is killed.

    Args:
        function: called with rank, world and arguments.
        world: number of ranks.
        arguments: plain values, ranges, tensors, what compressors send, and collections of them; so is the result.
        seconds: time limit.
        stop_early: whether all are killed when one has failed.
        tcp: whether rank 0 keeps the store, instead of a file.
        without: ranks that are not waited for.
    """
    _start_server()
    with tempfile.TemporaryDirectory() as folder:
        started, processes, pipes = time.monotonic(), [], []
        place = _free_port() if tcp else f"{folder}/store"
        sent = _packed(arguments)
        ends = started + seconds
        found: dict[int, tuple[Any, str]] = {}
        times: dict[int, float] = {}
        try:
            for rank in range(world):
                ours, theirs = multiprocessing.Pipe(duplex=False)
                process = _SERVER.Process(target=_rank, args=(theirs, function, rank, world, place, sent))
                process.start()
                theirs.close()
                processes.append(process)
                pipes.append(ours)
            while len(times.keys() | set(without)) < world and (left := ends - time.monotonic()) > 0:
                running = {r: p for r, p in enumerate(processes) if r not in times}
                wait([p.sentinel for p in running.values()] + [pipes[r] for r in running if r not in found], left)
                for rank, process in running.items():
                    if rank not in found and pipes[rank].poll():
                        found[rank] = _received(pipes[rank])
                    if not process.is_alive():
                        times[rank] = time.monotonic() - started
                if stop_early and any(processes[r].exitcode for r in times):
                    break
        finally:
            for process in processes:
                process.kill()
                process.join(10)
    late = (None, f"still running after {seconds} s" if time.monotonic() >= ends else "killed")
    return [
        Ended(*found.get(rank, late if rank not in times else (None, "")), process.exitcode, times.get(rank, seconds))
        for rank, process in enumerate(processes)
    ]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _packed(values: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def _unpacked(sent: bytes) -> Any:
    with torch.serialization.safe_globals([range, Sparse]):
        return torch.load(io.BytesIO(sent), weights_only=True)


def _received(pipe: Connection) -> tuple[Any, str]:
    try:
        return _unpacked(pipe.recv_bytes())
    except EOFError:
        return None, "ended without a word"


def _rank(pipe: Connection, function: Callable[..., Any], rank: int, world: int, place: str | int, sent: bytes) -> None:
    """In the process: join the group, compute, tell the result or the error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    if isinstance(place, int):
        store = dist.TCPStore("127.0.0.1", place, world, is_master=rank == 0)
    else:
        store = dist.FileStore(place, world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    try:
        told = function(rank, world, *_unpacked(sent)), ""
    except BaseException as error:  # pytest's failures are no exceptions of the ordinary kind
        pipe.send_bytes(_packed((None, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")))
        raise SystemExit(3) from None
    pipe.send_bytes(_packed(told))
    dist.barrier()
    dist.destroy_process_group()
