"""The Triton kernels against the reference, bit by bit: interpreted on the CPU in a process of their own, and on a GPU
where there is one."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lowbit.compressors import _each, make
from lowbit.errors import NonFiniteError
from lowbit.kernels import _guess, segments
from lowbit.kernels import selection as ops
from lowbit.kernels.segments import Segments

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
on_device = (lambda test: test) if INTERPRETED else pytest.mark.gpu
here = pytest.mark.skipif(INTERPRETED, reason="needs a GPU: or Triton's compiler")

if INTERPRETED:
    from lowbit.kernels.triton.interpreted import keep_interpreting

    keep_interpreting()


@here
def test_all_of_this_file_interpreted():
    command = [sys.executable, "-m", "pytest", "-v", "-n0", "-p", "no:cacheprovider", __file__]
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1", "CI": ""}, check=False
    )
    assert result.returncode == 0, result.stdout[-5000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed, result.stdout[-5000:]
    assert int(passed[1]) >= 20, "tests that were not found show nothing"


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    """Many tiles, several rounds of every loop and little room for candidates, from few entries."""
    from lowbit.kernels.triton import select

    small = {"TILE": 64, "PROGRAMS": 3, "CHUNK": 2, "WIDTH": 32, "SPARE": 8} if INTERPRETED else {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in small.items():
            patch.setattr(select, name, value)
        yield


def select(gradient, residual, history, k, finite=False):
    """The kernels on any device: the op would send CPU tensors to the other implementation."""
    if not INTERPRETED:
        return ops.select_largest(gradient, residual, history, k, finite=finite)
    if gradient is None or gradient.dtype == residual.dtype:
        return ops._select_on_cuda(gradient, residual, history, k, 1024, 1000.0, "log", finite)
    from lowbit.kernels.triton import select

    return select.select(gradient, residual, history, k, finite)


def same(gradients: list[torch.Tensor], ks: list[int], finite: bool = False) -> torch.Tensor:
    """Both on a sequence of gradients; the kernels' history."""
    size = gradients[0].numel()
    residual, expected_residual = torch.zeros(size, device=DEVICE), torch.zeros(size)
    past, other = (
        torch.zeros(ops.SLOTS, dtype=torch.float64, device=DEVICE),
        torch.zeros(ops.SLOTS, dtype=torch.float64),
    )
    for step, (gradient, k) in enumerate(zip(gradients, ks, strict=True)):
        given = gradient.to(DEVICE, copy=True)
        values, indices = select(given, residual, past, k, finite)
        expected, places = ops.reference(gradient, expected_residual, other, k)
        assert indices.dtype == places.dtype == torch.int32
        assert torch.equal(indices.cpu(), places), step
        assert torch.equal(values.cpu().view(torch.int32), expected.view(torch.int32)), step
        assert torch.equal(residual.cpu().view(torch.int32), expected_residual.view(torch.int32)), step
        assert torch.equal(given.cpu().view(torch.uint8), gradient.view(torch.uint8)), "gradient changed"
        for slot in (ops.REFUSED, ops.CALLS, ops.THRESHOLD):
            assert float(past[slot]) == float(other[slot]), (step, slot)
    return past.cpu()


