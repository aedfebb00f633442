"""A second process finds the compiled kernels: it compiles nothing."""

import subprocess
import sys

CODE = """
import torch
from lowbit.compressors import make
from lowbit.kernels import _guess, _kth, _passes

session = make("hggtopk")
for scale in (1, 1, 1, 1e6):
    session.send(scale * torch.randn(500), "w", 0.05)
functions = [f for module in (_guess, _kth, _passes) for f in vars(module).values() if hasattr(f, "stats")]
hits, misses = ([sum(getattr(f.stats, kind).values()) for f in functions] for kind in ("cache_hits", "cache_misses"))
"""


def test_a_second_process_compiles_nothing():
    exec(CODE, {})
    count = "print(sum(hits), sum(misses))"
    second = subprocess.run([sys.executable, "-c", CODE + count], capture_output=True, text=True, check=True)
    found, compiled = map(int, second.stdout.split())
    assert found > 0
    assert compiled == 0
