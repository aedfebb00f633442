"""Kernels of one program a segment: guess a floor from the history, and pick the bin that holds the k-th largest."""

import triton
import triton.language as tl

from lowbit.kernels import _guess
from lowbit.kernels.triton._layout import (
    ADD,
    CANDIDATES,
    CAUGHT,
    FLOOR,
    FOUND,
    GATHER,
    GUESS,
    HIT,
    INFINITY,
    MOST,
    NEED,
    NOTHING,
    OUTPUTS,
    RESIDUAL,
    ROOMS,
    SOURCE,
    STATE,
    SUM,
    VARYING,
    WORK,
    length_of,
)
from lowbit.kernels.triton._passes import SLOTS, THRESHOLD, source_of_first_digit

SLOPE, AIM, CAUGHT_LAST, CALLS, HITS, REFUSED = (
    tl.constexpr(i) for i in (_guess.SLOPE, _guess.AIM, _guess.CAUGHT, _guess.CALLS, _guess.HITS, _guess.REFUSED)
)
FIRST_SLOPE, LEAST_AIM, MOST_AIM, SAFE = (
    tl.constexpr(x) for x in (_guess.FIRST_SLOPE, _guess.LEAST_AIM, _guess.MOST_AIM, _guess.SAFE)
)


@triton.jit
def guess(history, state, ADDS: tl.constexpr):
    """Begin a call: cut a little below the last threshold, where there is one and no sum can overflow."""
    past = history + tl.program_id(0) * SLOTS
    own = state + tl.program_id(0) * STATE
    tl.store(past + CALLS, tl.load(past + CALLS) + 1)
    tl.store(past + REFUSED, 0.0)
    threshold = tl.load(past + THRESHOLD).to(tl.float32)
    most = tl.load(own + MOST).to(tl.float32, bitcast=True)
    safe = most + threshold < SAFE  # not so for infinity and NaN
    if (threshold > 0) & safe:
        aim = tl.maximum(tl.load(past + AIM).to(tl.float32), LEAST_AIM)
        floor = (threshold * tl.exp2(-tl.log2(aim) / slope_of(past))).to(tl.int32, bitcast=True)
        tl.store(own + FLOOR, floor)
        tl.store(own + GUESS, floor)
        tl.store(own + WORK, ADD | GATHER if ADDS else GATHER)


@triton.jit
def slope_of(past):
    """How steeply the number of entries falls with the threshold, as measured so far."""
    slope = tl.load(past + SLOPE).to(tl.float32)
    return tl.where(slope > 0, slope, FIRST_SLOPE)


@triton.jit(do_not_specialize=VARYING)
def pick(
    history,
    counts,
    state,
    layout,
    segments,
    k,
    room,
    SHIFT: tl.constexpr,
    BINS: tl.constexpr,
    FIRST: tl.constexpr,
    ADDS: tl.constexpr,
    FINITE: tl.constexpr,
):
    """The largest value of a digit that, with all higher ones, at least as many entries have as are needed.

    The first digit says too whether a sum is not finite, and whether what is in that bin or above fits as candidates;
    the last one is the k-th largest, and what the history learns. Leaves the counts at 0.
    """
    segment = tl.program_id(0)
    own = state + segment * STATE
    past = history + segment * SLOTS
    own_k = length_of(OUTPUTS, segment, layout, segments, k).to(tl.int32)
    bins = tl.arange(0, BINS)
    seen = tl.load(counts + segment * BINS + bins)
    need = own_k if FIRST else tl.load(own + NEED)
    prefix = 0 if FIRST else tl.load(own + FOUND)
    reached = tl.sum(seen, 0) - tl.cumsum(seen, 0) + seen
    place = tl.maximum(tl.sum((reached >= need).to(tl.int32), 0) - 1, 0)
    above = tl.sum(tl.where(bins > place, seen, 0), 0)
    found = prefix | (place << SHIFT)
    tl.debug_barrier()  # every thread has read what one of them writes now
    tl.store(counts + segment * BINS + bins, tl.zeros((BINS,), tl.int32))
    tl.store(own + FOUND, found)
    tl.store(own + NEED, need - above)
    if FIRST:
        own_room = length_of(ROOMS, segment, layout, segments, room)
        source = source_of_first_digit(own, own_k, own_room, ADDS)
        not_finite = tl.sum(tl.where(bins >= (INFINITY >> SHIFT), seen, 0), 0)
        through = tl.sum(tl.where(bins >= place, seen, 0), 0)
        decide(own, past, source, not_finite, through, found, own_room, FINITE)
    if SHIFT == 0:  # noqa: SIM102
        if tl.load(own + SOURCE) != NOTHING:
            learn(own, past, found, own_k)


@triton.jit
def decide(own, past, source, not_finite, through, found, room, FINITE: tl.constexpr):
    """What to collect after the first digit, and where to search the others."""
    caught = tl.load(own + CAUGHT).to(tl.float64)
    guessed = tl.load(own + GUESS) > 0
    tl.debug_barrier()
    tl.store(own + HIT, (source == CANDIDATES).to(tl.int32))
    if source == CANDIDATES:
        tl.store(own + WORK, 0)
        tl.store(own + SOURCE, CANDIDATES)
        tl.store(past + CAUGHT_LAST, caught)
    else:
        if guessed:
            tl.store(past + CAUGHT_LAST, tl.where(caught > room, -caught, caught))
        unsaved = (source == SUM) & (not FINITE)
        if unsaved & (not_finite > 0):
            tl.store(own + WORK, 0)
            tl.store(own + SOURCE, NOTHING)
            tl.store(past + REFUSED, 1.0)
        else:
            fits = through <= room
            tl.store(own + WORK, tl.where(unsaved, ADD, 0) | tl.where(fits, GATHER, 0))
            tl.store(own + SOURCE, tl.where(fits, CANDIDATES, RESIDUAL))
            tl.store(own + FLOOR, found)
            tl.store(own + CAUGHT, 0)


@triton.jit
def learn(own, past, found, k):
    """As `lowbit.kernels._guess.learn`: the threshold of this call, and what the guess teaches for the next."""
    threshold = found.to(tl.float32, bitcast=True)
    guessed = tl.load(own + GUESS).to(tl.float32, bitcast=True)
    hit = tl.load(own + HIT)
    caught = tl.load(past + CAUGHT_LAST).to(tl.float32)
    slope = slope_of(past)
    last_aim = tl.load(past + AIM).to(tl.float32)
    hits = tl.load(past + HITS)
    tl.debug_barrier()
    if (guessed > 0) & (threshold > 0):
        distance = tl.log2(threshold / guessed)
        excess = tl.log2(tl.maximum(tl.abs(caught), 1.0) / k)
        if (tl.abs(excess) > 1e-3) & (excess * distance > 0):
            steeper = excess / distance
            slope = tl.where(caught < 0, tl.maximum(slope, steeper), 0.5 * (slope + steeper))
            tl.store(past + SLOPE, tl.minimum(tl.maximum(slope, 0.5), 200.0).to(tl.float64))
        least = 1.1 + 2.0 / tl.sqrt(k.to(tl.float32))
        beyond = tl.maximum(last_aim, least) - 1
        if caught > 0:
            aim = tl.maximum(1 + tl.where(hit != 0, 0.98, 1.5) * beyond, least)
            tl.store(past + AIM, tl.minimum(aim, MOST_AIM).to(tl.float64))
    tl.store(past + HITS, hits + hit)
    tl.store(past + THRESHOLD, threshold.to(tl.float64))
