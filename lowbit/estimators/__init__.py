"""Estimators: a loss that rounds to a direction along which it is meant to fall.

`ModuleObjective` makes the loss of any network one that they can be asked about.
"""

from lowbit.estimators._base import Estimate, Estimator, Objective
from lowbit.estimators._module import ModuleObjective

__all__ = ["Estimate", "Estimator", "ModuleObjective", "Objective"]
