"""Recorded gradients: those of the training run itself, the same every time, in the order of a parameter's entries."""

import json

import pytest
import torch
from small_runs import small_spec

from lowbit.compression_spec import TraceSpec
from lowbit.errors import UserError
from lowbit.manifest import verify
from lowbit.train.assemble import assemble
from lowbit.train.events import GradientsReady
from lowbit.train.loop import train
from lowbit.train.trace import read, record

LAYERS = ("blocks.7.conv2.weight", "classifier.weight")


def trace_spec(**settings) -> TraceSpec:
    small = {"run": small_spec("resnet18"), "name": "small", "first_step": 2, "steps": 3, "layers": LAYERS}
    return TraceSpec(**small | settings)


@pytest.fixture(scope="module")
def recorded(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trace")
    record(trace_spec(), folder, images)
    return folder


def test_a_trace_is_what_the_loop_computes(recorded, images):
    trace = read(recorded)
    assert (trace.layers, trace.steps) == (LAYERS, (2, 3, 4))
    found = {}
    for event in train(assemble(trace_spec().run, images), lambda: True):
        if isinstance(event, GradientsReady):
            found[event.step] = {n: p.grad.clone() for n, p in event.model.named_parameters()}
    convolution = found[3][LAYERS[0]]
    assert convolution.is_contiguous(memory_format=torch.channels_last), "strides that a plain flatten must undo"
    for layer in LAYERS:
        for step, gradient in zip(trace.steps, trace.of_layer(layer), strict=True):
            assert torch.equal(gradient, found[step][layer].contiguous().flatten())
    assert not torch.equal(found[2][LAYERS[1]], found[3][LAYERS[1]])
    assert torch.equal(trace.whole()[1], torch.cat([found[3][layer].contiguous().flatten() for layer in LAYERS]))


def test_one_spec_has_one_trace(recorded, images, tmp_path):
    record(trace_spec(), tmp_path / "again", images)
    record(trace_spec(run=small_spec("resnet18", seed=1)), tmp_path / "other", images)
    contents = [(f / "gradients.safetensors").read_bytes() for f in (recorded, tmp_path / "again", tmp_path / "other")]
    assert contents[0] == contents[1] != contents[2]
    assert not verify(recorded).faults
    sizes = json.loads((recorded / "summary.json").read_text())["layers"]
    assert sizes == {layer: read(recorded).of_layer(layer)[0].numel() for layer in LAYERS}


def test_the_last_step_ends_the_run(images, tmp_path, monkeypatch):
    monkeypatch.setattr("lowbit.train.loop.results_on_test", lambda run: pytest.fail("trained to its end"))
    record(trace_spec(), tmp_path, images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 100}, "asks for step 101 of a run of 12 steps; raise train.epochs"),
        ({"layers": ("clasifier.weight",)}, "no parameter 'clasifier.weight': .*did you mean 'classifier.weight'"),
    ],
)
def test_what_cannot_be_recorded_is_explained(settings, message, images, tmp_path):
    with pytest.raises(UserError, match=message):
        record(trace_spec(**settings), tmp_path, images)


def test_a_missing_trace_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r"no trace of gradients .*python -m lowbit trace"):
        read(tmp_path)
