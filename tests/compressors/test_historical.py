"""The ten historical names and their call, and what a `GradientCompressor` does around a selection."""

import threading

import pytest
import torch

from lowbit import catalog
from lowbit.compressors import HISTORICAL, Sparse, compressors, entries_of, make
from lowbit.errors import NonFiniteError, SettingError, UserError

NAMES = ["none", "topk", "topk2", "gaussian", "gaussian2", "randomk", "randomkec", "dgcsampling", "redsync", "hggtopk"]
RESIDUAL = {"name": "residual"}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_ten_names():
    assert list(compressors) == list(HISTORICAL) == NAMES
    assert {"sidco", "threshold_reuse", "redsynctrim", "adacomp"} <= set(catalog.available("compressors"))
    with pytest.raises(SettingError, match=r"'hgtopk'.*did you mean 'hggtopk'"):
        make("hgtopk")
    with pytest.raises(KeyError):
        compressors["sgd"]


@pytest.mark.parametrize("name", NAMES)
def test_the_historical_call(name):
    compressors[name].clear()
    gradient = draw(40, 25)
    before = gradient.clone()
    for _ in range(3):
        tensor, indexes, values = compressors[name].compress(tensor=gradient, name="layer", ratio=0.05)
        assert tensor is gradient
        assert torch.equal(gradient, before), "the caller's tensor changed"
    if name == "none":
        assert indexes is None
        assert torch.equal(values, before.flatten())
    else:
        assert indexes.dtype == torch.int64
        assert len(indexes) == len(values) > 0
    dense = compressors[name].decompress(values, indexes, gradient.shape)
    assert dense.shape == gradient.shape
    assert compressors[name] is compressors[name]
    compressors[name].clear()


def test_which_of_them_keep_a_residual():
    for name in NAMES:
        session = make(name)
        session.send(draw(500), "w", 0.05)
        assert bool(session.memory.entries["w"].buffers) == (name not in ("none", "topk2", "gaussian2", "randomk")), (
            name
        )


def test_what_topk_sends_without_a_residual_forgets():
    session = make("topk2")
    first, second = (session.send(draw(500), "w", 0.05) for _ in range(2))
    assert torch.equal(first.values, second.values)


def test_inplace_leaves_the_compensated_gradient():
    session, gradient = make("hggtopk"), draw(300)
    session.compress(gradient, "w", 0.1)
    kept = session.memory.entries["w"].buffers["residual"].clone()
    tensor, indexes, values = session.compress(gradient, "w", 0.1, inplace=True)
    assert torch.equal(tensor, kept + draw(300))
    assert torch.equal(tensor[indexes], values)


@pytest.mark.parametrize("name", ["topk", "hggtopk", "gaussian", "randomkec", "none"])
def test_what_others_refused_comes_back(name):
    session, gradient = make(name, feedback=RESIDUAL), draw(300)
    _, indexes, _ = session.compress(gradient, "w", 0.1)
    indexes = torch.arange(300) if indexes is None else indexes
    included = indexes[::2]
    session.add_residuals(included, "w")
    residual = session.memory.entries["w"].buffers["residual"]
    expected = gradient.clone()
    expected[included] = 0
    assert torch.equal(residual, expected)
    with pytest.raises(UserError, match="other"):
        session.add_residuals(included, "other")


def test_k_and_density():
    assert [entries_of(d, n) for d, n in ((0.05, 100), (0.05, 19), (1.0, 7), (0.3, 10), (0.5, 0))] == [5, 1, 7, 3, 0]
    for density in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match=r"must be in \(0, 1\]"):
            make("topk").send(draw(10), "w", density)


def test_repeated_indices_add_up():
    sparse = Sparse(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 1, 0]), torch.Size([2, 2]))
    assert sparse.dense().tolist() == [[4.0, 3.0], [0.0, 0.0]]


