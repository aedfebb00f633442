"""Triton's interpreter at a usable speed: kernels run on CPU tensors, one program after another.

`TRITON_INTERPRET=1` must stand in the environment before Triton is imported, so this is for processes of their own.
The interpreter exchanges Triton's language for NumPy at every call of every device function, and back; nearly all of
its time goes into that. Here it is exchanged once, for as long as the process lives, and overflow of integers is not
looked for.
"""

import dataclasses

from triton import language
from triton.runtime import interpreter

from lowbit.errors import UserError
from lowbit.kernels.triton import _passes


class _Kept:
    def restore(self) -> None:
        """Leave the language as it is."""


def keep_interpreting() -> None:
    """Exchange the language for the rest of this process.

    Raises:
        UserError: when Triton was imported as a compiler.
    """
    if not isinstance(_passes.collect, interpreter.InterpretedFunction):
        raise UserError("kernels of this process are compiled; set TRITON_INTERPRET=1 before it starts")
    if isinstance(interpreter._patch_lang(_passes.collect.fn), _Kept):
        return
    interpreter._patch_lang(language.sum.fn)
    interpreter._patch_lang = lambda _: _Kept()
    options = interpreter.interpreter_builder.options
    interpreter.interpreter_builder.options = dataclasses.replace(options, sanitize_overflow=False)  # a quarter more