def draws(size: int, steps: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    return [torch.randn(size, generator=generator) for _ in range(steps)]


@on_device
@pytest.mark.parametrize("size", [1, 64, 65, 130])
def test_steps_of_error_feedback(size):
    for k in sorted({1, size // 3 + 1, size}):
        same(draws(size, 3), [k] * 3)
        same([(3 * g).round() for g in draws(size, 2)], [k] * 2)


@on_device
def test_more_tiles_than_programs():
    """Candidates have room, and, of two-valued numbers, have none: then the residual itself is searched."""
    past = same([g / (1 + 0.1 * step) for step, g in enumerate(draws(700))], [15] * 4)
    assert past[ops.HITS] >= 2
    same([g.sign() for g in draws(700, 1)], [40])
    same([100 * (torch.arange(700) % 7 == 0).float()], [5])


@on_device
def test_tiles_as_large_as_they_are(monkeypatch):
    from lowbit.kernels.triton import select

    for name, value in {"TILE": 4096, "WIDTH": 512, "SPARE": 1024}.items():
        monkeypatch.setattr(select, name, value)
    same(draws(20011, 3), [200] * 3)


@pytest.mark.skipif(not INTERPRETED, reason="needs a GPU: programs come in any order there anyway")
def test_programs_may_come_in_any_order(monkeypatch):
    from triton.runtime.interpreter import interpreter_builder as builder

    from lowbit.kernels.triton import select

    generator, orders = np.random.default_rng(0), []
    dimensions, index = builder.set_grid_dim, builder.set_grid_idx

    def start(x, y, z):
        orders.append(generator.permutation(x).tolist())
        dimensions(x, y, z)

    monkeypatch.setattr(builder, "set_grid_dim", start)
    monkeypatch.setattr(builder, "set_grid_idx", lambda x, y, z: index(orders[-1][x], y, z))
    monkeypatch.setattr(select, "PROGRAMS", 8)
    past = same([g / (1 + 0.1 * step) for step, g in enumerate(draws(450))], [15] * 4)
    assert past[ops.HITS] >= 1
    same([g.sign() for g in draws(450, 1)], [200])
    assert any(order != sorted(order) for order in orders)


@on_device
def test_what_a_guess_teaches_is_what_it_teaches_on_a_cpu(monkeypatch):
    """Right guesses; too few, too many, more than there is room for; and a residual of zeros."""
    from lowbit.kernels.triton import select as on_cuda

    monkeypatch.setattr(on_cuda, "SPARE", 40)
    scales, k, seen = (1, 1, 1, 0.6, 1, 1.4, 1, 1e4, 1, 0), 15, set()
    residual = torch.zeros(300, device=DEVICE)
    past = torch.zeros(ops.SLOTS, dtype=torch.float64, device=DEVICE)
    for scale, gradient in zip(scales, draws(300, len(scales)), strict=True):
        before = past.cpu().numpy().copy()
        residual.zero_()
        values, _ = select((scale * gradient).to(DEVICE), residual, past, k)
        after = past.cpu().numpy()
        expected, hit = before.copy(), after[ops.HITS] > before[ops.HITS]
        if before[ops.THRESHOLD] > 0:
            expected[_guess.CAUGHT] = after[_guess.CAUGHT]
            found = values.abs().min().cpu().view(torch.int32)
            _guess.learn(expected, int(found), k, bool(hit))
            seen.add(
                "hit" if hit else "many" if after[_guess.CAUGHT] < 0 else "few" if after[_guess.CAUGHT] < k else "?"
            )
            for slot in (_guess.SLOPE, _guess.AIM):
                assert after[slot] == pytest.approx(expected[slot], rel=1e-4), (scale, slot)
            assert after[ops.HITS] == expected[ops.HITS]
        assert after[ops.THRESHOLD] == float(values.abs().min())
    assert seen == {"hit", "many", "few"}
    assert past[ops.THRESHOLD] == 0


@on_device
def test_sudden_changes():
    scales = [1, 1e6, 1e-6, 0, 1, -1, 1e-38, 1e30, 1, 1e-45, 1, 1]
    ks = [5, 5, 5, 5, 75, 3, 5, 5, 149, 5, 1, 5]
    same([scale * g for scale, g in zip(scales, draws(150, 12), strict=True)], ks)
    same([torch.zeros(150), *draws(150, 2), *[torch.full((150,), 2.0)] * 2], [5] * 5)


@on_device
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_gradients(dtype):
    most = float(torch.finfo(dtype).max)
    extremes = torch.tensor([0.0, -0.0, torch.finfo(dtype).smallest_normal / 4, -most, most, 1.0, 0.1])
    same(
        [*(g.to(dtype) for g in draws(100, 3)), extremes.repeat(15)[:100].to(dtype), torch.ones(100).to(dtype)], [9] * 5
    )


numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-38, 3e38, 1.0000001, float("inf"), float("nan")]),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@on_device
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data(), size=st.integers(1, 70))
def test_any_numbers(data, size):
    vectors = arrays.arrays(np.float32, size, elements=numbers)
    gradients = [torch.from_numpy(data.draw(vectors)) for _ in range(3)]
    same(gradients, data.draw(st.lists(st.integers(1, size), min_size=3, max_size=3)))


