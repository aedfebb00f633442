"""Surrogates that are wrong in ways that have been seen, several in published code: each must fail its contract."""

from functools import partial

import torch
from checks import surrogates as checks
from torch import Tensor

from lowbit.quantizers.binary_sign import BinarySign
from lowbit.surrogates.ede import EDE
from lowbit.surrogates.magnitude_aware import MagnitudeAware
from lowbit.surrogates.swish_sign import SwishSign
from lowbit.surrogates.triangle import Triangle
from lowbit.surrogates.window import Window


class HalfAsSteep(Window):
    """Half of the derivative that it names."""

    def surrogate_gradient(self, u):
        return 0.5 * super().surrogate_gradient(u)


class BordersTooFar(Window):
    """Twice as wide as it says."""

    def surrogate_gradient(self, u):
        return Window(width=2 * self.width).surrogate_gradient(u)


class ForgetsTheScale(Window):
    """Looks at the value instead of value / scale."""

    def attach(self, value, quantized, scale):
        return super().attach(value, quantized, torch.ones_like(scale))


class ForgetsTheMagnitude(MagnitudeAware):
    """The window on the weight itself, without the factor that it stands beside."""

    def attach(self, value, quantized, scale):
        return Window().attach(value, quantized, torch.ones_like(scale))


class MagnitudeInTheWindow(MagnitudeAware):
    """The factor, with a window in codes."""

    def attach(self, value, quantized, scale):
        return scale.detach() * Window().attach(value, quantized / scale, scale)


class TwoForwardRoundings(Window):
    """value + (quantized - value).detach(): not the quantized value in floating point."""

    def attach(self, value, quantized, scale):
        return value + (quantized - value).detach()


class UnderNoGrad(Window):
    """Attaches where autograd does not look: no gradient at all."""

    def attach(self, value, quantized, scale):
        with torch.no_grad():
            return super().attach(value, quantized, scale)


class SignsAgain(Window):
    """torch.sign in the forward pass: a third value at zero, whatever the quantizer says."""

    def attach(self, value, quantized, scale):
        return super().attach(value, value.sign() * scale, scale)


class _TupleForTensor(torch.autograd.Function):
    """The comma after the saved tensor is missing."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, quantized: Tensor) -> Tensor:
        return quantized.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, gradient):
        value = ctx.saved_tensors
        return gradient * torch.ones_like(value), None


class WrongUnpacking(Window):
    """Runs forward, and raises in the first backward."""

    def attach(self, value, quantized, scale):
        return _TupleForTensor.apply(value, quantized)


class _Prints(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, quantized: Tensor, slope: Tensor) -> Tensor:
        return quantized.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx, gradient):
        print("backward:", gradient.shape)
        return gradient * ctx.saved_tensors[0], None, None


class PrintsInBackward(Window):
    """Right, and a line of output for every layer and step."""

    def attach(self, value, quantized, scale):
        return _Prints.apply(value, quantized.detach(), self.surrogate_gradient((value / scale).detach()))


class _EditsWhatItSaved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, quantized, scale):
        ctx.save_for_backward(value, scale)
        value.clamp_(-1.0, 1.0)
        return quantized.clone()

    @staticmethod
    def backward(ctx, gradient):
        value, scale = ctx.saved_tensors
        return gradient * ((value / scale).abs() <= 1.0), None, None


class EditsItsInput(Window):
    """Clips its input in place, which is the caller's tensor and the one kept for backward."""

    def attach(self, value, quantized, scale):
        return _EditsWhatItSaved.apply(value, quantized, scale)


class _OldStyle(torch.autograd.Function):
    """Right in all but form; `edits` has it write into the gradient that it was handed."""

    @staticmethod
    def forward(ctx, value, quantized, slope, edits):
        ctx.save_for_backward(slope)
        ctx.edits = edits
        return quantized.clone()

    @staticmethod
    def backward(ctx, gradient):
        (slope,) = ctx.saved_tensors
        return (gradient.mul_(slope) if ctx.edits else gradient * slope), None, None, None


class ContextStyle(Window):
    """forward(ctx, ...) as most do it: works in plain autograd, cannot be vmapped."""

    def attach(self, value, quantized, scale, edits=False):
        slope = self.surrogate_gradient((value / scale).detach())
        return _OldStyle.apply(value, quantized.detach(), slope, edits)


class EditsTheGradient(ContextStyle):
    """Multiplies the incoming gradient in place, though another branch may still need it."""

    def attach(self, value, quantized, scale):
        return super().attach(value, quantized, scale, edits=True)