def test_another_shape_under_a_name_is_refused_until_it_is_cleared():
    session = make("hggtopk")
    session.send(draw(300), "w", 0.1)
    with pytest.raises(UserError, match=r"w: gradient of shape \(200,\).*\(300,\).*clear"):
        session.send(draw(200), "w", 0.1)
    session.clear("w")
    session.send(draw(200), "w", 0.1)
    with pytest.raises(UserError, match=r"state of 'w': has .*; must have"):
        make("topk2").load_state_dict(session.state_dict())


def test_names_and_instances_do_not_meet():
    one, other, alone = make("hggtopk"), make("hggtopk"), make("hggtopk")
    for step in range(4):
        one.send(draw(300, seed=10 + step), "second", 0.1)
        other.send(draw(300, seed=20 + step), "w", 0.1)
        a, b = one.send(draw(300, seed=step), "w", 0.1), alone.send(draw(300, seed=step), "w", 0.1)
        assert torch.equal(a.values, b.values)
        assert torch.equal(a.indices, b.indices)
    one.clear("second")
    assert list(one.memory.entries) == ["w"]
    one.clear()
    assert not one.memory.entries


def test_threads_may_compress_different_layers():
    expected, session, found = {}, make("hggtopk"), {}
    for number in range(4):
        alone = make("hggtopk")
        expected[number] = [alone.send(draw(3000, seed=number + 10 * s), "w", 0.05).values for s in range(10)]

    def work(number: int) -> None:
        found[number] = [session.send(draw(3000, seed=number + 10 * s), f"{number}", 0.05).values for s in range(10)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, values in expected.items():
        assert all(torch.equal(a, b) for a, b in zip(found[number], values, strict=True))


@pytest.mark.parametrize("name", ["hggtopk", "topk", "threshold_reuse", "gaussian"])
def test_a_change_of_the_loss_scale_changes_nothing_but_units(name):
    plain, scaled = make(name), make(name)
    for step, scale in enumerate((1.0, 1024.0, 65536.0, 512.0)):
        gradient = draw(500, seed=step)
        one, other = plain.send(gradient, "w", 0.05), scaled.send(scale * gradient, "w", 0.05, scale=scale)
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(scale * one.values, other.values)


def test_skipping_sends_zeros_and_keeps_everything():
    session = make("hggtopk")
    session.nonfinite = "skip"
    session.send(draw(400), "w", 0.05)
    before = session.state_dict()
    sparse = session.send(torch.full((400,), float("nan")), "w", 0.05)
    assert (len(sparse.values), sparse.values.any(), sparse.dense().any()) == (20, False, False)
    assert torch.equal(session.memory.entries["w"].buffers["residual"], before["w:residual"])


def test_momentum_is_not_touched_by_a_bad_gradient():
    session = make("hggtopk", feedback={"name": "momentum_correction"})
    session.send(draw(400), "w", 0.05)
    before = session.state_dict()
    with pytest.raises(NonFiniteError, match="gradient of w: 1 NaN and 0 infinite entries of 400"):
        session.send(draw(400).index_fill(0, torch.tensor([3]), float("nan")), "w", 0.05)
    after = session.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if "history" not in n)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_gradients_are_kept_in_float32(dtype):
    session, total = make("hggtopk"), torch.zeros(500)
    for step in range(5):
        gradient = (1e-3 * draw(500, seed=step)).to(dtype)
        total = total + gradient.float()
        sparse = session.send(gradient, "w", 0.05)
        residual = session.memory.entries["w"].buffers["residual"]
        assert sparse.values.dtype == residual.dtype == torch.float32
        assert torch.equal(sparse.dense() + residual, total)
        total = residual.clone()


def test_statistics():
    session = make("hggtopk")
    for step in range(5):
        sparse = session.send(draw(4000, seed=step), "w", 0.05)
    stats = session.stats("w")
    assert (stats["nnz"], stats["calls"]) == (200, 5)
    assert stats["threshold"] == float(sparse.values.abs().min())
    assert 0 < stats["hits"] <= 4


def test_density_warms_up():
    session = make("topk", feedback={"name": "momentum_correction", "warmup": (0.25, 0.05)})
    sent = [len(session.send(draw(1000), "w", 0.01, epoch=epoch).values) for epoch in range(4)]
    assert sent == [250, 50, 10, 10]
