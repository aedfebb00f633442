"""A fork is to its caller what a process that was started would be."""

import os

import pytest

from tests.workflow.forks import forked

JOB = """
import os, signal, sys
print(os.getcwd(), __name__, *sys.argv[1:], os.environ["TOLD"], "torch" in vars())
print(os.environ.get("HOME"), file=sys.stderr)
match sys.argv[1]:
    case "status":
        sys.exit(3)
    case "words":
        sys.exit("some words")
    case "error":
        raise ValueError("an error")
    case "kill":
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("how", "status", "last"), [
    ("end", 0, "None"), ("status", 3, "None"), ("words", 1, "some words"), ("error", 1, "ValueError: an error"),
    ("kill", 1, None),
])  # fmt: skip
def test_it_works_in_its_folder_and_ends_with_its_status(how, status, last, tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    environment = {k: v for k, v in os.environ.items() if k != "HOME"} | {"TOLD": "what it was told"}
    ended = forked(["-m", "job", how, "a b"], tmp_path, environment)
    assert ended.returncode == status, ended.stdout
    lines = ended.stdout.splitlines()
    assert f"{tmp_path} __main__ {how} a b what it was told False" in lines
    assert last is None or last in lines
