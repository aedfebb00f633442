"""`send_each` where one call selects from all layers, here on a CPU; of the kernels see kernels/test_cuda.py."""

import weakref

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lowbit.compressors import GradientCompressor, Sparse, _each, make
from lowbit.compressors.hggtopk import HGGTopK
from lowbit.errors import NonFiniteError, UserError
from lowbit.feedback.residual import Residual
from lowbit.kernels import segments

SHAPES = {"odd": (7, 11), "one": (1, 1), "matrix": (40, 30), "none": (0, 3), "line": (513,)}
JOINT = ("odd", "matrix", "line")  # of one entry all are sent, as of none


@pytest.fixture
def calls(monkeypatch) -> list[segments.Segments]:
    """Let the CPU do what a GPU does; how residuals were cut in each call."""
    return jointly(monkeypatch)


def jointly(patch: pytest.MonkeyPatch) -> list[segments.Segments]:
    """The same where there is no fixture."""
    seen, select = [], segments.select_largest_of_each

    def selected(gradient, residual, histories, cut, **settings):
        seen.append(cut)
        return select(gradient, residual, histories, cut, **settings)

    patch.setattr(segments, "one_launch", lambda gradient: True)
    patch.setattr(segments, "select_largest_of_each", selected)
    return seen


def in_bucket(seed: int, dtype: torch.dtype = torch.float32, shapes=SHAPES) -> dict[str, Tensor]:
    """Gradients in one tensor, three numbers of something else behind each."""
    ends, found = 0, {}
    bucket = torch.randn(4000, generator=torch.Generator().manual_seed(seed)).to(dtype)
    for name, shape in shapes.items():
        size = torch.Size(shape).numel()
        found[name] = bucket[ends : ends + size].view(shape)
        ends += size + 3
        bucket[ends - 3 : ends] = float("nan")
    return found


def one_by_one(session: GradientCompressor, gradients: dict[str, Tensor], *given, **settings) -> dict[str, Sparse]:
    return {name: session.send(gradient, name, *given, **settings) for name, gradient in gradients.items()}


def assert_same(sent: dict[str, Sparse], expected: dict[str, Sparse]) -> None:
    assert list(sent) == list(expected)
    for name, sparse in sent.items():
        assert sparse.shape == expected[name].shape, name
        assert sparse.values.dtype == expected[name].values.dtype, name
        assert torch.equal(sparse.values, expected[name].values), name
        assert sparse.indices is expected[name].indices is None or torch.equal(sparse.indices, expected[name].indices)


