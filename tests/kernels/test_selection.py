"""The kernel of exact selection against its reference, bit by bit: values, order of indices, residual, threshold."""

import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lowbit.compressors import make
from lowbit.kernels import _cpu, _guess, _jit, _kth, _passes, _threads
from lowbit.kernels import selection as ops

SIZES = (1, 2, 15, 16, 17, 33, 1000, 1023, 2049, 20011)


def same(gradients: list[torch.Tensor], ks: list[int], **binning) -> torch.Tensor:
    """Both on a sequence of gradients; the kernel's history."""
    size = gradients[0].numel()
    kernel, reference = torch.zeros(size), torch.zeros(size)
    past, other = (torch.zeros(ops.SLOTS, dtype=torch.float64) for _ in range(2))
    for step, (gradient, k) in enumerate(zip(gradients, ks, strict=True)):
        before = gradient.clone()
        values, indices = ops.select_largest(gradient, kernel, past, k, **binning)
        expected, places = ops.reference(gradient, reference, other, k)
        assert torch.equal(indices, places), step
        assert indices.dtype == places.dtype == torch.int32
        assert torch.equal(values.view(torch.int32), expected.view(torch.int32)), step
        assert torch.equal(kernel.view(torch.int32), reference.view(torch.int32)), step
        assert torch.equal(gradient.view(torch.int32), before.view(torch.int32)), "gradient changed"
        assert past[ops.REFUSED] == other[ops.REFUSED]
        assert past[ops.CALLS] == other[ops.CALLS] == step + 1
        assert past[ops.THRESHOLD] == other[ops.THRESHOLD], step
    return past


def draws(size: int, steps: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    return [torch.randn(size, generator=generator) for _ in range(steps)]


@pytest.mark.parametrize("rule", ops.RULES)
@pytest.mark.parametrize("size", SIZES)
def test_steps_of_error_feedback(size, rule):
    for density in (0.0, 0.01, 0.3, 0.9, 1.0):
        k = max(1, int(size * density))
        same(draws(size), [k] * 5, rule=rule)
        same([(3 * g).round() for g in draws(size)], [k] * 5, rule=rule, num_bins=7)
        same([g.sign() for g in draws(size)], [k] * 5, rule=rule)


@pytest.mark.parametrize("rule", ops.RULES)
def test_sudden_changes(rule):
    gradients = draws(5000, 12)
    scales = [1, 1e6, 1e-6, 0, 1, -1, 1e-38, 1e30, 1, 1e-45, 1, 1]
    ks = [50, 50, 50, 50, 2500, 3, 50, 50, 4999, 50, 1, 50]
    same([scale * g for scale, g in zip(scales, gradients, strict=True)], ks, rule=rule)
    same([torch.zeros(5000)] * 3 + gradients[:3] + [torch.full((5000,), 2.0)] * 3, [50] * 9, rule=rule)


numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-38, 3e38, 1.0000001, float("inf"), float("nan")]),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(data=st.data(), size=st.integers(1, 70), rule=st.sampled_from(ops.RULES))
def test_any_numbers(data, size, rule):
    vectors = arrays.arrays(np.float32, size, elements=numbers)
    gradients = [torch.from_numpy(data.draw(vectors)) for _ in range(3)]
    same(gradients, data.draw(st.lists(st.integers(1, size), min_size=3, max_size=3)), rule=rule)


def test_a_refusal_changes_nothing_and_is_reported():
    residual, past = torch.zeros(100), torch.zeros(ops.SLOTS, dtype=torch.float64)
    ops.select_largest(draws(100)[0], residual, past, 5)
    for bad in (float("nan"), float("-inf")):
        before = residual.clone(), past.clone()
        values, indices = ops.select_largest(torch.full((100,), bad), residual, past, 5)
        assert past[ops.REFUSED] == 1
        assert torch.equal(residual, before[0])
        assert past[ops.THRESHOLD] == before[1][ops.THRESHOLD]
        assert values.tolist() == [0.0] * 5
        assert indices.tolist() == list(range(5))
    ops.select_largest(draws(100)[1], residual, past, 5)
    assert past[ops.REFUSED] == 0


def test_the_guess_serves_a_steady_series():
    gradients = [g / (1 + 0.01 * step) for step, g in enumerate(draws(20000, 40))]
    past = same(gradients, [200] * 40)
    assert past[ops.HITS] >= 0.8 * past[ops.CALLS]


