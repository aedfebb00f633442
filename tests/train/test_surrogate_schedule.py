"""A surrogate that changes while a network is trained: follows the step, and nothing else."""

from interruptions import WHOLE, half_done
from small_runs import changed

from lowbit.layers.convert import bit_layers
from lowbit.train.assemble import assemble
from lowbit.train.events import GradientsReady
from lowbit.train.loop import train
from lowbit.train.run import execute

SHRINKING = changed(WHOLE, quantization={"surrogate": {"name": "window", "width": 2.0, "final_width": 0.1}})


def test_every_layer_is_at_the_fraction_of_steps_done(images):
    run = assemble(SHRINKING, images)
    seen = []
    for event in train(run, lambda: True):
        if isinstance(event, GradientsReady):
            seen.append({layer.surrogate.progress for layer in bit_layers(run.state.model).values()})
    assert seen == [{step / run.steps} for step in range(run.steps)]


def test_a_killed_run_goes_on_with_the_width_it_had(images, tmp_path):
    whole = execute(SHRINKING, tmp_path / "whole", images)["weights_sha256"]
    half_done(SHRINKING, tmp_path / "half", images)
    assert execute(SHRINKING, tmp_path / "half", images)["weights_sha256"] == whole
    constant = changed(WHOLE, quantization={"surrogate": {"name": "window", "width": 2.0}})
    assert execute(constant, tmp_path / "constant", images)["weights_sha256"] != whole