@on_device
def test_a_refusal_changes_nothing_whether_there_is_a_guess_or_not():
    good, bad = draws(100, 2)[0], torch.ones(100)
    bad[70] = float("nan")
    infinite = bad.nan_to_num(float("-inf"))
    same([bad, infinite, good, bad, good, infinite, good], [7] * 7)
    huge = torch.full((100,), 3e38)
    same([huge, huge, good, -huge, -huge], [7] * 5)


@on_device
def test_what_was_put_back_may_be_huge(monkeypatch):
    """Then the last threshold is no bound of the residual."""
    monkeypatch.setattr(ops, "_LARGEST", ops._largest_on_cuda)
    residual, past = (
        torch.zeros(n, dtype=t, device=DEVICE) for n, t in ((100, torch.float32), (ops.SLOTS, torch.float64))
    )
    for huge, refused in ((9e37, False), (3e38, True)):
        gradient = torch.ones(100, device=DEVICE)
        gradient[7] = huge
        residual.zero_()
        values, indices = select(gradient, residual, past, 5)
        residual[indices.long()] = values
        ops.forget_if_huge(past, residual[indices.long()])
        gradient[7], before = 5e37, residual.clone()
        sent = select(gradient, residual, past, 5)[0]
        assert bool(past[ops.REFUSED]) == refused
        assert sent.isfinite().all()
        assert not refused or torch.equal(residual, before)


@on_device
def test_a_residual_that_was_added_to_already():
    residual = torch.zeros(300, device=DEVICE)
    past = torch.zeros(ops.SLOTS, dtype=torch.float64, device=DEVICE)
    for gradient in draws(300):
        residual += gradient.to(DEVICE)
        before = residual.abs().cpu()
        values, indices = select(None, residual, past, 20)
        assert torch.equal(values.abs().cpu().sort(descending=True).values, before.sort(descending=True).values[:20])
        assert torch.equal(values.abs().cpu(), before[indices.cpu().long()])
        assert not residual[indices.long()].any()
    assert past[ops.HITS] >= 1


@on_device
def test_buffers_may_hold_anything(monkeypatch):
    """Outputs and scratch start as NaN and nonsense, and nothing of it comes through."""
    from lowbit.kernels.triton import select

    def poisoned(*shape, **options):
        buffer = torch.zeros(*shape, **options)
        buffer.view(torch.uint8).fill_(0xFF)
        return buffer

    empty = torch.empty
    monkeypatch.setattr(select.torch, "empty", lambda *s, **o: poisoned(*s, **o) if o.get("device") else empty(*s, **o))
    same(draws(300, 3), [15] * 3)
    same([g.sign() for g in draws(300, 2)], [150] * 2)
    same([torch.full((300,), float("nan"))], [20])


