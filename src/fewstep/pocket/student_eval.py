"""The probe as a run's examiner: a few held-out cases are drawn with the student whenever the run asks.

The examination proper uses other cases (another seed), so choosing a checkpoint by these figures does not flatter the
reported figures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fewstep.backbones.backbone import Backbone
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.pocket.exam import ExamSpec, headline
from fewstep.pocket.exam_gallery import AskedCase, Sampler
from fewstep.pocket.probe import Probe
from fewstep.pocket.systems import ConditioningCache, sampler_of
from fewstep.roles.network import Network
from fewstep.roles.student_eval import StudentEval, StudentEvalBuilder
from fewstep.runtime.device import autocast
from fewstep.runtime.task import Task

SEED = 9  # of the cases; the examination uses another one
CASES = 24  # ours: 72 prompts and 144 edits, some seconds; half as many chose the wrong checkpoint as the best
GUIDANCE: Mapping[Task, Guidance] = {"t2i": NO_GUIDANCE, "edit": NO_GUIDANCE}


def probe_eval(backbone: Backbone) -> StudentEvalBuilder:
    """An examiner that returns mean figures of the student, and `score`, the mean of those in [0, 1], to choose the
    best checkpoint by."""
    questions, probe = ExamSpec(cases=CASES, diversity=0, seed=SEED).questions(), Probe.load()
    cases = [case for case, _ in questions]
    return eval_of(backbone, cases, lambda sampler: with_score(headline(sampler, questions, probe)))


def eval_of(
    backbone: Backbone, cases: Sequence[AskedCase], figures: Callable[[Sampler], Mapping[str, float]]
) -> StudentEvalBuilder:
    """Encodes the cases while `backbone` still can, and returns the examiner. Given the student's network, its grid and
    precision, the examiner returns the figures of a sampler that draws with the student as it is."""
    encoded = ConditioningCache(backbone)
    for case in cases:
        encoded(case)

    def for_student(student: Network, grid: SigmaGrid, precision: str) -> StudentEval:
        @contextmanager
        def inside() -> Iterator[None]:
            with student.active(), autocast(backbone.device, precision):
                yield

        sampler = sampler_of(backbone, student.transformer, grid, GUIDANCE, encoded, inside)
        return lambda iteration: figures(sampler)

    return for_student


def with_score(found: Mapping[str, float]) -> dict[str, float]:
    """The figures of `headline`, with `score` before them: the mean of the shares of what was asked for."""
    shares = [found[name] for name in ("attributes", "letters", "changed") if name in found]
    return {"score": sum(shares) / len(shares), **found}
