"""What examines a run's student on the way: three callables, each made by the one before."""

from collections.abc import Callable, Mapping

from fewstep.backbones.backbone import Backbone
from fewstep.flow.sigmas import SigmaGrid
from fewstep.roles.network import Network

StudentEval = Callable[[int], Mapping[str, float]]
"""Figures of the student after so many iterations."""
StudentEvalBuilder = Callable[[Network, SigmaGrid, str], StudentEval]
"""For a student, the grid that it is sampled on, and the precision."""
StudentEvalSetup = Callable[[Backbone], StudentEvalBuilder]
"""For a model that still has its encoder, so that prompts of the examiner's own can be encoded."""
