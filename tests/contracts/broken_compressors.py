"""Compressors and feedback that are wrong in ways that have been seen: each must fail its contract."""

from functools import partial

import numpy as np
import torch
from checks import compressors, feedback

from lowbit.compressors._base import Compressor
from lowbit.compressors._session import GradientCompressor
from lowbit.compressors.hggtopk import HGGTopK
from lowbit.compressors.randomk import RandomK
from lowbit.compressors.topk import TopK
from lowbit.feedback.momentum_correction import MomentumCorrection
from lowbit.feedback.residual import Residual


class ResidualNotCleared(TopK):
    """Sends, and keeps what it sent."""

    def select_from(self, residual, increment, k, history):
        residual.add_(increment)
        indices = self.choose(residual, k, history, increment)
        return residual[indices], indices


class TiesAllSent(TopK):
    """Everything that reaches the k-th magnitude."""

    def choose(self, x, k, history, latest):
        return (x.abs() >= x.abs().topk(k).values[-1]).nonzero().flatten()


class TiesAllLost(TopK):
    """Everything above the k-th magnitude: > for >=."""

    def choose(self, x, k, history, latest):
        return (x.abs() > x.abs().topk(k).values[-1]).nonzero().flatten()


class GradientCountsTwice(TopK):
    """Accumulates what was accumulated."""

    def select_from(self, residual, increment, k, history):
        return super().select_from(residual, increment + 0.5 * residual, k, history)


class CompensatesInPlace(TopK):
    """Changes the vector that it chooses from."""

    def choose(self, x, k, history, latest):
        return super().choose(x.mul_(2), k, history, latest)


class SameIndexTwice(TopK):
    """Pads with the first index."""

    def choose(self, x, k, history, latest):
        indices = super().choose(x, k, history, latest)
        indices[-1] = indices[0]
        return indices


class SignedTop(TopK):
    """The largest, not the largest magnitudes."""

    def choose(self, x, k, history, latest):
        return x.topk(k).indices


class NinetyPercentIsAll(TopK):
    """Sends all from a density of 0.9 on, without the residual."""

    def select_from(self, residual, increment, k, history):
        if k >= 0.9 * len(residual):
            return increment.clone(), None
        return super().select_from(residual, increment, k, history)


class TrustsHistory(HGGTopK):
    """Takes the last threshold whatever it selects now."""

    def choose(self, x, k, history, latest):
        last = float(history[0])
        indices = super().choose(x, k, history, latest) if last == 0 else (x.abs() >= last).nonzero().flatten()
        history[0] = float(x.abs().topk(k).values[-1])
        return indices

    def select_from(self, residual, increment, k, history):
        return Compressor.select_from(self, residual, increment, k, history)


class CutsTinyOff(TopK):
    """Sends nothing below 1e-10."""

    def choose(self, x, k, history, latest):
        indices = super().choose(x, k, history, latest)
        return indices[x[indices].abs() >= 1e-10]


class OwnDraws(RandomK):
    """Draws that do not follow from the seed: every rank its own."""

    def generator(self, history):
        return np.random.default_rng()


class OneDraw(RandomK):
    """The same draw at every step."""

    def generator(self, history):
        return np.random.default_rng(self.seed)


class PromisesWhatOthersChoose(TopK):
    """Follows the gradient, and says that it does not."""

    shares_indices = True


class KeepsItsPromiseSecret(RandomK):
    """Could be sent without indices, and does not say so."""

    shares_indices = False


class SharedMemory(GradientCompressor):
    """State of the class, as in the field's code."""

    shared = GradientCompressor(TopK(), Residual()).memory

    def __init__(self, *parts):
        super().__init__(*parts)
        self.memory = self.shared


class ForgetsTheScale(GradientCompressor):
    """Takes several at once in the units of the first step."""

    def send_each(self, gradients, density, *, epoch=None, scale=1.0):
        return super().send_each(gradients, density, epoch=epoch)


class ForgetsTheEpoch(GradientCompressor):
    """Warms up what is sent alone, and nothing that is sent with others."""

    def send_each(self, gradients, density, *, epoch=None, scale=1.0):
        return super().send_each(gradients, density, scale=scale)


class LosesTheOthers(GradientCompressor):
    """Keeps what one layer sent when the next one fails as sent."""

    def take_back(self, sparse, name):
        pass


class ClipsInPlace(MomentumCorrection):
    """Scales the caller's gradient."""

    def increment(self, gradient, buffers):
        return super().increment(gradient.mul_(0.5), buffers)


class OneVelocity(MomentumCorrection):
    """One momentum for all parameters."""

    kept = {"velocity": torch.zeros(50)}  # noqa: RUF012

    def increment(self, gradient, buffers):
        return super().increment(gradient, self.kept)


CONTROLS = {
    "residual not cleared": partial(compressors.check_nothing_is_lost, ResidualNotCleared()),
    "residual not cleared: sum": partial(compressors.check_telescoping, ResidualNotCleared()),
    "ties all sent": partial(compressors.check_form_of_what_is_sent, TiesAllSent()),
    "ties all lost": partial(compressors.check_largest, TiesAllLost()),
    "gradient counts twice": partial(compressors.check_nothing_is_lost, GradientCountsTwice()),
    "compensates in place": partial(compressors.check_form_of_what_is_sent, CompensatesInPlace()),
    "same index twice": partial(compressors.check_form_of_what_is_sent, SameIndexTwice()),
    "signed top": partial(compressors.check_largest, SignedTop()),
    "signed top: sign": partial(compressors.check_scale_and_sign, SignedTop()),
    "ninety percent is all": partial(compressors.check_everything, NinetyPercentIsAll()),
    "trusts history": partial(compressors.check_history_is_no_burden, TrustsHistory()),
    "cuts tiny off": partial(compressors.check_form_of_what_is_sent, CutsTinyOff()),
    "own draws": partial(compressors.check_shared_indices, OwnDraws()),
    "one draw": partial(compressors.check_shared_indices, OneDraw()),
    "promises what others choose": partial(compressors.check_shared_indices, PromisesWhatOthersChoose()),
    "keeps its promise secret": partial(compressors.check_shared_indices, KeepsItsPromiseSecret()),
    "shared memory": partial(compressors.check_state, lambda: SharedMemory(TopK(), Residual())),
    "scale forgotten": partial(compressors.check_several_at_once, TopK(), ForgetsTheScale),
    "epoch forgotten": partial(compressors.check_several_at_once, TopK(), ForgetsTheEpoch),
    "others lost": partial(compressors.check_an_error_takes_nothing, TopK(), LosesTheOthers),
    "clips in place": partial(feedback.check_gradient_is_left_alone, ClipsInPlace()),
    "one velocity": partial(feedback.check_parameters_do_not_meet, OneVelocity()),
}
