"""CUDA implementations of `lowbit.kernels`, in Triton: nothing of it is imported before a CUDA tensor comes.

`select` puts the launches in order, `_layout` says where things stand, and the kernels are in `_passes` (over all
entries), `_steps` (one program a segment) and `_order` (candidates into outputs). `compilation` compiles them without a
device; `interpreted` runs them without one, and `traffic` counts the bytes that they move.

Raises:
    UserError: where Triton is not installed.
"""

from importlib.util import find_spec

from lowbit.errors import UserError

if find_spec("triton") is None:  # not imported here: what interprets kernels sets its environment first
    raise UserError(
        "CUDA kernels need Triton, which is not installed (it exists for Linux); pip install triton, or stay on the CPU"
    )
