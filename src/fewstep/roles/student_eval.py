"""The types of what examines a student during a run: three callables, each made by the next one below."""

from collections.abc import Callable, Mapping

from fewstep.backbones.backbone import Backbone
from fewstep.flow.sigmas import SigmaGrid
from fewstep.roles.network import Network

StudentEval = Callable[[int], Mapping[str, float]]
"""Returns figures of the student, by name, after so many iterations."""
StudentEvalBuilder = Callable[[Network, SigmaGrid, str], StudentEval]
"""Makes a StudentEval from a student, the grid that it is sampled on, and the precision."""
StudentEvalSetup = Callable[[Backbone], StudentEvalBuilder]
"""Makes a StudentEvalBuilder from a model that still has its encoder, so that the examiner can encode its own
prompts."""
