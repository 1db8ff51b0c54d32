"""The probe as a run's examiner: a few held-out cases are drawn with the student whenever the run asks.

The examination proper uses other cases (another seed), so choosing a checkpoint by these figures does not flatter the
reported figures.
"""

from collections.abc import Mapping

from fewstep.backbones.backbone import Backbone
from fewstep.pocket.exam import ExamSpec, headline
from fewstep.pocket.probe import Probe
from fewstep.pocket.systems import eval_of
from fewstep.roles.student_eval import StudentEvalBuilder

SEED = 9  # of the cases; the examination uses another one
CASES = 24  # ours: 72 prompts and 144 edits, some seconds; half as many chose the wrong checkpoint as the best


def probe_eval(backbone: Backbone) -> StudentEvalBuilder:
    """An examiner that returns mean figures of the student, and `score`, the mean of those in [0, 1], to choose the
    best checkpoint by."""
    questions, probe = ExamSpec(cases=CASES, diversity=0, seed=SEED).questions(), Probe.load()
    cases = [case for case, _ in questions]
    return eval_of(backbone, cases, lambda sampler: with_score(headline(sampler, questions, probe)))


def with_score(found: Mapping[str, float]) -> dict[str, float]:
    """The figures of `headline`, with `score` before them: the mean of the shares of what was asked for."""
    shares = [found[name] for name in ("attributes", "letters", "changed") if name in found]
    return {"score": sum(shares) / len(shares), **found}