def assert_same_state(one: GradientCompressor, other: GradientCompressor) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copies", [False, True])
def test_one_call_is_one_after_another(calls, dtype, copies):
    """Of a bucket nothing is copied; tensors of their own are."""
    session, other = make("hggtopk"), make("hggtopk")
    for step in range(6):
        gradients = in_bucket(step, dtype)
        if copies:
            gradients = {name: gradient.clone() for name, gradient in gradients.items()}
        if step > 3:
            gradients = {name: gradient.sign() for name, gradient in gradients.items()}
        density, scale = (0.1, 0.02)[step // 3], 1.0 + step // 2
        assert_same(
            session.send_each(gradients, density, scale=scale), one_by_one(other, gradients, density, scale=scale)
        )
        assert session.stats("matrix") == other.stats("matrix")
    assert_same_state(session, other)
    assert [cut.sizes for cut in calls] == [(77, 1200, 513)] * 6
    assert [cut.begins for cut in calls[:4]] == [None if copies else (0, 84, 1290)] * 4
    assert len({id(cut) for cut in calls[:3]}) == 1, "a table of offsets is copied to the device at every step"


@pytest.mark.parametrize(
    "session",
    [
        lambda: make("hggtopk", exact=False),
        lambda: make("hggtopk", feedback={"name": "none"}),
        lambda: make("hggtopk", feedback={"name": "momentum_correction"}),
        lambda: make("topk"),
    ],
)
def test_what_has_no_kernel_for_it_goes_one_after_another(calls, session):
    one, other = session(), session()
    for step in range(3):
        assert_same(one.send_each(in_bucket(step), 0.1), one_by_one(other, in_bucket(step), 0.1))
    assert_same_state(one, other)
    assert not calls


def test_without_history_nothing_is_guessed(calls):
    session = make("hggtopk", history=False)
    for step in range(3):
        session.send_each(in_bucket(step), 0.1)
    assert len(calls) == 3
    assert session.stats("matrix")["hits"] == 0
    assert session.stats("matrix")["calls"] == 3


def test_what_the_op_cannot_add_goes_alone(calls):
    """A narrow type has no kernel on a CPU; other strides have none anywhere."""
    one, other = make("hggtopk"), make("hggtopk")
    for step in range(3):
        gradients = in_bucket(step) | {"narrow": torch.ones(50).bfloat16(), "strided": torch.ones(60)[::2]}
        assert_same(one.send_each(gradients, 0.1), one_by_one(other, gradients, 0.1))
    assert [len(cut.sizes) for cut in calls] == [3] * 3
    assert_same_state(one, other)


@pytest.mark.parametrize("whole", [True, False])
def test_a_refusal_has_the_name_of_its_layer_and_nothing_is_lost_of_the_others(monkeypatch, whole):
    if whole:
        jointly(monkeypatch)
    session = make("hggtopk")
    session.send_each(in_bucket(0), 0.1)
    before = {name: session.memory.entries[name].buffers["residual"].clone() for name in SHAPES}
    gradients = in_bucket(1)
    gradients["line"][500] = float("inf")
    gradients["matrix"][7, 7] = float("nan")
    with pytest.raises(NonFiniteError, match=r"gradient of matrix: 1 NaN and 0 infinite entries of 1200"):
        session.send_each(gradients, 0.1)
    for name, entry in session.memory.entries.items():
        bad = name in ("matrix", "line")
        expected = before[name] if bad else before[name] + gradients[name].flatten()
        assert torch.equal(entry.buffers["residual"], expected), name
    later = session.send_each(in_bucket(2), 0.1)
    assert all(sparse.values.isfinite().all() for sparse in later.values())


def test_a_refusal_that_is_skipped_sends_zeros(calls):
    one, other = (GradientCompressor(HGGTopK(), Residual(), nonfinite="skip") for _ in range(2))
    for step in range(3):
        gradients = in_bucket(step)
        gradients["odd"][0, 0] = float("nan") if step == 1 else 1.0
        sent = one.send_each(gradients, 0.1)
        assert_same(sent, one_by_one(other, gradients, 0.1))
        assert bool(sent["odd"].values.any()) == (step != 1)
    assert_same_state(one, other)
    assert len(calls) == 3


def test_a_refusal_is_reported_late(calls):
    session = GradientCompressor(HGGTopK(), Residual(), nonfinite="late")
    gradients = in_bucket(0)
    gradients["line"][0] = float("nan")
    assert not session.send_each(gradients, 0.1)["line"].values.any()
    with pytest.raises(NonFiniteError, match="gradient of line, the last one sent"):
        session.send_each(in_bucket(1), 0.1)
    assert len(calls) == 1, "something was sent before"
    session.send_each(in_bucket(1), 0.1)
    session.check()


def test_no_device_is_waited_for(monkeypatch):
    """A GPU that has no numbers: whoever asks for one is caught."""
    asked = []
    monkeypatch.setattr(_each, "Answer", lambda numbers: asked.append((numbers.device.type, len(numbers))) or "answer")
    with FakeTensorMode():
        bucket = torch.empty(4000, device="cuda", dtype=torch.bfloat16)
        gradients = {"a": bucket[:1000].view(10, 100), "b": bucket[1500:1508]}
        sent = GradientCompressor(HGGTopK(), Residual(), nonfinite="late").send_each(gradients, 0.25)
        assert {name: (s.values.device.type, len(s.values)) for name, s in sent.items()} == {
            "a": ("cuda", 250),
            "b": ("cuda", 2),
        }
        with pytest.raises(DataDependentOutputException):
            make("hggtopk").send_each(gradients, 0.25)
    assert asked == [("cuda", 2)]


def test_a_state_goes_on_and_is_as_large_as_what_it_holds(calls):
    one, other = make("hggtopk"), make("hggtopk")
    for step in range(3):
        one.send_each(in_bucket(step), 0.1)
        one_by_one(other, in_bucket(step), 0.1)
    state = one.state_dict()
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in state.values())
    assert_same_state(one, other)
    resumed = make("hggtopk")
    resumed.send_each(in_bucket(9), 0.1)
    resumed.load_state_dict(state)
    for step in range(3, 6):
        expected = one_by_one(other, in_bucket(step), 0.1)
        assert_same(one.send_each(in_bucket(step), 0.1), expected)
        assert_same(resumed.send_each(in_bucket(step), 0.1), expected)
    assert_same_state(resumed, other)
    assert len(calls) == 10


