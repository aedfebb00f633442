"""How far a job has come: a bar on a terminal; a log has a line now and then, and none of what is done at once."""

import io
from contextlib import redirect_stderr

from lowbit.commands import _progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(stream: io.StringIO) -> str:
    with redirect_stderr(stream):
        assert list(_progress.progress([1, 2, 3], "toy", "point")) == [1, 2, 3]
    return stream.getvalue()


def test_a_terminal_has_a_bar():
    assert "3/3" in told(Terminal())


def test_a_log_has_lines_of_what_takes_long(monkeypatch):
    assert told(io.StringIO()) == ""
    monkeypatch.setattr(_progress, "LOG_SECONDS", 1e-9)
    lines = [line.strip() for line in told(io.StringIO()).splitlines()]
    assert "toy: 2 of 3 points" in [line.partition(",")[0] for line in lines]
