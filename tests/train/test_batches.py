"""Order, augmentation and windows of training batches; what a pass over a split covers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import COUNTS, SMALL_TEXT, MarkovText, skewed_chain
from small_runs import changed, small_spec

from lowbit.data._base import load_split
from lowbit.train.assemble import assemble
from lowbit.train.batches import Batch, Batches, batches

VIT, GPT = small_spec("vit"), small_spec("gpt")
AUGMENTED = changed(VIT, train={"crop_padding": 2, "horizontal_flip": True, "mixup": 0.3})


def pixels(data: Batches, inputs: torch.Tensor) -> np.ndarray:
    """The uint8 images behind normalised ones."""
    return (inputs / data.inv_std + data.mean).round().to(torch.uint8).numpy()


def indices_of(data: Batches, batch: Batch) -> list[int]:
    """Positions of a batch's images in the training split, whose images are all different."""
    known = {image.tobytes(): i for i, image in enumerate(data.arrays["train"]["images"])}
    return [known[image.tobytes()] for image in pixels(data, batch.inputs)]


def assert_same_batch(one: Batch, other: Batch) -> None:
    for name in ("inputs", "targets", "labels"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(("batch_size", "accumulated", "steps"), [(16, 1, 6), (20, 1, 4), (16, 2, 3), (500, 1, 1)])
def test_every_image_is_seen_once_in_an_epoch(batch_size, accumulated, steps, images):
    train = {"batch_size": batch_size, "gradient_accumulation_steps": accumulated}
    data = batches(changed(VIT, train=train), images)
    assert data.steps_per_epoch == steps
    orders = []
    for epoch in range(3):
        order = [i for step in range(steps) for i in indices_of(data, data.training(epoch * steps + step))]
        assert len(order) == len(set(order)) == min(96, steps * batch_size * accumulated)
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]


def test_images_keep_their_labels(images):
    data = batches(VIT, images)
    labels = load_split(images, "train")["labels"]
    for step in range(6):
        batch = data.training(step)
        assert batch.labels.tolist() == labels[indices_of(data, batch)].tolist()
        assert batch.targets is batch.labels


@pytest.mark.parametrize("spec", [AUGMENTED, GPT], ids=["images", "text"])
def test_batch_is_a_function_of_seed_and_step(spec, folder_of):
    folder = folder_of[spec.model.name]
    data, again = batches(spec, folder), batches(spec, folder)
    steps = [0, 1, 5, 6, 7, 13]
    first = [data.training(step) for step in steps]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    for step, batch in zip(reversed(steps), reversed(first), strict=True):
        assert_same_batch(again.training(step), batch)
    other = batches(changed(spec, seed=1), folder)
    for step, batch in zip(steps, first, strict=True):
        assert not torch.equal(other.training(step).inputs, batch.inputs)
    shapes = {batch.inputs.shape for batch in first}
    assert len(shapes) == 1
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    assert not any(torch.equal(first[i].inputs, first[j].inputs) for i, j in pairs)


ARMS = {
    "softmax": {"softmax": {"name": "base2"}},
    "softmax_where": {"softmax": {"name": "base2"}, "softmax_where": "loss"},
    "loss": {"loss": {"scale": "ln2", "label_smoothing": 0.1}},
    "quantization": {"quantization": {"weight": {"name": "none"}}},
    "activation": {"quantization": {"activation": {"name": "int8_absmax"}, "blend_epochs": 1}},
    "optimizer": {"train": {"optimizer": "sgd", "lr": 0.5, "scheduler": "two_stage", "clip_norm": 1}},
    "records": {"record": {"log_every": 7, "track_grads": True}},
    "names": {"study": "s", "task": "t", "arm": "a"},
}


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("baseline", [AUGMENTED, GPT], ids=["images", "text"])
def test_arms_share_batches_and_initialisation(arm, baseline, folder_of):
    folder = folder_of[baseline.model.name]
    one, other = (assemble(spec, folder) for spec in (baseline, changed(baseline, **ARMS[arm])))
    for step in (0, 3, 8):
        assert_same_batch(one.batches.training(step), other.batches.training(step))
    weights, others = one.state.model.state_dict(), other.state.model.state_dict()
    shared = weights.keys() & others.keys()
    assert {"classifier.weight", "blocks.0.attention.qkv.weight"} <= shared
    assert all(torch.equal(weights[name], others[name]) for name in shared)
    if arm != "quantization":
        assert weights.keys() == others.keys()


