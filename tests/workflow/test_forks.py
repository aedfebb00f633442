"""A fork is to its caller what a process that was started would be."""

import os

import pytest

from tests.workflow.forks import forked

JOB = """
import os, signal, sys, threading, time
print(os.getcwd(), __name__, *sys.argv[1:], os.environ["TOLD"], "lowbit" in sys.modules)
print("threads", os.environ.get("OMP_NUM_THREADS"), sys.modules["torch"].get_num_threads())
print(os.environ.get("HOME"), file=sys.stderr)
match sys.argv[1]:
    case "status":
        sys.exit(3)
    case "words":
        sys.exit("some words")
    case "error":
        raise ValueError("an error")
    case "thread":
        threading.Thread(target=lambda: [time.sleep(0.5), print("a late word")]).start()
    case "kill":
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("how", "status", "last"), [
    ("end", 0, "None"), ("status", 3, "None"), ("words", 1, "some words"), ("error", 1, "ValueError: an error"),
    ("thread", 0, "a late word"), ("kill", 1, None),
])  # fmt: skip
def test_it_works_in_its_folder_and_ends_with_its_status(how, status, last, tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    told = {"TOLD": "what it was told", "OMP_NUM_THREADS": "2"}
    environment = {k: v for k, v in os.environ.items() if k != "HOME"} | told
    ended = forked(["-m", "job", how, "a b"], tmp_path, environment)
    assert ended.returncode == status, ended.stdout
    lines = ended.stdout.splitlines()
    assert f"{tmp_path} __main__ {how} a b what it was told False" in lines
    assert "threads 2 2" in lines
    assert last is None or last in lines
