"""Processes of `python -m lowbit` and `python -m snakemake` without their start, which costs more than what they do.

A server that has imported third-party packages, and nothing of this one, forks for every command; the fork imports the
package from the folder it is to work in, has the caller's environment and output, and ends with the command's status.
"""

import atexit
import importlib
import json
import os
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path

IMPORTED = {
    "snakemake": ("snakemake.cli", "snakemake.report.html_reporter", "pandas", "pydantic"),
    "lowbit": (
        *("torch", "torch._dynamo", "torch._inductor.config", "torch.distributed", "safetensors.torch", "tokenizers"),
        *("numba", "pandas", "pydantic", "scipy.stats", "seaborn", "sklearn.datasets", "statsmodels.api", "tqdm"),
    ),
}

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""A library reads these when it is imported. One that starts threads then could not be forked."""


def forked(arguments: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """`python ARGUMENTS` in a folder; its whole output is in `stdout`."""
    module = arguments[1] if arguments[1] in IMPORTED else "lowbit"
    command = [sys.executable, "-IS", __file__, _server(module), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def shell_start(folder: Path) -> str:
    """A file for BASH_ENV: in shells that read it, `python` forks."""
    words = shlex.join([sys.executable, "-IS", __file__, _server("lowbit")])
    path = folder / "python.bash"
    path.write_text(f'python() {{ {words} "$@"; }}\n')
    return str(path)


@cache
def _server(module: str) -> str:
    """Where the server for a module listens."""
    place = tempfile.mkdtemp(prefix="lowbit-forks-")  # names of sockets must be short
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | dict.fromkeys(THREADS, "1")
    server = subprocess.Popen([sys.executable, __file__, f"{place}/socket", module, str(os.getpid())], env=environment)
    atexit.register(server.kill)
    for _ in range(1200):
        if Path(f"{place}/ready").exists():
            return f"{place}/socket"
        assert server.poll() is None, "the server ended"
        time.sleep(0.1)
    raise AssertionError("the server does not start")


def serve(place: str, module: str, parent: int) -> None:
    """Fork for whoever connects, until the parent is gone."""
    for name in IMPORTED[module]:
        importlib.import_module(name)
    assert "lowbit" not in sys.modules
    assert len(os.listdir("/proc/self/task")) == 1, "threads do not survive a fork"  # noqa: PTH208
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        listener.settimeout(1)
        Path(place).with_name("ready").touch()
        while os.getppid() == parent:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            finally:
                with suppress(ChildProcessError):
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """In a fork: be the command, tell its status."""
    connection.setblocking(True)
    message, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as file:
        arguments, folder, environment = json.loads(file.read(int.from_bytes(message)))
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0], sys.argv = folder, arguments[1:]
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(environment.get("OMP_NUM_THREADS") or os.cpu_count()))
    status = 0
    try:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = (end.code or 0) if isinstance(end.code, int | None) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        status = 1
        traceback.print_exc()
    threading._shutdown()  # waits for those that are no daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([status]))
    os._exit(status)


def ask(place: str, arguments: list[str]) -> int:
    """In the process that stands for a command: have it done, end as it does."""
    request = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()  # noqa: PTH109
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [len(request).to_bytes(4)], [0, 1, 2])
        connection.sendall(request)
        answer = connection.recv(1)
    return answer[0] if answer else 1


if __name__ == "__main__":
    if sys.flags.isolated:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