def test_a_guess_may_be_as_small_as_0():
    past = torch.zeros(ops.SLOTS, dtype=torch.float64)
    past[ops.THRESHOLD], past[_guess.SLOPE], past[_guess.AIM] = 1.4e-45, 0.5, _guess.MOST_AIM
    assert _guess.floor(past.numpy()) == 0
    values, indices = ops.select_largest(torch.zeros(100), torch.full((100,), 1.4e-45), past, 5)
    assert indices.tolist() == [0, 1, 2, 3, 4]
    assert (values == 1.4e-45).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_nothing(threads, monkeypatch):
    monkeypatch.setattr(_threads, "_LEAST", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert len(_threads.parts(10000)) == threads
    past = same(draws(10007, 60), [20] * 60)
    assert past[ops.HITS] >= 40
    same([(3 * g).round() for g in draws(4999)], [500] * 5)
    front = torch.cat([100 * torch.ones(3000), torch.zeros(7000)])  # all that is large lies in one part
    same([front + g for g in draws(10000, 6)], [100] * 6)
    assert ops.largest_magnitude(front) == 100


def test_buffers_may_hold_anything(monkeypatch):
    """Outputs and scratch start as NaN and nonsense, and nothing of it comes through."""
    empty = np.empty

    def poisoned(shape, dtype):
        buffer = empty(shape, dtype)
        buffer.view(np.uint8)[...] = 0xFF  # NaN, and -1
        return buffer

    tensor = torch.empty
    monkeypatch.setattr(_cpu.np, "empty", poisoned)
    monkeypatch.setattr(_cpu.torch, "empty", lambda n, **o: tensor(n, **o).fill_(float("nan") if not o else -1))
    for size in (17, 1000, 2049):
        same(draws(size), [max(1, size // 20)] * 5)
        same([g.sign() for g in draws(size)], [size // 2] * 5)


@pytest.mark.parametrize("ties", [-1, 2])
def test_nothing_is_written_beyond_an_output(ties):
    """Sixteen lanes are written at once, also where fewer have room: outputs lie before numbers that must stay."""
    memory, memory_values = np.full(64, 77, np.int32), np.full(64, 77, np.float32)
    residual = np.zeros(48, np.float32)
    values = np.where(np.arange(48) % 12 == 0, 5, 1).astype(np.float32)
    given = residual, np.arange(48, dtype=np.int32), values, np.array([0]), np.array([48])
    threshold = int(np.float32(5).view(np.int32)) - (ties > 0)
    assert _passes.split(*given, threshold, ties, memory[:4], memory_values[:4]) == 4
    assert memory.tolist() == [0, 12, 24, 36, *[77] * 60]
    assert memory_values.tolist() == [*[5] * 4, *[77] * 60]
    assert residual.tolist() == [float(i % 12 != 0) for i in range(48)]
    memory[:], memory_values[:] = 77, 77
    residual[:] = 1
    count = _passes.collect(None, residual, 0, 0, 48, memory[:20], memory_values[:20])
    assert count < 0
    assert (memory[20:] == 77).all()
    assert (memory_values[20:] == 77).all()


def test_a_residual_with_nan_neither_hangs_nor_writes_elsewhere():
    residual, past = draws(1000)[0], torch.zeros(ops.SLOTS, dtype=torch.float64)
    residual[500] = float("nan")
    ops.select_largest(draws(1000)[1], residual, past, 20)
    assert past[ops.REFUSED] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_largest_magnitude(dtype):
    for size in (0, 1, 2, 3, 5, 64, 1001):
        x = torch.randn(size).to(dtype)
        assert ops.largest_magnitude(x) == (float(x.abs().max()) if size else 0.0)
        for place in range(0, size, 100):
            for bad in (float("nan"), float("inf"), float("-inf")):
                poisoned = x.clone()
                poisoned[place] = bad
                assert not np.isfinite(ops.largest_magnitude(poisoned))
    strided = torch.randn(100, dtype=torch.float32).to(dtype)[::2]
    assert ops.largest_magnitude(strided) == float(strided.abs().max())


def test_float64_and_steps_without_a_gradient_follow_the_reference():
    residual = torch.randn(500, dtype=torch.float64)
    expected = residual.abs().sort(descending=True).values[:20]
    values, _ = ops.select_largest(None, residual, torch.zeros(ops.SLOTS, dtype=torch.float64), 20)
    assert torch.equal(values.abs().sort(descending=True).values, expected)
    added, past = draws(700)[0], torch.zeros(ops.SLOTS, dtype=torch.float64)
    for _ in range(3):
        expected = added.abs().sort(descending=True).values[:20]
        values, _ = ops.select_largest(None, added, past, 20)
        assert torch.equal(values.abs().sort(descending=True).values, expected)


@pytest.mark.parametrize(
    ("gradient", "k"),
    [(torch.zeros(10, dtype=torch.float64), 3), (torch.zeros(9), 3), (torch.zeros(20)[::2], 3), (torch.zeros(10), 11)],
    ids=["dtype", "size", "strides", "k"],
)
def test_memory_is_read_only_where_it_is_what_it_seems(gradient, k):
    with pytest.raises(ValueError, match="must be"):
        ops.select_largest(gradient, torch.zeros(10), torch.zeros(ops.SLOTS, dtype=torch.float64), k)
    for history in (torch.zeros(ops.SLOTS), torch.zeros(3, dtype=torch.float64)):
        with pytest.raises(ValueError, match="must be float64 of shape"):
            ops.select_largest(None, torch.zeros(10), history, 3)


def test_a_mode_sees_the_op_and_changes_nothing():
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.name())
            return func(*args, **(kwargs or {}))

    seen, results = [], []
    for mode in (nullcontext(), Watch()):
        residual, past = torch.zeros(100), torch.zeros(ops.SLOTS, dtype=torch.float64)
        with mode:
            results.append((*ops.select_largest(draws(100)[0], residual, past, 7), residual, past))
            assert ops.largest_magnitude(residual) == float(residual.abs().max())
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert {"lowbit::select_largest", "lowbit::largest_magnitude"} <= set(seen)


def test_shapes_are_known_without_computing():
    with FakeTensorMode():
        residual, past = torch.empty(100), torch.empty(ops.SLOTS, dtype=torch.float64)
        values, indices = ops.select_largest(torch.empty(100), residual, past, 5)
        assert (values.shape, values.dtype) == ((5,), torch.float32)
        assert (indices.shape, indices.dtype) == ((5,), torch.int32)
        assert torch.ops.lowbit.largest_magnitude(residual).shape == ()


def most_memory(work) -> tuple[int, int]:
    """Bytes that PyTorch and NumPy take at most during a call, beyond what they had."""
    tracemalloc.start()
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    in_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most, in_numpy


def test_memory_of_a_call():
    """Beyond its residual a call takes 1% of the gradient and what k needs, whether the guess hits or misses."""
    size, k = 2_000_000, 2000
    compressor, gradients = make("hggtopk"), draws(size, 3)
    compressor.send(gradients[0][:1000], "compiled", 0.001)
    residual, allowed = 4 * size, 0.01 * 4 * size + 64 * (4 * k + 1024)
    first, _ = most_memory(lambda: compressor.send(gradients[0], "w", 0.001))
    assert residual <= first < residual + allowed
    for gradient in (*gradients, 1e-3 * gradients[0], 1e3 * gradients[1]):
        in_torch, in_numpy = most_memory(lambda g=gradient: compressor.send(g, "w", 0.001))
        assert in_torch + in_numpy < allowed + 500_000, (in_torch, in_numpy)  # the profiler's own objects
    corrected = make("hggtopk", feedback="momentum_correction")
    corrected.send(gradients[0], "w", 0.001)
    in_torch, in_numpy = most_memory(lambda: corrected.send(gradients[1], "w", 0.001))
    assert in_torch + in_numpy < allowed + 500_000, "of a momentum"
    plain = make("topk")
    plain.send(gradients[0], "w", 0.001)
    assert most_memory(lambda: plain.send(gradients[1], "w", 0.001))[0] >= 4 * size, "the meter sees nothing"


def test_radix_steps_find_every_place():
    """k-th largest, number above and number equal, for every k, against a sort."""
    generator = np.random.default_rng(0)
    for magnitudes in (generator.integers(0, 2**31 - 2**23, 60), generator.integers(5, 9, 60), np.full(60, 7)):
        bits = magnitudes.astype(np.int32)
        ordered = np.sort(magnitudes)[::-1]
        for k in range(1, 61):
            found = _kth.kth(bits, np.array([0, 20]), np.array([20, 40]), k)
            assert found == (ordered[k - 1], (ordered > ordered[k - 1]).sum(), (ordered == ordered[k - 1]).sum())

        for ceiling in (0, int(ordered[0]), int(ordered[30]), int(ordered[30]) + 1, 2**31 - 1):
            for k in range(1, 61, 7):
                found = _kth.kth_below(bits.view(np.float32), np.array([0, 20]), np.array([20, 40]), k, ceiling)
                assert found == (ordered[k - 1], (ordered > ordered[k - 1]).sum(), (ordered == ordered[k - 1]).sum())


def test_the_cache_belongs_to_the_sources(tmp_path, monkeypatch):
    (tmp_path / "kernel.py").write_text("one = 1")
    monkeypatch.setattr(_jit, "_FOLDER", tmp_path)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    first = _jit._cache_folder()
    assert first == _jit._cache_folder()
    assert first.startswith(str(tmp_path))
    (tmp_path / "kernel.py").write_text("one = 2")
    assert _jit._cache_folder() != first
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert _jit._cache_folder().startswith(str(tmp_path / "own"))
