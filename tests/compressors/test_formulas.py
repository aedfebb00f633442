"""Each compressor's threshold against the formula of its docstring, written out in NumPy or followed by hand."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from lowbit import catalog
from lowbit.compressors._thresholds import search


def draw(size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def chosen(x: torch.Tensor, k: int, name: str, history=None, **settings) -> set[int]:
    return set(catalog.build("compressors", {"name": name, **settings}).select(x, k, history)[1].tolist())


def beyond(x: torch.Tensor, threshold: float) -> set[int]:
    return set(np.flatnonzero(np.abs(x.double().numpy()) > threshold).tolist())


@pytest.mark.parametrize("k", [5, 50, 400])
@pytest.mark.parametrize("adjustments", [0, 1, 3, 5])
def test_gaussian_as_published(k, adjustments):
    for x in (draw(2000), draw(2000) ** 3, draw(2000) + 1):
        a = x.double().numpy()
        threshold = a.mean() + a.std(ddof=1) * NormalDist().inv_cdf(1 - k / 4000)
        for _ in range(adjustments):
            n = (np.abs(a) > threshold).sum()
            if 2 * k / 3 <= n <= 4 * k / 3:
                break
            threshold *= 0.5 if n < 2 * k / 3 else 1.5
        assert chosen(x, k, "gaussian", mode="reference", adjustments=adjustments) == beyond(x, threshold)


def test_what_the_published_gaussian_misses():
    assert chosen(torch.full((100,), 2.0), 5, "gaussian", mode="reference") == set()
    for power, k in ((9, 500), (5, 10)):  # 0.4 k and 1.6 k
        assert not 2 * k / 3 <= len(chosen(draw(10000) ** power, k, "gaussian", mode="reference")) <= 4 * k / 3
        assert 2 * k / 3 <= len(chosen(draw(10000) ** power, k, "gaussian")) <= 4 * k / 3
    assert len(chosen(torch.full((100,), 2.0), 5, "gaussian", cap=True)) == 5


@pytest.mark.parametrize("k", [5, 50, 400])
def test_redsync_as_published(k):
    for x in (draw(2000), draw(2000) ** 3, torch.cat([draw(2000), torch.tensor([1e4])])):
        a = np.abs(x.double().numpy())
        low, high = 0.0, 1.0
        for _ in range(3):
            q = (low + high) / 2
            threshold = a.mean() + q * (a.max() - a.mean())
            n = (a > threshold).sum()
            if k < n < 2 * k:
                break
            low, high = (low, q) if n < k / 2 else (q, high)
        assert chosen(x, k, "redsync", mode="reference") == beyond(x, threshold)


def test_what_the_published_redsync_misses():
    outlier = torch.cat([draw(2000), torch.tensor([1e4])])
    assert len(chosen(outlier, 100, "redsync", mode="reference")) < 10
    for x in (outlier, draw(2000), draw(2000) ** 5):
        assert 100 <= len(chosen(x, 100, "redsync")) <= 200


def test_the_published_dgc_sampling_falls_back_on_top_k():
    x = draw(20000)
    largest = set(x.abs().topk(1000).indices.tolist())
    assert chosen(x, 1000, "dgcsampling", mode="reference") == largest  # the sample has as many as it asks for
    for seed in range(3):
        fixed = chosen(x, 1000, "dgcsampling", seed=seed, share=0.05)
        assert fixed <= set(x.abs().topk(len(fixed)).indices.tolist())
        assert 700 <= len(fixed) <= 1000


def test_dgc_sampling_of_all_is_top_k():
    x = draw(3000)
    assert chosen(x, 30, "dgcsampling", share=1.0) == set(x.abs().topk(30).indices.tolist())


def test_redsynctrim_is_top_k_wherever_its_search_ends():
    for x in (draw(500), draw(500) ** 7, torch.cat([torch.full((499,), 1.0), torch.tensor([0.5])])):
        for k in (1, 20, 450):
            values = x[list(chosen(x, k, "redsynctrim"))].abs().sort().values
            assert torch.equal(values, x.abs().topk(k).values.sort().values)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_sidco_of_exponential_tails(stages):
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.laplace(size=100_000).astype(np.float32))
    a, threshold, density = np.abs(x.numpy().astype(np.float64)), 0.0, 0.01
    for stage in range(stages):
        share = 0.25 if stage < stages - 1 else density / 0.25 ** (stages - 1)
        threshold += (a[a >= threshold] - threshold).mean() * math.log(1 / share)
    found = chosen(x, 1000, "sidco", stages=stages)
    assert len(found ^ beyond(x, threshold)) <= 2
    assert 900 < len(found) < 1100


def test_sidco_takes_another_stage_for_heavy_tails():
    compressor = catalog.build("compressors", {"name": "sidco", "stages": 1})
    history, sent = compressor.start(), []
    for step in range(30):
        x = draw(20000, step) / draw(20000, 100 + step)
        sent.append(len(compressor.select(x, 2000, history)[1]) / 2000)
    assert abs(math.log(np.mean(sent[-5:]))) < abs(math.log(np.mean(sent[:5])))


def test_threshold_reuse_step_by_step():
    compressor = catalog.build("compressors", {"name": "threshold_reuse", "interval": 4, "raises": 2})
    history, x = compressor.start(), draw(1000)
    threshold = float(x.abs().topk(100).values[-1])
    expected = [
        (x, threshold, threshold),  # exact
        (0.5 * x, threshold, threshold / 1.012),  # few reach it
        (2.0 * x, threshold / 1.012 * 1.03**2, threshold / 1.012 * 1.03**2 * 1.012),  # many, even after two raises
        (x, threshold / 1.012 * 1.03**2 * 1.012, None),
    ]
    for vector, used, after in expected:
        sent = set(compressor.select(vector, 100, history)[1].tolist())
        assert sent == set(np.flatnonzero(vector.abs().double().numpy() >= used).tolist())
        assert after is None or math.isclose(float(history[0]), after, rel_tol=1e-6)
    assert len(compressor.select(3 * x, 100, history)[1]) == 100  # exact again
    assert math.isclose(float(history[0]), 3 * threshold, rel_tol=1e-6)


def test_adacomp_bin_by_bin():
    compressor = catalog.build("compressors", {"name": "adacomp", "bin_size": 7})
    x, latest = draw(100), 0.3 * draw(100, seed=1)
    x[14:21] = 0
    expected = []
    for start in range(0, 100, 7):
        own = range(start, min(start + 7, 100))
        most = max(abs(float(x[i])) for i in own)
        expected += [i for i in own if most > 0 and abs(float(x[i] + latest[i])) >= most]
    assert compressor.choose(x, 1, compressor.start(), latest).tolist() == expected


def test_randomk_draws_by_seed_name_and_step():
    def run(seed: int, name: str) -> list[list[int]]:
        compressor = catalog.build("compressors", {"name": "randomk", "seed": seed})
        history = compressor.start(name)
        return [compressor.select(draw(1000, seed=step), 20, history)[1].tolist() for step in range(3)]

    first = run(0, "w")
    assert first == run(0, "w")
    assert first[0] != first[1]
    assert first != run(1, "w")
    assert first != run(0, "v")
    hits = np.zeros(50)
    compressor = catalog.build("compressors", {"name": "randomk"})
    history = compressor.start()
    for _ in range(2000):
        hits[compressor.select(draw(50), 5, history)[1]] += 1
    assert np.all(np.abs(hits / 2000 - 0.1) < 4.5 * math.sqrt(0.09 / 2000))


@pytest.mark.parametrize("bins", ["log", "log_relative", "float_bits"])
def test_hggtopk_within_tolerance(bins):
    """k to as many more as share a bin with the k-th largest; tolerance is for thresholds that are taken again."""
    compressor = catalog.build("compressors", {"name": "hggtopk", "exact": False, "bins": bins})
    wide = bins == "float_bits"  # its bins are 9 to 12% wide
    for x in (draw(50000), draw(50000) ** 3):
        values = compressor.select(x, 500)[0]
        kth = float(x.abs().topk(500).values[-1])
        assert 500 <= len(values) <= (700 if wide else 530)
        assert (0.88 if wide else 0.98) * kth <= float(values.abs().min()) <= kth


def test_hggtopk_takes_its_threshold_again_while_it_serves():
    compressor = catalog.build("compressors", {"name": "hggtopk", "exact": False, "tolerance": 0.1})
    history, x = compressor.start(), draw(5000)
    compressor.select(x, 250, history)
    threshold = float(history[0])
    assert len(compressor.select(x.roll(7), 250, history)[1]) == len(beyond(x, threshold * (1 - 1e-9)))
    assert float(history[0]) == threshold
    compressor.select(10 * x, 250, history)
    assert float(history[0]) > 5 * threshold


def test_search_keeps_the_nearest_when_ties_forbid_more():
    size = torch.cat([torch.full((50,), 2.0), torch.full((50,), 1.0)])
    assert (size >= search(size, 45, 0.1, 25, 1.0, 1.05)).sum() == 50
    assert (size >= search(size, 90, 5.0, 25, 1.0, 1.05)).sum() == 100
    assert (size >= search(size, 1, 1.0, 0, 1.0, 1.0)).sum() == 50
