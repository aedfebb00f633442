"""One seed, one result: every random draw is a function of (seed, purpose, position), so nothing has to be remembered.

A resumed run re-derives the generator of the step it is at; arms of one seed share initialisation, data order and
augmentation, however many numbers each of them consumes.
"""

import hashlib
import os

import torch


def derived_seed(seed: int, purpose: str, position: int = 0) -> int:
    """A 63-bit seed for one purpose at one position of one run."""
    content = f"{seed}/{purpose}/{position}".encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1


def generator(seed: int, purpose: str, position: int = 0) -> torch.Generator:
    """A CPU generator seeded by `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, position))


def seed_layers(seed: int, device: str) -> None:
    """Seed the generator that layers draw from on their device.

    `torch.manual_seed` reaches every device and formats a stack trace for each that is not in use, at every step.
    """
    (torch.default_generator if device == "cpu" else torch.cuda).manual_seed(seed)


def make_deterministic(threads: int) -> None:
    """Fix the number of CPU threads and refuse kernels whose result varies between runs.

    Args:
        threads: of every CPU kernel; sums are grouped by thread, so results are exact for one value only.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # Moments of weights whose gradient stays zero decay into denormal numbers, 46 times as slow on a CPU.
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
