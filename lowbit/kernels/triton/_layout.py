"""Where things stand: segments of flat tensors, tiles of segments, and what is known of a segment during a call.

A flat tensor holds one segment (a layer) after another. Every segment is cut into tiles of BLOCK entries, the last one
shorter, and a kernel's programs share the tiles. `layout` has five rows of segments + 1 int64 numbers: where the tiles,
entries, outputs and candidates of each segment begin, and, in the tensor of gradients, its gradient; that row's last
number has no meaning. It is None for a single segment, whose numbers are arguments.
"""

import triton
import triton.language as tl

TILES, ENTRIES, OUTPUTS, ROOMS, GRADIENTS = (tl.constexpr(i) for i in range(5))  # rows of a layout

# What is known of a segment, int32. Magnitudes are bits of a float32 without its sign.
MOST = tl.constexpr(0)  # largest |gradient|
WORK = tl.constexpr(1)  # what `collect` shall do: ADD, GATHER, both or nothing
FLOOR = tl.constexpr(2)  # magnitude from which on entries are candidates
CAUGHT = tl.constexpr(3)  # candidates
SOURCE = tl.constexpr(4)  # where the k-th largest is searched
FOUND = tl.constexpr(5)  # its magnitude, as far as it is known: lower bits are 0
NEED = tl.constexpr(6)  # how many are wanted among the entries that agree with FOUND so far
GUESS = tl.constexpr(7)  # the first FLOOR; 0 without a guess
HIT = tl.constexpr(8)  # whether the guess was right
STATE = tl.constexpr(9)

ADD, GATHER = tl.constexpr(1), tl.constexpr(2)
RESIDUAL, CANDIDATES, SUM, NOTHING = (tl.constexpr(i) for i in range(4))  # sources; SUM has not been stored yet

# Rows of a table of tiles, int32: their candidates, entries above FOUND, at FOUND, taken of those, and where they go.
BASE, NUMBER, ABOVE, EQUAL, TIES, BEGIN = (tl.constexpr(i) for i in range(6))
TABLE = 6

VARYING = ["segments", "k", "room", "tiles"]  # arguments whose value makes no kernel of its own

MAGNITUDE = tl.constexpr(0x7FFFFFFF)
INFINITY = tl.constexpr(0x7F800000)


@triton.jit
def segment_of(tile, layout, segments):
    """The segment that a tile belongs to."""
    if layout is None:
        low = 0
    else:
        low = 0
        high = segments
        while high - low > 1:
            middle = (low + high) // 2
            below = tl.load(layout + middle) <= tile
            low = tl.where(below, middle, low)
            high = tl.where(below, high, middle)
    return low


@triton.jit
def of_layout(row: tl.constexpr, segment, layout, segments):
    """Where a segment begins; 0 for a single one."""
    if layout is None:
        begin = tl.cast(0, tl.int64)
    else:
        begin = tl.load(layout + row * (segments + 1) + segment)
    return begin


@triton.jit
def length_of(row: tl.constexpr, segment, layout, segments, single):
    """How much a segment has of something; `single` when it is the only one."""
    if layout is None:
        length = tl.cast(single, tl.int64)
    else:
        place = layout + row * (segments + 1) + segment
        length = tl.load(place + 1) - tl.load(place)
    return length


@triton.jit
def float32_at(pointers, mask):
    """Numbers of any float type as float32, exactly; 0 outside the mask."""
    x = tl.load(pointers, mask=mask, other=0)
    if x.dtype == tl.bfloat16:
        x = (x.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return x.to(tl.float32)


@triton.jit
def magnitude(x):
    """Bits without the sign: integers in the order of |x|."""
    return x.to(tl.int32, bitcast=True) & MAGNITUDE
