"""What every compressor owes, with and without feedback."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lowbit.compressors import Sparse, entries_of
from lowbit.compressors._base import Compressor
from lowbit.compressors._session import GradientCompressor
from lowbit.errors import NonFiniteError, UserError
from lowbit.feedback._base import Feedback
from lowbit.feedback.momentum_correction import MomentumCorrection
from lowbit.feedback.none import NoFeedback
from lowbit.feedback.residual import Residual

DENSITIES = (1e-9, 0.01, 0.05, 0.3)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def vectors() -> dict[str, Tensor]:
    """Vectors that have broken compressors."""
    normal = draw(1000)
    found = {f"{size} entries": draw(size, seed=size) for size in (1, 2, 15, 16, 17, 1023, 1024, 1025)}
    return found | {
        "normal": normal,
        "heavy tails": normal / draw(1000, seed=1),
        "off centre": normal + 3,
        "zeros": torch.zeros(300),
        "negative zeros": -torch.zeros(300),
        "all equal": torch.full((300,), -0.7),
        "two values": normal.sign(),
        "few values": (2 * normal).round(),
        "one outlier": torch.cat([normal, torch.tensor([1e30])]),
        "many zeros": normal * (draw(1000, seed=2) > 2.3),
        "negative": -normal.abs(),
        "small": 1e-8 * normal,
        "tiny": 1e-30 * normal,
        "subnormal": 1e-40 * normal,
        "large": 1e37 * normal.clamp(-5, 5),
    }


def sends_largest(compressor: Compressor) -> bool:
    """Whether it promises exactly the k largest magnitudes."""
    return compressor.exact and not hasattr(compressor, "seed")


def check_form_of_what_is_sent(compressor: Compressor) -> None:
    """Indices once each and in range, as many values, those of the vector bit by bit; the vector is not changed."""
    for case, x in vectors().items():
        for density in DENSITIES:
            k, before = max(1, int(density * len(x))), x.clone()
            values, indices = compressor.select(x, k)
            assert torch.equal(x.view(torch.int32), before.view(torch.int32)), f"{case}: changed"
            if indices is None:
                indices = torch.arange(len(x))
            assert indices.dtype in (torch.int32, torch.int64), case
            assert indices.shape == values.shape == (len(indices),), case
            assert len(indices.unique()) == len(indices), f"{case}: an index twice"
            assert ((indices >= 0) & (indices < len(x))).all(), case
            assert torch.equal(values.view(torch.int32), x[indices].view(torch.int32)), case
            check_count(compressor, len(indices), k, case)


def check_count(compressor: Compressor, sent: int, k: int, case: str) -> None:
    """Exactly k where that is promised; never more where it is capped."""
    if compressor.exact:
        assert sent == k, f"{case}: {sent} for {k}"
    elif getattr(compressor, "cap", False) or (hasattr(compressor, "share") and compressor.mode == "fixed"):
        assert sent <= k, f"{case}: {sent} for {k}"
    elif hasattr(compressor, "tolerance") and hasattr(compressor, "exact"):
        assert sent >= k or not hasattr(compressor, "beta"), f"{case}: {sent} for {k}"


def check_largest(compressor: Compressor) -> None:
    """The magnitudes sent are the k largest as a multiset, and what is left has contracted by 1 - k / N."""
    for case, x in vectors().items():
        for density in DENSITIES:
            k = max(1, int(density * len(x)))
            values, indices = compressor.select(x, k)
            expected = x.abs().sort(descending=True).values[:k]
            assert torch.equal(values.abs().sort(descending=True).values, expected), f"{case} {k}"
            if indices is not None:
                left = x.double().index_fill(0, indices.long(), 0)
                assert left.norm() ** 2 <= (1 - k / len(x)) * x.double().norm() ** 2 * (1 + 1e-12), case


def check_nothing_is_lost(compressor: Compressor) -> None:
    """What is sent and what is kept are the sum of gradient and residual, bit by bit, step after step."""
    for case, x in vectors().items():
        for density in (0.01, 0.3):
            session, total = GradientCompressor(compressor, Residual()), torch.zeros(len(x))
            for step in range(4):
                gradient = x.roll(step) * (1, -1, 0.5, 1)[step]
                total += gradient
                dense = session.send(gradient, "w", density).dense()
                residual = session.memory.entries["w"].buffers["residual"]
                assert torch.equal(dense + residual, total), f"{case}: step {step}"
                assert not (dense * residual).any(), f"{case}: sent and kept"
                total = residual.clone()


def check_steps(compressor: Compressor, steps: list[tuple[Tensor, float]]) -> None:
    """Of any gradients, at any densities: nothing is lost, and number and magnitudes are those promised."""
    session, total = GradientCompressor(compressor, Residual()), torch.zeros(len(steps[0][0]))
    for gradient, density in steps:
        total += gradient
        sparse, k = session.send(gradient, "w", density), entries_of(density, len(gradient))
        residual = session.memory.entries["w"].buffers["residual"]
        assert torch.equal(sparse.dense() + residual, total)
        if k < len(gradient):
            check_count(compressor, len(sparse.values), k, f"density {density}")
            if sends_largest(compressor):
                assert torch.equal(sparse.values.abs().sort().values, total.abs().sort().values[-k:])
        total = residual.clone()


def check_taken_back(compressor: Compressor, steps: list[tuple[Tensor, float, list[int], float]]) -> None:
    """Of a gradient, a density, entries that are taken back, and a loss scale: sums that are not finite are refused."""
    session, kept, last = GradientCompressor(compressor, Residual()), torch.zeros(len(steps[0][0])), 1.0
    for gradient, density, places, scale in steps:
        kept, last = kept * (scale / last), scale
        total = kept + gradient
        residual = session.memory.entries["w"].buffers["residual"] if session.memory.entries else kept
        if not total.isfinite().all():
            try:
                session.send(gradient, "w", density, scale=scale)
            except NonFiniteError:
                assert torch.equal(residual, kept), "changed"
                continue
            raise AssertionError(f"a sum of {float(total.abs().max())} was not noticed")
        dense = session.send(gradient, "w", density, scale=scale).dense()
        residual = session.memory.entries["w"].buffers["residual"]
        assert torch.equal(dense + residual, total)
        back = torch.tensor(places, dtype=torch.int32)
        session.take_back(Sparse(dense[back], back, dense.shape), "w")
        assert residual.isfinite().all()
        kept = residual.clone()


def check_telescoping(compressor: Compressor) -> None:
    """Over many steps, all that was sent and the last residual are the sum of the gradients."""
    session, sent, given, steps = GradientCompressor(compressor, Residual()), 0.0, 0.0, 40
    for step in range(steps):
        gradient = draw(500, seed=step)
        given = given + gradient.double()
        sent = sent + session.send(gradient, "w", 0.02).dense().double()
    residual = session.memory.entries["w"].buffers["residual"].double()
    assert ((sent + residual - given).abs() <= steps * 2**-23 * (given.abs() + 30)).all()


def check_shapes_and_dtypes(compressor: Compressor) -> None:
    """Any shape and strides: as the contiguous tensor; any float type, with a residual of float32 at least."""
    image = draw(4, 3, 5, 6)
    shaped = {
        "0-d": draw(1)[0],
        "empty": torch.empty(0),
        "transposed": draw(20, 30).T,
        "every second": draw(600)[::2],
        "expanded": draw(30, 1).expand(30, 20),
        "channels last": image.contiguous(memory_format=torch.channels_last),
    }
    for case, gradient in shaped.items():
        for rule in (Residual(), NoFeedback()):
            one, other = GradientCompressor(compressor, rule), GradientCompressor(compressor, rule)
            for _ in range(2):
                dense = one.send(gradient, "w", 0.1).dense()
                assert dense.shape == gradient.shape
                assert torch.equal(dense, other.send(gradient.contiguous(), "w", 0.1).dense()), case
    for dtype in DTYPES:
        session, gradient = GradientCompressor(compressor, Residual()), draw(600).to(dtype)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        for _ in range(3):
            sparse = session.send(gradient, "w", 0.05)
            residual = session.memory.entries["w"].buffers["residual"]
            assert sparse.values.dtype == residual.dtype == wide, dtype
        assert gradient.dtype == dtype


def check_everything(compressor: Compressor) -> None:
    """Density 1 sends all and leaves exactly nothing."""
    session, gradient = GradientCompressor(compressor, Residual()), draw(300)
    if not hasattr(compressor, "bin_size"):
        session.send(gradient, "w", 0.05)
    kept = session.memory.entries["w"].buffers["residual"].clone() if session.memory.entries else torch.zeros(300)
    assert torch.equal(session.send(gradient, "w", 1.0).dense(), kept + gradient)
    assert not session.memory.entries["w"].buffers["residual"].any()


def check_scale_and_sign(compressor: Compressor) -> None:
    """Powers of two and signs change no index."""
    x = draw(2000)
    if not (getattr(compressor, "bins", "") == "log" and not compressor.exact):  # its gamma is not relative
        for factor in (2.0**-20, 2.0**20):
            assert same_indices(compressor, x, factor * x), factor
    if getattr(compressor, "mode", "") != "reference":  # a mean that is not 0 shifts the published threshold
        assert same_indices(compressor, x, -x)


def same_indices(compressor: Compressor, one: Tensor, other: Tensor) -> bool:
    chosen = [compressor.select(x, 40)[1] for x in (one, other)]
    return chosen[0] is chosen[1] is None or torch.equal(chosen[0].sort().values, chosen[1].sort().values)


def check_state(make: Callable[[], GradientCompressor]) -> None:
    """A state goes on bit by bit; it is a copy; another instance knows nothing of it."""
    one, other = make(), make()
    for step in range(3):
        one.send(draw(400, seed=step), "w", 0.05)
    state = one.state_dict()
    kept = {n: t.clone() for n, t in state.items()}
    assert not other.memory.entries, "instances share a memory"
    other.load_state_dict(state)
    for step in range(3, 7):
        first, second = (s.send(draw(400, seed=step), "w", 0.05) for s in (one, other))
        assert torch.equal(first.values, second.values)
        assert first.indices is None or torch.equal(first.indices, second.indices)
    assert all(torch.equal(kept[n], state[n]) for n in kept), "a state changes with its owner"
    assert all(torch.equal(t, other.state_dict()[n]) for n, t in one.state_dict().items())


def check_history_is_no_burden(compressor: Compressor) -> None:
    """After jumps of scale, of density, of sign and to zero it conserves, and counts, as before."""
    session, total = GradientCompressor(compressor, Residual()), torch.zeros(1000)
    for step, (scale, density) in enumerate([(1, 0.05), (1e6, 0.05), (1e-6, 0.05), (0, 0.3), (-1, 0.001), (1, 0.05)]):
        total += scale * draw(1000, seed=step)
        sparse = session.send(scale * draw(1000, seed=step), "w", density)
        residual = session.memory.entries["w"].buffers["residual"]
        assert torch.equal(sparse.dense() + residual, total), step
        check_count(compressor, len(sparse.values), max(1, int(1000 * density)), f"step {step}")
        if sends_largest(compressor):
            k = max(1, int(1000 * density))
            assert math.isclose(float(sparse.values.abs().sum()), float(total.abs().topk(k).values.sum()), rel_tol=1e-5)
        total = residual.clone()


def check_shared_indices(compressor: Compressor) -> None:
    """Ranks with gradients of their own choose the same entries, at every step and of every name, exactly where that is
    promised. What sends all entries promises nothing by it."""
    for rule in (Residual(), NoFeedback()):
        ranks, same, chosen = [GradientCompressor(compressor, rule) for _ in range(3)], True, []
        for step, (name, density) in enumerate([("w", 0.05), ("v", 0.05), ("w", 0.05), ("w", 0.2)]):
            gradients = (scale * draw(400, seed=10 * step + r) for r, scale in enumerate((1, 1, 1e3)))
            sent = [s.send(g, name, density).indices for s, g in zip(ranks, gradients, strict=True)]
            if sent[0] is None:
                assert all(indices is None for indices in sent)
                continue
            chosen.append(sent[0])
            same = same and all(torch.equal(indices, sent[0]) for indices in sent)
        assert not chosen or same == compressor.shares_indices, f"same {same}"
        if compressor.shares_indices:
            assert not torch.equal(chosen[0], chosen[2]), "the same entries at every step"
            assert not torch.equal(chosen[0], chosen[1]), "the same entries of every name"


def check_several_at_once(
    compressor: Compressor, make: Callable[[Compressor, Feedback], GradientCompressor] = GradientCompressor
) -> None:
    """Several gradients in one call, in any order: the bits of single sends, and the same is kept."""
    sizes = {"w": (30, 20), "one": (1,), "v": (101,), "cube": (3, 5, 7)}
    for rule in (Residual(), NoFeedback(), MomentumCorrection(warmup=(0.5, 0.25))):
        one, other = make(compressor, rule), GradientCompressor(compressor, rule)
        for step in range(4):
            names = list(sizes) if step % 2 else list(reversed(sizes))
            gradients = {name: draw(*sizes[name], seed=10 * step + len(name)) for name in names}
            sent = one.send_each(gradients, 0.05, epoch=step, scale=1 + step // 2)
            assert list(sent) == names
            for name in sizes:
                same_message(sent[name], other.send(gradients[name], name, 0.05, epoch=step, scale=1 + step // 2))
        same_state(one, other)


def check_an_error_takes_nothing(
    compressor: Compressor, make: Callable[[Compressor, Feedback], GradientCompressor] = GradientCompressor
) -> None:
    """Of several gradients one cannot be sent: the residuals of the others have theirs, and nothing counts as sent."""
    for bad, error in ((torch.full((101,), torch.inf), NonFiniteError), (torch.zeros(99), UserError)):
        session = make(compressor, Residual())
        first = {"w": draw(30, 20), "v": draw(101), "u": draw(50)}
        session.send_each(first, 0.05)
        before = {n: session.memory.entries[n].buffers["residual"].clone() for n in first}
        second = {"w": draw(30, 20, seed=1), "v": bad, "u": draw(50, seed=1)}
        with pytest.raises(error, match=r"gradient of v|^v: "):
            session.send_each(second, 0.05)
        assert torch.equal(session.memory.entries["v"].buffers["residual"], before["v"])
        for name in ("w", "u"):
            kept = session.memory.entries[name].buffers["residual"]
            if name == "w" or error is NonFiniteError:
                assert torch.equal(kept, before[name] + second[name].flatten()), name
            else:  # behind the one that ended it
                assert torch.equal(kept, before[name]), name
        with pytest.raises(UserError, match="nothing was sent"):
            session.add_residuals(torch.zeros(0), "w")


def same_message(one: Sparse, other: Sparse) -> None:
    """Equality bit by bit."""
    assert one.shape == other.shape
    assert torch.equal(one.values.view(torch.uint8), other.values.view(torch.uint8))
    assert one.values.dtype == other.values.dtype
    assert one.indices is other.indices is None or torch.equal(one.indices, other.indices)


def same_state(one: GradientCompressor, other: GradientCompressor) -> None:
    """Of what is kept, equality bit by bit."""
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for key in first:
        assert first[key].shape == second[key].shape
        assert torch.equal(first[key].view(-1).view(torch.uint8), second[key].view(-1).view(torch.uint8)), key
