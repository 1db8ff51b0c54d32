"""Refuses cases of more text than their model reads, by its tokenizer alone."""

from collections.abc import Iterable

from fewstep.backbones.conditioning_estimate import ConditioningEstimate, may_be_long
from fewstep.data.cases import Case
from fewstep.encode.estimate import kind_of
from fewstep.runtime.errors import CaseError


def refuse_long_text(cases: Iterable[Case], estimate: ConditioningEstimate, size: tuple[int, int]) -> None:
    """
    Args:
        estimate: of the model that will read the cases.
        size: height and width in px of cases that state none.

    Raises:
        CaseError: the first case whose prompt the model would cut, or has no positions for.
    """
    for case in cases:
        if not may_be_long(case.prompt):  # its pictures need not be looked at
            continue
        target, references = kind_of(case, estimate, size)
        if fault := estimate.long_text(case.prompt, target, references):
            raise CaseError(f"{case.where}: case {case.id!r} has {fault}")