class _Outer(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value, quantized, scale, inner):
        return inner(value, quantized, scale)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], inputs[2])

    @staticmethod
    def backward(ctx, gradient):
        value, scale = ctx.saved_tensors
        return gradient * ((value / scale).abs() <= 1.3), None, None, None


class DeadInside(Triangle):
    """Called inside another Function's forward, which records nothing: that one's window is all that acts."""

    def attach(self, value, quantized, scale):
        return _Outer.apply(value, quantized.detach(), scale.detach(), super().attach)


class ClipsTheGradient(Window):
    """Clips the value of the gradient where a window on the input is meant."""

    def attach(self, value, quantized, scale):
        attached = Window(width=1e9).attach(value, quantized, scale)
        attached.register_hook(lambda gradient: gradient.clamp(-self.width, self.width))
        return attached


class StatesTheWrongMass(Triangle):
    """The mass of the window."""

    @property
    def mass(self):
        return 1.0


class LopsidedAntiderivative(Triangle):
    """Right up to a constant: not odd, and without the limits of a sign."""

    def antiderivative(self, u):
        return super().antiderivative(u) + 1.0


class NormalizedInName(Window):
    """Takes the setting, says that the mass is 2, and forgets the derivative."""

    def surrogate_gradient(self, u):
        return Window(width=self.width).surrogate_gradient(u)


class MassOfItsOwn(Triangle):
    """Half a triangle, and no way to the mass of a sign."""

    def surrogate_gradient(self, u):
        return 0.5 * super().surrogate_gradient(u)

    def antiderivative(self, u):
        return 0.5 * super().antiderivative(u)

    @property
    def mass(self):
        return 1.0


class Overflows(SwishSign):
    """The formula as it is printed: cosh is infinite long before its argument is."""

    def surrogate_gradient(self, u):
        z = self.b * u
        return self.b * (2.0 - z * torch.tanh(z / 2)) / (1.0 + torch.cosh(z))


class CumulativeProgress(EDE):
    """Every call of `at` adds to the last."""

    def at(self, progress):
        return super().at(min(1.0, self.progress + progress)) if progress <= 1 else super().at(progress)


class ZeroIsDefault(EDE):
    """`progress or default`: the start of training cannot be asked for."""

    @property
    def t(self):
        return EDE(progress=self.progress or 0.5).t


class UncheckedProgress(Window):
    """Takes the number of the epoch for a fraction."""

    def at(self, progress):
        return self


CONTROLS = {
    "half as steep": partial(checks.check_is_derivative, HalfAsSteep()),
    "borders too far": partial(checks.check_is_derivative, BordersTooFar()),
    "scale forgotten": partial(checks.check_attach, ForgetsTheScale()),
    "magnitude forgotten": partial(checks.check_attach, ForgetsTheMagnitude()),
    "magnitude in the window": partial(checks.check_serves, MagnitudeInTheWindow(), BinarySign()),
    "two roundings": partial(checks.check_attach, TwoForwardRoundings()),
    "zero gradient": partial(checks.check_attach, UnderNoGrad()),
    "torch.sign again": partial(checks.check_serves, SignsAgain(), BinarySign(scaled=False)),
    "wrong unpacking": partial(checks.check_attach, WrongUnpacking()),
    "prints in backward": partial(checks.check_attach, PrintsInBackward()),
    "edits its input": partial(checks.check_attach, EditsItsInput()),
    "edits the gradient": partial(checks.check_attach, EditsTheGradient()),
    "cannot be vmapped": partial(checks.check_functional_transforms, ContextStyle()),
    "dead inside another Function": partial(checks.check_attach, DeadInside()),
    "clips the gradient": partial(checks.check_attach, ClipsTheGradient()),
    "wrong mass": partial(checks.check_mass, StatesTheWrongMass()),
    "lopsided antiderivative": partial(checks.check_symmetry, LopsidedAntiderivative()),
    "lopsided antiderivative: mass": partial(checks.check_mass, LopsidedAntiderivative()),
    "normalized in name": partial(checks.check_mass, NormalizedInName(width=0.5, normalized=True)),
    "normalized in name: shape": partial(checks.check_normalized, NormalizedInName(width=0.5)),
    "mass of its own": partial(checks.check_normalized, MassOfItsOwn()),
    "overflows": partial(checks.check_symmetry, Overflows()),
    "cumulative progress": partial(checks.check_schedule, CumulativeProgress()),
    "zero is the default": partial(checks.check_zero_counts, ZeroIsDefault()),
    "unchecked progress": partial(checks.check_schedule, UncheckedProgress()),
}
