"""The network problem: fast losses are the plain ones, subspaces hold, starts come from the seed, faults are told."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from lowbit import catalog
from lowbit.data.digits import Digits
from lowbit.errors import SettingError
from lowbit.estimators._coordinates import coordinate_losses
from lowbit.estimators.autograd import Autograd
from lowbit.estimators.cdg import CDG
from lowbit.layers.convert import ConversionRules, convert
from lowbit.models.xnor_resnet18 import XnorResNet18
from lowbit.probe.scan import grid, scan, unit
from lowbit.problems._base import stream
from lowbit.problems._fast_sign import FastSign
from lowbit.problems._network_objective import Batch, NetworkObjective
from lowbit.problems._studied_network import StudiedNetwork
from lowbit.problems._trained import Trained
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.uniform import Uniform
from lowbit.softmaxes.base_e import BaseE
from lowbit.spec import RunSpec
from lowbit.surrogates.identity import Identity
from lowbit.surrogates.window import Window
from lowbit.train.assemble import assemble
from lowbit.train.checkpoint import save_weights

FWBA = {"weight": {"name": "none"}, "activation": {"name": "uniform"}, "surrogate": {"name": "window"}}
BWBA = FWBA | {"weight": {"name": "binary_sign", "granularity": "channel"}}
ONE_SCALE = FWBA | {"weight": {"name": "binary_sign"}}
SHIFTS = (0.2, -0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    Digits().prepare(folder)
    return folder


def training(quantization=FWBA, **settings) -> RunSpec:
    model = {"name": "xnor_resnet18", "width": 4}
    return RunSpec.model_validate({"model": model, "quantization": quantization} | settings)


def posed(data, quantization=FWBA, weights=None, start="raw", **settings):
    settings = {"start_from": start, "dtype": "float64", "coordinates": 7, "calibration_images": 64} | settings
    problem = catalog.build("problems", {"name": "network", "of": "some", **settings})
    return problem.posed(training(quantization, start_from=weights), data)


def objective_of(problem, seed=0, batch=6, surrogate=None, names=None):
    return problem.objective(problem.start(seed), surrogate or Window(), stream(seed, "batch"), batch, names)


@pytest.mark.parametrize("quantization", [FWBA, BWBA], ids=["FWBA", "BWBA"])
@pytest.mark.parametrize("layer", ["first", 8, "second_last"])
def test_losses_with_one_weight_moved_agree_in_all_ways(data, quantization, layer):
    problem = posed(data, quantization, layer=layer)
    objective = objective_of(problem)
    ways = {m: coordinate_losses(objective, problem.name, torch.arange(7), SHIFTS, m) for m in ("loop", "stacked")}
    fast = objective.coordinate_losses(problem.name, torch.arange(7), SHIFTS)
    for found in (ways["stacked"], fast):
        torch.testing.assert_close(found, ways["loop"], rtol=1e-12, atol=1e-13)
    assert layer == "second_last" or ways["loop"].std() > 1e-5, "nothing moved"


def test_one_scale_for_all_channels_is_left_to_the_stacked_way(data):
    problem = posed(data, ONE_SCALE, layer=3)
    objective = objective_of(problem)
    assert objective.coordinate_losses(problem.name, torch.arange(3), SHIFTS) is None
    assert CDG().direction(objective, torch.Generator())[0][problem.name].shape == (7,)


@pytest.mark.parametrize("other", ["unit9.conv.weight", "stem.0.weight"])
def test_losses_from_the_kept_prefix_are_those_of_the_whole_network(data, other):
    objective = objective_of(posed(data, layer=5), names=("unit5.conv.weight", other))
    draws = stream(1)
    stack = {
        n: t + 0.1 * torch.randn(3, *t.shape, generator=draws, dtype=t.dtype) for n, t in objective.parameters.items()
    }
    singles = torch.stack([objective.loss({n: t[k] for n, t in stack.items()}) for k in range(3)])
    torch.testing.assert_close(objective.losses(stack), singles, rtol=1e-12, atol=0)
    assert singles.std() > 1e-3
    moved = objective.at({n: t[1] for n, t in stack.items()})
    torch.testing.assert_close(moved.loss(moved.parameters), singles[1], rtol=1e-14, atol=0)


def test_the_loss_is_that_of_the_trained_network_on_training_images(data, tmp_path):
    spec = training(BWBA, train={"batch_size": 32, "precision": "float64"})
    run = assemble(spec, data)
    weights = tmp_path / "seed3.safetensors"
    save_weights(run.state.model.state_dict(), weights)
    path = str(tmp_path / "seed{seed}.safetensors")
    problem = posed(data, BWBA, path, start="pretrained", layer=2, coordinates=None)
    objective = objective_of(problem, seed=3)
    images, labels = objective._batch.images, objective._batch.labels
    expected = F.cross_entropy(run.state.model.eval()(images), labels)
    torch.testing.assert_close(objective.loss(objective.parameters), expected.detach(), rtol=1e-12, atol=0)
    inputs = run.batches._normalised(torch.from_numpy(run.batches.arrays["train"]["images"].copy()))
    assert all((inputs - image).abs().amax((1, 2, 3)).min() < 1e-12 for image in images)


def test_a_raw_start_is_where_training_begins_with_calibrated_norms(data):
    begun = assemble(training(seed=2), data).state.model
    trained = Trained(training(), data, torch.float32)
    state, own = begun.state_dict(), trained.initial(2).state_dict()
    assert all(torch.equal(t, own[n]) for n, t in state.items())
    problem = posed(data, dtype="float32")
    start, again, other = problem.start(2), problem.start(2), problem.start(1)
    assert torch.equal(start["unit3.conv.weight"], state["unit3.conv.weight"])
    assert not torch.equal(start["unit3.norm.running_mean"], state["unit3.norm.running_mean"])
    assert all(torch.equal(t, again[n]) for n, t in start.items())
    assert not torch.equal(start["subset/unit1.conv.weight"], other["subset/unit1.conv.weight"])


@pytest.mark.parametrize(
    ("layer", "name"),
    [("first", "unit1"), (8, "unit8"), ("8", "unit8"), ("second_last", "unit15"), ("last", "unit16")],
)
def test_layers_are_counted_as_the_notes_do(data, layer, name):
    assert posed(data, layer=layer).name == f"{name}.conv.weight"


def test_a_parameter_may_be_named(data):
    assert posed(data, layer="unit5.shortcut.0.weight").name == "unit5.shortcut.0.weight"
    with pytest.raises(SettingError, match=r"layer 'unit5\.conv\.wait'.*did you mean 'unit5\.conv\.weight'"):
        posed(data, layer="unit5.conv.wait")


def test_estimators_stay_in_the_subspace_and_leave_no_trace(data):
    problem = posed(data, BWBA, layer=4)
    start = problem.start(0)
    before = {n: t.clone() for n, t in start.items()}
    objective = problem.objective(start, Window(), stream(0, "batch"), 6)
    assert {n: t.shape for n, t in objective.parameters.items()} == {problem.name: (7,)}
    at = start[f"subset/{problem.name}"]
    assert torch.equal(objective.parameters[problem.name], start[problem.name].flatten()[at])
    for estimator in (Autograd(), CDG(epsilon=0.1)):
        estimate = estimator.estimate(objective, torch.Generator())
        again = estimator.estimate(objective, torch.Generator())
        assert torch.equal(estimate.direction[problem.name], again.direction[problem.name])
        scan(objective, unit(estimate.direction, "tensor"), grid(1e-3, 1.0, 5))
    assert all(torch.equal(t, before[n]) for n, t in start.items())


def test_a_subset_is_part_of_the_whole_gradient(data):
    whole, part = (posed(data, layer=4, coordinates=c) for c in (None, 7))
    start = part.start(0)
    for estimator in (Autograd(), CDG(epsilon=0.2)):
        of_part = estimator.direction(objective_of(part), torch.Generator())[0][part.name]
        of_whole = estimator.direction(objective_of(whole), torch.Generator())[0][part.name]
        assert of_whole.shape == (4, 4, 3, 3)
        torch.testing.assert_close(
            of_part, of_whole.flatten()[start[f"subset/{part.name}"]], rtol=1e-9, atol=1e-12
        )  # fmt: skip


def test_a_weight_rounding_passes_gradients_whatever_window_is_studied(data):
    of_last = [
        Autograd().direction(objective_of(posed(data, BWBA, layer="last"), surrogate=s), None)[0]["unit16.conv.weight"]
        for s in (Window(width=0.01), Window())
    ]
    assert torch.equal(*of_last), "no rounding of activations lies behind the last convolution"
    of_first = [
        Autograd().direction(objective_of(posed(data, BWBA), surrogate=s), None)[0]["unit1.conv.weight"]
        for s in (Window(width=0.01), Window())
    ]
    assert not torch.equal(*of_first)


def test_held_out_images_are_no_images_of_batches(data):
    problem = posed(data)
    start, halves = problem.start(0), problem._trained.halves()
    assert not set(halves[0].tolist()) & set(halves[1].tolist())
    assert len(halves[0]) + len(halves[1]) == len(problem._trained._arrays["labels"])
    for pose, half in zip((problem.objective, problem.held_out().objective), halves, strict=True):
        drawn = {image.numpy().tobytes() for image in pose(start, Window(), stream(0, "batch"), 500)._batch.images}
        assert drawn <= {image.numpy().tobytes() for image in problem._trained.images(half)[0]}
    with pytest.raises(SettingError, match="must be at most"):
        problem.objective(start, Window(), stream(0, "batch"), 10_000)


def thin_network(layer: int) -> NetworkObjective:
    """A thin network for small photographs, of which one layer is studied on two random images."""
    modules = []
    for _ in range(2):
        module = XnorResNet18(width=8).build(input_shape=(3, 32, 32), classes=10, softmax=BaseE())
        convert(module, ConversionRules(weight=NoQuantizer(), activation=Uniform(levels=2), surrogate=Window()))
        modules.append(module.eval())
    network = StudiedNetwork(*modules, modules[0].state_dict(), {f"unit{layer}.conv.weight": None})
    batch = Batch(network, torch.randn(2, 3, 32, 32, generator=stream(0)), torch.tensor([0, 1]))
    return NetworkObjective(batch, Window())


def operations(objective: NetworkObjective, method: str) -> float:
    """Of a further evaluation, counted by torch: what evaluations share is known."""
    objective.stack_size  # noqa: B018  # looks at every part once
    counted = []
    for count in (2, 6):
        with FlopCounterMode(display=False) as counter:
            coordinate_losses(objective, next(iter(objective.parameters)), torch.arange(count), (0.1,), method)
        counted.append(counter.get_total_flops())
    return (counted[1] - counted[0]) / 4


@pytest.mark.parametrize(("layer", "saved"), [(1, 0.083), (8, 0.523), (15, 0.933)])
def test_what_a_moved_weight_does_not_touch_is_not_computed(layer, saved):
    objective = thin_network(layer)
    assert 1 - operations(objective, "incremental") / operations(objective, "loop") == pytest.approx(saved, abs=0.006)


def test_fast_signs_are_the_signs_of_the_quantizer():
    x = torch.tensor([-0.0, 0.0, 1e-30, -1e-30, 3.0, -2.0], dtype=torch.float64)
    assert torch.equal(FastSign().fake_quantize(x, Identity()), Uniform(levels=2).fake_quantize(x, Identity()))
    assert x[0].signbit(), "the input is left as it is"


def test_a_missing_checkpoint_or_another_network_is_explained(data, tmp_path):
    problem = posed(data, weights=str(tmp_path / "seed{seed}.safetensors"), start="pretrained")
    with pytest.raises(SettingError, match=r"no weights at .*seed4.*train the network first"):
        problem.start(4)
    save_weights({"other.weight": torch.zeros(1)}, tmp_path / "seed4.safetensors")
    with pytest.raises(SettingError, match="not the weights of xnor_resnet18"):
        problem.start(4)


def test_a_rounding_from_outside_is_refused(data):
    objective = objective_of(posed(data))
    with pytest.raises(SettingError, match="roundings inside"):
        objective.loss(objective.parameters, lambda z, quantizer: z)
