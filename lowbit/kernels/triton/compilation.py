"""Compilation of every kernel for GPUs that are not there, from the launches that calls make.

Calls on meta tensors, with a launcher that only notes what it is given, say which kernels there are and with which
types: there is no list that could be out of step. What a thread needs is read from the machine code by `cuobjdump`,
which comes with Triton. A stack in local memory is where spilled registers go: a kernel without one has spilled none.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from itertools import product
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lowbit.kernels.selection import SLOTS
from lowbit.kernels.triton import select

_GRADIENTS = (torch.float32, torch.bfloat16, torch.float16, None)
_SEGMENTS = 3
_SIZE, _K = 1 << 20, 10_000
_TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


class Signature(NamedTuple):
    """One way in which a kernel is launched.

    Args:
        module: that it is in.
        name: of the kernel.
        types: of its arguments, in Triton's notation; `None` for one that is left out, `1` for a number that the
            compiler knows to be that, `:16` for what it knows to be a multiple of 16.
        settings: constants, and how many warps.
    """

    module: str
    name: str
    types: tuple[str, ...]
    settings: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        given, settings = dict(zip(self.kernel.arg_names, self.types, strict=False)), dict(self.settings)
        words = [self.name]
        if given.get("gradient", "None") != "None":
            words.append(given["gradient"].removeprefix("*").removesuffix(":16"))
            if not given["gradient"].endswith(":16"):
                words.append("unaligned")
        if settings.get("ADDS"):
            words.append("adds")
        if "SHIFT" in settings:
            words.append(f"bits from {settings['SHIFT']}")
        if settings.get("FINITE"):
            words.append("finite")
        if given.get("history") == "None":
            words.append("alone")
        if given.get("layout", "None") != "None":
            words.append("segments")
        elif given.get("size") == "1":
            words.append("one entry")
        elif given.get("size", "").endswith(":16"):
            words.append("vectors")
        return ", ".join(words)

    def unaligned(self) -> "Signature":
        """The same for a gradient that begins anywhere, as that of a layer inside a bucket."""
        names = self.kernel.arg_names
        types = (t.removesuffix(":16") if n == "gradient" else t for n, t in zip(names, self.types, strict=False))
        return self._replace(types=tuple(types))

    @property
    def kernel(self) -> Any:
        """The function."""
        return getattr(import_module(self.module), self.name)


class Compiled(NamedTuple):
    """What the compiler made of a kernel.

    Args:
        signature: the kernel.
        target: such as sm_90.
        registers: of a thread.
        shared_bytes: of a program.
        stack_bytes: of a thread, in local memory.
        error: what the compiler said when it failed.
    """

    signature: Signature
    target: str
    registers: int = 0
    shared_bytes: int = 0
    stack_bytes: int = 0
    error: str = ""


def signatures() -> list[Signature]:
    """Every way in which kernels are launched, in order."""
    found: dict[Signature, None] = {}

    def note(kernel: Any, programs: int, *arguments: Any, **settings: int) -> None:
        types = tuple(_type_of(a, p.do_not_specialize) for a, p in zip(arguments, kernel.params, strict=False))
        found[Signature(kernel.fn.__module__, kernel.__name__, types, tuple(settings.items()))] = None

    residual, history = _meta(_SIZE), _meta(_SEGMENTS, SLOTS, dtype=torch.float64)
    layout, sizes, ks = _meta(5, _SEGMENTS + 1, dtype=torch.int64), [_SIZE // _SEGMENTS] * _SEGMENTS, [_K] * _SEGMENTS
    for dtype, finite in product(_GRADIENTS, (False, True)):
        gradient = None if dtype is None else _meta(_SIZE, dtype=dtype)
        for size in (_SIZE, _SIZE - 1, 1):
            cut = None if gradient is None else gradient[:size]
            select.select(cut, residual[:size], history[0], min(_K, size), finite, launch=note)
            if cut is not None:
                select.largest_magnitude(cut, launch=note)
        select.select_of_each(gradient, residual, history, layout, sizes, ks, finite, launch=note)
    return list(dict.fromkeys(s for one in found for s in (one, one.unaligned())))


def compile_all(targets: Sequence[str], processes: int = 1) -> Iterator[Compiled]:
    """Compile every kernel for every target, in processes of their own. Triton's cache keeps what it has compiled."""
    jobs = product(signatures(), targets)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(compile_one, *zip(*jobs, strict=True))


def compile_one(signature: Signature, target: str) -> Compiled:
    """Compile one kernel as if a GPU of that kind were there."""
    kernel, settings = signature.kernel, dict(signature.settings)
    names = kernel.arg_names
    typed = dict(zip(names, signature.types, strict=False))
    given = {n: t.removesuffix(":16") for n, t in typed.items() if t not in ("None", "1")}
    types = dict.fromkeys(names, "constexpr") | given
    constants = {n: 1 if typed.get(n) == "1" else settings.pop(n, None) for n in names if n not in given}
    aligned = {(i,): [["tt.divisibility", 16]] for i, t in enumerate(signature.types) if t.endswith(":16")}
    gpu = GPUTarget("cuda", int(target.removeprefix("sm_")), 32)
    try:
        compiled = triton.compile(ASTSource(kernel, types, constants, aligned), target=gpu, options=settings)
    except Exception as error:
        return Compiled(signature, target, error=f"{type(error).__name__}: {error}")
    used = resources(compiled.asm["cubin"])
    return Compiled(signature, target, used["REG"], compiled.metadata.shared, used["STACK"] + used["LOCAL"])


def resources(code: bytes) -> dict[str, int]:
    """What a thread of a kernel uses, by cuobjdump's names: REG registers, bytes of STACK and LOCAL memory."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"(\w+):(\d+)", text)}


def _meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def _type_of(argument: Any, varies: bool) -> str:
    if isinstance(argument, Tensor):
        return f"{_TYPES[argument.dtype]}:16"  # as PyTorch allocates
    if argument is None:
        return "None"
    if argument == 1 and not varies:
        return "1"
    return "i32" if varies or argument % 16 else "i32:16"