def test_seeds_differ_in_initialisation(images):
    one, other = (assemble(changed(VIT, seed=seed), images).state.model.state_dict() for seed in (0, 1))
    for name in ("classifier.weight", "blocks.0.attention.qkv.weight", "patches.weight", "positions"):
        assert not torch.equal(one[name], other[name])


@pytest.mark.parametrize("padding", [1, 3])
def test_crop_is_a_window_of_the_padded_image(padding, images):
    """Every image is one of the windows, every shift occurs, and the border is black."""
    plain = batches(VIT, images)
    cropped = batches(changed(VIT, train={"crop_padding": padding}), images)
    margin = ((0, 0), (padding, padding), (padding, padding))
    shifts = set()
    for step in range(24):
        originals = pixels(plain, plain.training(step).inputs)
        crops = pixels(cropped, cropped.training(step).inputs)
        for original, crop in zip(originals, crops, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(np.pad(original, margin), (8, 8), axis=(1, 2))
            found = np.argwhere((windows == crop[:, None, None]).all((0, 3, 4)))
            assert len(found) == 1
            shifts.add(tuple(found[0].tolist()))
    assert shifts == {(i, j) for i in range(2 * padding + 1) for j in range(2 * padding + 1)}


def test_padding_zero_is_the_identity(images):
    one, other = batches(VIT, images), batches(changed(VIT, train={"crop_padding": 0}), images)
    assert_same_batch(one.training(2), other.training(2))


def test_half_of_the_images_are_mirrored(images):
    plain, mirrored = batches(VIT, images), batches(changed(VIT, train={"horizontal_flip": True}), images)
    flips = []
    for step in range(18):
        originals, inputs = plain.training(step).inputs, mirrored.training(step).inputs
        same = (originals == inputs).flatten(1).all(1)
        assert torch.equal(inputs, torch.where(same.view(-1, 1, 1, 1), originals, originals.flip(3)))
        flips += (~same).tolist()
    assert 0.4 < np.mean(flips) < 0.6


def test_mixup_mixes_inputs_and_targets_alike(images):
    plain, mixed = batches(VIT, images), batches(changed(VIT, train={"mixup": 2.0}), images)
    shares = []
    for step in range(6):
        originals, batch = plain.training(step), mixed.training(step)
        assert torch.equal(batch.labels, originals.labels)
        assert batch.targets.shape == (16, 4)
        torch.testing.assert_close(batch.targets.sum(1), torch.ones(16))
        one_hot = torch.nn.functional.one_hot(originals.labels, 4).float()
        partners = [_partner(batch, originals.inputs, one_hot, i) for i in range(16)]
        assert sorted(j for j, _ in partners) == list(range(16))
        (share,) = {round(s, 4) for i, (j, s) in enumerate(partners) if j != i}
        shares.append(share)
    assert len(set(shares)) == 6
    assert all(0 < share < 1 for share in shares)


def _partner(batch: Batch, inputs: torch.Tensor, one_hot: torch.Tensor, i: int) -> tuple[int, float]:
    """The sample that sample i was mixed with, and the share of i."""
    for j in (i, *range(len(inputs))):  # itself first, since an unmixed image is all of itself and none of any other
        difference = inputs[i] - inputs[j]
        share = ((batch.inputs[i] - inputs[j]) * difference).sum() / difference.square().sum().clamp(min=1e-9)
        mixed = [torch.lerp(x[j], x[i], share) for x in (inputs, one_hot)]
        found = (batch.inputs[i], batch.targets[i])
        if all(torch.allclose(m, f, atol=1e-4) for m, f in zip(mixed, found, strict=True)):
            return j, share.item()
    raise AssertionError(f"sample {i} is no mixture of two")


def test_all_splits_are_normalised_by_the_training_split(images):
    data = batches(VIT, images)
    train = torch.cat([data.training(step).inputs for step in range(6)])
    torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(train.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    raw = load_split(images, "train")["images"].astype(np.float64)
    mean, std = raw.mean((0, 2, 3)), raw.std((0, 2, 3))
    test = load_split(images, "test")["images"].astype(np.float64)
    expected = (test - mean[:, None, None]) / std[:, None, None]
    found = torch.cat([batch.inputs for batch in data.evaluation("test")])
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [1, 7, 37, 256])
def test_evaluation_covers_every_image_once_in_order(size, images):
    data = batches(changed(AUGMENTED, train={"validation_batch_size": size}), images)
    found = list(data.evaluation("validation"))
    assert sum(batch.count for batch in found) == COUNTS["validation"]
    assert max(len(batch.inputs) for batch in found) <= size
    raw = load_split(images, "validation")
    assert np.array_equal(np.concatenate([pixels(data, batch.inputs) for batch in found]), raw["images"])
    assert np.array_equal(torch.cat([batch.labels for batch in found]).numpy(), raw["labels"])


def test_targets_of_text_are_the_inputs_shifted_by_one(text):
    data = batches(GPT, text)
    tokens = load_split(text, "train")["tokens"].astype(np.int64)
    places = [tokens[i : i + 17].tobytes() for i in range(len(tokens) - 16)]
    for step in range(9):
        batch = data.training(step)
        assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        assert torch.equal(batch.targets, batch.labels)
        for row in torch.cat([batch.inputs, batch.targets[:, -1:]], 1).numpy():
            assert row.tobytes() in places


@pytest.mark.parametrize("length", [34, 47, 48, 49, 50, 64, 65, 66])
def test_text_windows_fit_at_every_offset(length, tmp_path):
    """The windows of an epoch share no target and stay inside; their borders move from epoch to epoch."""
    numbers = MarkovText(
        np.roll(np.eye(length), 1, 1), dict.fromkeys(COUNTS, length)
    )  # 0, 1, 2, ...: a token is its place
    numbers.prepare(tmp_path / "data")
    data = batches(changed(GPT, train={"batch_size": 1}), tmp_path / "data")
    assert data.samples >= 1
    offsets = set()
    for epoch in range(200):
        windows = [data.training(epoch * data.steps_per_epoch + i) for i in range(data.steps_per_epoch)]
        assert all((w.targets == w.inputs + 1).all() for w in windows)
        targets = torch.cat([w.targets.flatten() for w in windows])
        assert len(set(targets.tolist())) == len(targets) == 16 * data.samples
        offsets.add(min(w.inputs[0, 0].item() for w in windows))
    assert offsets == set(range(16))
    assert (data.samples + 1) * 16 + 16 > length - 1  # one more window would not fit at the largest offset


@pytest.mark.parametrize("size", [1, 3, 256])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_predicts_every_token_but_the_first_once(size, split, text):
    data = batches(changed(GPT, train={"validation_batch_size": size}), text)
    tokens = load_split(text, split)["tokens"].astype(np.int64)
    found = list(data.evaluation(split))
    assert found[-1].inputs.shape[1] == (SMALL_TEXT.lengths[split] - 1) % 16 > 0  # a ragged last window
    for name, expected in (("inputs", tokens[:-1]), ("targets", tokens[1:]), ("labels", tokens[1:])):
        assert np.array_equal(torch.cat([getattr(batch, name).flatten() for batch in found]).numpy(), expected)


def test_evaluation_of_text_without_a_ragged_window(tmp_path):
    chain = MarkovText(skewed_chain(5), {"train": 65, "validation": 65, "test": 34})
    chain.prepare(tmp_path / "data")
    found = list(batches(GPT, Path(tmp_path / "data")).evaluation("validation"))
    assert [tuple(batch.inputs.shape) for batch in found] == [(4, 16)]