@on_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_largest_magnitude(dtype):
    largest_magnitude = ops._largest_on_cuda
    assert float(largest_magnitude(torch.empty(0, dtype=dtype, device=DEVICE))) == 0
    for size in (1, 64, 200):
        x = draws(size)[0].to(dtype)
        assert float(largest_magnitude(x.to(DEVICE))) == float(x.abs().max())
        for bad in (float("nan"), float("inf"), float("-inf")):
            x[size // 2] = bad
            assert not np.isfinite(float(largest_magnitude(x.to(DEVICE))))


@on_device
def test_other_types_and_strides_follow_the_reference():
    assert float(ops._largest_on_cuda(draws(20)[0].double().to(DEVICE)[::2])) == float(draws(20)[0][::2].abs().max())
    residual, past = draws(20)[0].double().to(DEVICE), torch.zeros(ops.SLOTS, dtype=torch.float64, device=DEVICE)
    values, indices = ops._select_on_cuda(None, residual, past, 20, 1024, 1000.0, "log", False)
    assert torch.equal(values.cpu(), draws(20)[0].double())
    assert indices.tolist() == list(range(20))


def same_of_each(gradients, sizes, ks, begins=None) -> torch.Tensor:
    """Segments at once against one after another; the kernels' histories."""
    cut = Segments(sizes, ks, torch.device(DEVICE), begins)
    residual, expected_residual = torch.zeros(sum(sizes), device=DEVICE), torch.zeros(sum(sizes))
    past = torch.zeros(len(sizes), ops.SLOTS, dtype=torch.float64, device=DEVICE)
    other = past.cpu().clone()
    for step, gradient in enumerate(gradients):
        values, indices = select_of_each(gradient.to(DEVICE), residual, past, cut)
        expected, places = segments.reference(gradient, expected_residual, other, None, sizes, ks, begins)
        assert torch.equal(indices.cpu(), places), step
        assert torch.equal(values.cpu().view(torch.int32), expected.view(torch.int32)), step
        assert torch.equal(residual.cpu().view(torch.int32), expected_residual.view(torch.int32)), step
        for slot in (ops.REFUSED, ops.CALLS, ops.THRESHOLD):
            assert torch.equal(past[:, slot].cpu(), other[:, slot]), (step, slot)
    return past.cpu()


def select_of_each(gradient, residual, past, cut):
    """The kernels on any device."""
    if not INTERPRETED:
        return segments.select_largest_of_each(gradient, residual, past, cut)
    from lowbit.kernels.triton import select

    layout = select.layout_of(cut.sizes, cut.ks, cut.device, cut.begins)
    if gradient.dtype != residual.dtype:
        return select.select_of_each(gradient, residual, past, layout, cut.sizes, cut.ks, False)
    return segments._on_cuda(gradient, residual, past, layout, cut.sizes, cut.ks, cut.begins, False)


MUTATIONS = {  # none writes elsewhere: this is this process's memory
    "residual not cleared": ("_order", "tl.store(residual + (flat - start) + here, zeros, mask=taken != 0)", "pass"),
    "last ties first": ("_order", "tl.cumsum(equal, 0) <= ties", "tl.sum(equal, 0) - tl.cumsum(equal, 0) < ties"),
    "> for >=": ("_passes", "magnitude(x) >= tl.load(own + FLOOR)", "magnitude(x) > tl.load(own + FLOOR)"),
    "not accumulated": (
        "_passes",
        "x += float32_at(gradient + place + lanes, mask)",
        "x = float32_at(gradient + place + lanes, mask)",
    ),
}


@pytest.mark.skipif(not INTERPRETED, reason="needs a GPU: or the interpreter, as all of this file has above")
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_a_broken_kernel_is_caught(mutation, tmp_path, monkeypatch):
    from lowbit.kernels.triton import select

    name, right, wrong = mutation
    module = getattr(select, name)
    source = Path(module.__file__).read_text()
    assert right in source
    (tmp_path / "broken.py").write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("broken", tmp_path / "broken.py")
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    monkeypatch.setattr(select, name, broken)
    with pytest.raises(AssertionError):
        same([(2 * g).round() for g in draws(300, 3)], [40] * 3)


@on_device
def test_without_the_check_finite_sums_give_the_same():
    gradients = [scale * g for scale, g in zip((1, 1, 1, 1e3, 1e3, 0), draws(300, 6), strict=True)]
    past = same(gradients, [15] * 6, finite=True)
    assert 0 < past[ops.HITS] < 5
    same([g.sign() for g in draws(300, 2)], [200] * 2, finite=True)
    same([torch.full((300,), 1.5, dtype=torch.bfloat16)], [20], finite=True)


@on_device
def test_segments_at_once_are_segments_one_after_another():
    sizes, ks = (1, 63, 64, 65, 100, 2, 1), (1, 6, 64, 1, 10, 1, 1)
    gradients = [torch.cat([10.0**i * part for i, part in enumerate(g.split(sizes))]) for g in draws(sum(sizes))]
    past = same_of_each(gradients, sizes, ks)
    assert past[4, ops.HITS] >= 1
    same_of_each([draws(sum(sizes), 1)[0].sign()], sizes, ks)


@on_device
def test_segments_go_their_own_ways():
    """One is refused, one has a right guess, one a wrong one, one is all ties, and one has none of it."""
    sizes, ks = (100, 100, 100, 100, 100), (7, 7, 7, 50, 100)
    gradients = [g.view(5, 100) for g in draws(500)]
    gradients[3] = gradients[2] + 0.01 * gradients[3]
    for rows, scale in zip(gradients, (1, 1, 1, 1e5), strict=True):
        rows[1, 50] = float("inf") if scale > 1 else 0
        rows[2] *= scale
        rows[3] = rows[3].sign()
    past = same_of_each([rows.flatten() for rows in gradients], sizes, ks)
    assert past[:, ops.REFUSED].tolist() == [0, 1, 0, 0, 0]
    same_of_each([rows.flatten().to(torch.bfloat16) for rows in gradients[3:]], sizes, ks)


@on_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_segments_may_lie_apart(dtype):
    """In any order, among numbers that are no concern of theirs; with a right guess, a wrong one and none."""
    sizes, ks, begins = (65, 3, 130), (6, 1, 13), (201, 7, 70)
    gradients = draws(300)
    for step, gradient in enumerate(gradients):
        gradient.mul_(1e4 if step == 3 else 1)
        for hole in (slice(7), slice(10, 70), slice(200, 201), slice(266, 300)):
            gradient[hole] = float("nan")
    gradients[2] = gradients[1] + 0.01 * gradients[2]
    past = same_of_each([g.to(dtype) for g in gradients], sizes, ks, begins)
    assert past[:, ops.HITS].sum() >= 1
    assert not past[:, ops.REFUSED].any()


@on_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_session_sends_the_layers_of_a_bucket_at_once(dtype, monkeypatch):
    """As one after another on a CPU: layers of one entry and of odd sizes, ties, and NaN in one of them."""
    if INTERPRETED:
        monkeypatch.setattr(segments, "one_launch", lambda gradient: True)
        monkeypatch.setattr(segments, "select_largest_of_each", select_of_each)
        monkeypatch.setattr(_each, "takes", lambda gradient, residual: gradient.is_contiguous())
    on_device, on_cpu = make("hggtopk"), make("hggtopk")
    places, calls = {"one": (4, (1,)), "odd": (7, (7, 9)), "two": (78, (2,)), "long": (159, (131,))}, []
    monkeypatch.setattr(on_device, "_select_jointly", spied(on_device._select_jointly, calls))
    for step, bucket in enumerate(draws(300)):
        bucket = (bucket.round() if step == 2 else bucket).to(DEVICE, dtype)
        gradients = {n: bucket[begin : begin + np.prod(s)].view(s) for n, (begin, s) in places.items()}
        if step == 3:
            gradients["odd"][3, 3] = float("nan")
            with pytest.raises(NonFiniteError, match="gradient of odd: 1 NaN"):
                on_device.send_each(gradients, 0.1)
            with pytest.raises(NonFiniteError, match="gradient of odd: 1 NaN"):
                on_cpu.send_each({n: g.cpu() for n, g in gradients.items()}, 0.1)
        else:
            sent = on_device.send_each(gradients, 0.1)
            for name, gradient in gradients.items():
                expected = on_cpu.send(gradient.cpu(), name, 0.1)
                assert torch.equal(sent[name].values.cpu(), expected.values)
                assert sent[name].indices is expected.indices is None or torch.equal(
                    sent[name].indices.cpu(), expected.indices
                )
    assert calls == [["odd", "two", "long"]] * 4
    kept, expected = on_device.state_dict(), on_cpu.state_dict()
    assert kept.keys() == expected.keys()
    for key in kept:
        if key.endswith(":history"):
            assert float(kept[key][ops.THRESHOLD]) == float(expected[key][ops.THRESHOLD])
        else:
            assert torch.equal(kept[key].cpu(), expected[key]), key


def spied(method, calls: list):
    def called(wanted, *others):
        calls.append(list(wanted))
        return method(wanted, *others)

    return called


@here
@pytest.mark.gpu
def test_ten_million_entries():
    """Thousands of tiles, several for each program, and a last one of one entry."""
    size, k = 10_002_433, 100_000
    assert size % 4096 == 1
    past = same([g / (1 + 0.1 * step) for step, g in enumerate(draws(size, 3))], [k] * 3)
    assert past[ops.HITS] >= 1
    same([g.bfloat16() for g in draws(size, 2)], [k] * 2)  # few values: thousands of ties
    same([draws(size, 1)[0].sign()], [k])
    bad = draws(size, 1)[0]
    bad[-1] = float("nan")
    same([draws(size, 1)[0], bad], [k] * 2)


@here
@pytest.mark.gpu
def test_thousands_of_segments():
    """Of one entry to many tiles, ten million together."""
    draw = np.random.default_rng(0)
    sizes = (*(int(n) for n in np.exp(draw.uniform(0, 10.2, 3000))), 3_000_001, 1)
    ks = tuple(max(1, n // 100) for n in sizes)
    assert 7_000_000 < sum(sizes) < 20_000_000
    gradients = [g / (1 + 0.1 * step) for step, g in enumerate(draws(sum(sizes), 3))]
    gradients[2][sum(sizes[:1500])] = float("inf")
    past = same_of_each(gradients, sizes, ks)
    assert past[:, ops.REFUSED].sum() == 1
    assert past[:, ops.HITS].sum() > 100


@here
@pytest.mark.gpu
def test_a_call_waits_for_nothing_and_can_be_captured():
    gradient, residual = torch.zeros(3000, device="cuda"), torch.zeros(3000, device="cuda")
    past = torch.zeros(ops.SLOTS, dtype=torch.float64, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # what is zeroed here is read there
    with torch.cuda.stream(stream):
        ops.select_largest(gradient, residual, past, 50)  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.graph(graph):
            values, indices = ops.select_largest(gradient, residual, past, 50)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    residual.zero_()
    past.zero_()
    expected_residual, other = torch.zeros(3000), past.cpu()
    for scale, g in zip((1, 1, 1, 1000, float("nan")), draws(3000, 5), strict=True):
        gradient.copy_(scale * g)
        graph.replay()
        expected, places = ops.reference(scale * g, expected_residual, other, 50)
        assert torch.equal(values.cpu(), expected)
        assert torch.equal(indices.cpu(), places)
        assert torch.equal(residual.cpu(), expected_residual)


@here
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_session_on_a_gpu_sends_what_one_on_a_cpu_sends(dtype):
    on_gpu, on_cpu = make("hggtopk"), make("hggtopk")
    for gradient in draws(5000):
        sent = on_gpu.send(gradient.to("cuda", dtype), "w", 0.01)
        expected = on_cpu.send(gradient.to(dtype), "w", 0.01)
        assert torch.equal(sent.indices.cpu(), expected.indices)
        assert torch.equal(sent.values.cpu(), expected.values)
    with pytest.raises(NonFiniteError):
        on_gpu.send(torch.full((5000,), float("nan"), dtype=dtype, device="cuda"), "w", 0.01)
