"""Memory that tensors free is used again, where the C library lets a process say so.

glibc adapts its thresholds to what a process frees first, so both processes start from fixed ones.
"""

import os
import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from lowbit.train.machine import keep_freed_memory
{call}
def step():
    x = torch.ones(1_000_000)
    kept = [x + number for number in range(6)]
    return sum(t.sum() for t in kept)
for _ in range(10):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call: str) -> int:
    command = [sys.executable, "-c", STEPS.format(call=call)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_tensors_are_not_faulted_in_again():
    kept, returned = faults("keep_freed_memory()"), faults("")
    assert returned > 5000, "tensors of 4 MB have 977 pages: otherwise this test shows nothing"
    assert kept < returned / 4