def test_buckets_may_be_formed_anew(calls):
    """What is kept moves with its parameter, and nobody holds the memory of a bucket that is no more."""
    one, other = make("hggtopk"), make("hggtopk")
    buckets = [[JOINT], [("line", "odd"), ("matrix",)], [("matrix", "line"), ("odd",)], [("line",), ("odd", "matrix")]]
    buckets += [[("odd", "line"), ("matrix",)], [(name,) for name in SHAPES]]
    for step, names in enumerate(buckets):
        gradients = in_bucket(step)
        for bucket in names:
            given = {name: gradients[name] for name in bucket}
            assert_same(one.send_each(given, 0.1), one_by_one(other, given, 0.1))
        assert_same_state(one, other)
        for bucket in names:
            memory = [one.memory.entries[name].buffers["residual"] for name in bucket]
            size = sum(residual.nbytes for residual in memory)
            assert all(residual.untyped_storage().nbytes() == size for residual in memory), bucket
    assert [len(cut.sizes) for cut in calls] == [3, 2, 2, 2, 2]


def test_what_is_forgotten_takes_no_memory(calls):
    session = make("hggtopk")

    def joined() -> weakref.ref:
        session.send_each(in_bucket(0), 0.1)
        return weakref.ref(session.memory.entries["matrix"].buffers["residual"])

    for forget in (
        session.clear,
        lambda: session.clear("odd"),
        lambda: session.load_state_dict(session.state_dict()),
    ):
        old = joined()
        assert old().untyped_storage().nbytes() == 4 * (77 + 1200 + 513)
        forget()
        assert old() is None


def test_what_is_done_to_one_layer_is_seen_by_all(calls):
    """Entries taken back, a layer forgotten, a layer sent by itself, other tensors in an entry."""
    one, other = make("hggtopk"), make("hggtopk")
    for step in range(7):
        gradients = in_bucket(step)
        assert_same(one.send_each(gradients, 0.1), one_by_one(other, gradients, 0.1))
        for session in (one, other):
            session.add_residuals(torch.arange(0, 1200, 2), "matrix")
            if step == 2:
                session.clear("odd")
            if step == 3:
                session.send(in_bucket(7)["line"], "line", 0.3)
            entry = session.memory.entries["line"]
            if step == 4:
                entry.buffers["residual"] = 2 * entry.buffers["residual"]
            if step == 5:
                entry.history = torch.zeros_like(entry.history)
        assert_same_state(one, other)
    with pytest.raises(UserError, match="odd: gradient of shape"):
        one.send_each(gradients | {"odd": torch.zeros(78)}, 0.1)
    with pytest.raises(UserError, match="odd: gradient of shape"):
        one_by_one(other, gradients | {"odd": torch.zeros(78)}, 0.1)
    assert_same_state(one, other)
    one.clear()
    other.clear()
    assert_same(one.send_each(gradients, 0.1), one_by_one(other, gradients, 0.1))
