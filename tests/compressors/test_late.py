"""`nonfinite="late"`: what is refused is reported at the next call or check, and no device is waited for."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lowbit.compressors import GradientCompressor, _session
from lowbit.compressors.hggtopk import HGGTopK
from lowbit.compressors.topk import TopK
from lowbit.distributed import Exchange
from lowbit.distributed.state import state_of
from lowbit.errors import NonFiniteError
from lowbit.feedback.residual import Residual
from lowbit.schemes import Wire
from lowbit.schemes.allgather import AllGather

BAD = (float("nan"), float("inf"))


def late(compressor=None) -> GradientCompressor:
    return GradientCompressor(compressor or HGGTopK(), Residual(), nonfinite="late")


def draw(seed: int) -> torch.Tensor:
    return torch.randn(200, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bad", BAD)
def test_a_refused_gradient_is_named_at_the_next_call_and_changes_nothing(bad):
    session, other = late(), GradientCompressor(HGGTopK(), Residual())
    for step in range(3):
        session.send(draw(step), "fc.weight", 0.05)
        other.send(draw(step), "fc.weight", 0.05)
    poisoned = draw(3)
    poisoned[100] = bad
    before = session.memory.entries["fc.weight"].buffers["residual"].clone()
    sent = session.send(poisoned, "fc.weight", 0.05)
    assert sent.values.tolist() == [0.0] * 10
    assert sent.indices.tolist() == list(range(10))
    session.send(draw(3), "conv.weight", 0.05)
    with pytest.raises(NonFiniteError, match=r"gradient of fc\.weight, the last one sent"):
        session.send(draw(4), "fc.weight", 0.05)
    assert torch.equal(session.memory.entries["fc.weight"].buffers["residual"], before)
    one, two = (s.send(draw(4), "fc.weight", 0.05) for s in (session, other))
    assert torch.equal(one.values, two.values)
    assert torch.equal(one.indices, two.indices)
    session.check()


def test_a_check_names_it_once():
    session = late()
    session.send(torch.full((50,), float("nan")), "w", 0.1)
    with pytest.raises(NonFiniteError, match="gradient of w"):
        session.check()
    session.check()
    session.send(torch.full((50,), float("nan")), "w", 0.1)
    session.clear("w")
    session.check()


def test_no_state_is_saved_over_what_is_not_reported():
    session = late()
    session.send(draw(0), "w", 0.1)
    session.send(torch.full((200,), float("nan")), "w", 0.1)
    with pytest.raises(NonFiniteError, match="gradient of w, the last one sent"):
        session.state_dict()
    assert session.state_dict().keys() == {"w:shape", "w:scale", "w:history", "w:residual"}
    exchange = Exchange(late(), AllGather(), Wire(None))
    exchange.compressor.send(torch.full((200,), float("nan")), "w", 0.1)
    with pytest.raises(NonFiniteError, match="gradient of w, the last one sent"):
        state_of(exchange, 1)


def test_what_follows_is_not_blamed():
    """Calls that take another way leave no note of an earlier refusal."""
    session = late()
    session.send(torch.full((50,), float("nan")), "w", 0.1)
    with pytest.raises(NonFiniteError):
        session.check()
    for density in (1.0, 0.1):
        session.send(torch.ones(50), "w", density)
        session.check()


def test_what_looks_at_every_gradient_raises_at_once():
    session = late(TopK())
    with pytest.raises(NonFiniteError, match="gradient of w: "):
        session.send(torch.full((50,), float("nan")), "w", 0.1)


def test_no_device_is_waited_for(monkeypatch):
    """A GPU that has no numbers: whoever asks for one is caught."""
    asked = []
    monkeypatch.setattr(_session, "Answer", lambda number: asked.append(number.device.type))
    with FakeTensorMode():
        gradient = torch.empty(4000, device="cuda", dtype=torch.bfloat16)
        sent = late().send(gradient, "w", 0.01)
        assert (sent.values.device.type, sent.values.shape, sent.indices.shape) == ("cuda", (40,), (40,))
        for waiting in (GradientCompressor(HGGTopK(), Residual()), late(TopK())):
            with pytest.raises(DataDependentOutputException):
                waiting.send(gradient, "w", 0.01)
    assert asked == ["cuda"]


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for():
    session = late()
    gradient = torch.randn(5000, device="cuda")
    session.send(gradient, "w", 0.01)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        for scale in (1.0, float("nan")):
            session.send(scale * gradient, "w", 0.01)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(NonFiniteError, match="gradient of w"):
        session.check()
