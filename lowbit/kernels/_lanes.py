"""Sixteen entries at a time: compensate, compare, and append what is large, without a branch.

LLVM's vector compression packs chosen lanes together: one instruction with AVX-512, a short sequence elsewhere. Numba
reaches it through `intrinsic`, so that no compiler is needed on the user's machine.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
MAGNITUDE = 0x7FFFFFFF  # every bit of a float32 but its sign; integers of this form are ordered like magnitudes
_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_FLOATS, _INTS, _MASK = (ir.VectorType(element, LANES) for element in (ir.FloatType(), _I32, _I1))
_ANY = ir.Constant(_INTS, ir.Undefined)


def _splat(value: int) -> ir.Constant:
    return ir.Constant(_INTS, [value] * LANES)


def _broadcast(builder, scalar):
    return builder.shuffle_vector(builder.insert_element(_ANY, scalar, _I32(0)), _ANY, _splat(0))


class _Memory:
    """Loads and stores of 16 lanes in the arrays that an intrinsic is given."""

    def __init__(self, context, builder, array_types, arrays):
        self.builder = builder
        self.data = [
            context.make_array(t)(context, builder, a).data if isinstance(t, types.Array) else None
            for t, a in zip(array_types, arrays, strict=True)
        ]

    def place(self, array: int, position, vector=_INTS):
        return self.builder.bitcast(self.builder.gep(self.data[array], [position]), vector.as_pointer())

    def load(self, array: int, position, vector=_INTS):
        return self.builder.load(self.place(array, position, vector), align=4)

    def append(self, array: int, position, lanes, mask) -> None:
        """Move the chosen lanes to the front, and write all 16: what follows the chosen ones is meaningless."""
        packed = _call(self.builder, "llvm.experimental.vector.compress.v16i32", _INTS, [lanes, mask, _ANY])
        self.builder.store(packed, self.place(array, position), align=4)


def _call(builder, name, result, arguments):
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _number_of(builder, mask):
    return builder.zext(_call(builder, "llvm.ctpop.i16", _I16, [builder.bitcast(mask, _I16)]), _I64)


@intrinsic
def collect_sixteen(typing_context, gradient, residual, position, floor, positions, values, count):
    """Add 16 entries of a gradient to the residual, and move those of magnitude bits >= floor to the outputs.

    What is moved is 0 in the residual afterwards. All 16 lanes are written at `count`: outputs need that much room.

    Args:
        gradient: float32 array, or None to add nothing.
        residual: float32 array, changed.
        position: of the first entry; int64.
        floor: int32, bits of the smallest magnitude that is moved.
        positions: int32 array that gets positions.
        values: float32 array that gets signed values.
        count: entries in the outputs so far; int64.

    Returns:
        The new count.
    """

    def generate(context, builder, signature, arguments):
        _, _, position, floor, _, _, count = arguments
        memory = _Memory(context, builder, signature.args, arguments)
        x = memory.load(1, position, _FLOATS)
        if memory.data[0] is not None:
            x = builder.fadd(x, memory.load(0, position, _FLOATS))
        bits = builder.bitcast(x, _INTS)
        large = builder.icmp_signed(">=", builder.and_(bits, _splat(MAGNITUDE)), _broadcast(builder, floor))
        builder.store(builder.select(large, _splat(0), bits), memory.place(1, position), align=4)
        first = _broadcast(builder, builder.trunc(position, _I32))
        memory.append(4, count, builder.add(first, ir.Constant(_INTS, list(range(LANES)))), large)
        memory.append(5, count, bits, large)
        return builder.add(count, _number_of(builder, large))

    given = (gradient, residual, types.int64, types.int32, positions, values, types.int64)
    return types.int64(*given), generate


@intrinsic
def split_sixteen(typing_context, positions, values, position, floor, kept, kept_values, count, left):
    """Of 16 candidates, append those of magnitude bits >= floor to the outputs, the others at `left` of the inputs.

    Args:
        positions: int32 array of candidates, overwritten from its start.
        values: float32 array of candidates, overwritten from its start.
        position: of the first of the 16; int64.
        floor: int32.
        kept: int32 array that gets positions; needs room for 16 after `count`.
        kept_values: float32 array that gets values.
        count: entries in `kept` so far; int64.
        left: entries not kept so far, counted from the start of the inputs, at most `position`; int64.

    Returns:
        How many of the 16 were kept.
    """

    def generate(context, builder, signature, arguments):
        _, _, position, floor, _, _, count, left = arguments
        memory = _Memory(context, builder, signature.args, arguments)
        where, bits = memory.load(0, position), memory.load(1, position)
        large = builder.icmp_signed(">=", builder.and_(bits, _splat(MAGNITUDE)), _broadcast(builder, floor))
        memory.append(4, count, where, large)
        memory.append(5, count, bits, large)
        memory.append(0, left, where, builder.not_(large))
        memory.append(1, left, bits, builder.not_(large))
        return _number_of(builder, large)

    given = (positions, values, types.int64, types.int32, kept, kept_values, types.int64, types.int64)
    return types.int64(*given), generate


@intrinsic
def pointer(typing_context, address):
    """The address of a tensor's data as a pointer that `numba.carray` takes."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], _I8.as_pointer())

    return types.voidptr(types.int64), generate


@intrinsic
def gather_sixteen(typing_context, values, position, ceiling, gathered, count):
    """Append those of 16 values whose magnitude bits are < ceiling to another array.

    Args:
        values: float32 array.
        position: of the first of the 16; int64.
        ceiling: int32.
        gathered: float32 array; needs room for 16 after `count`.
        count: entries in it so far; int64.

    Returns:
        The new count.
    """

    def generate(context, builder, signature, arguments):
        _, position, ceiling, _, count = arguments
        memory = _Memory(context, builder, signature.args, arguments)
        bits = memory.load(0, position)
        small = builder.icmp_signed("<", builder.and_(bits, _splat(MAGNITUDE)), _broadcast(builder, ceiling))
        memory.append(3, count, bits, small)
        return builder.add(count, _number_of(builder, small))

    given = (values, types.int64, types.int32, gathered, types.int64)
    return types.int64(*given), generate
