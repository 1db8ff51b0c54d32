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
        long = [prompt for prompt in case.prompts if may_be_long(prompt)]
        if not long:  # its pictures need not be looked at
            continue
        target, references = kind_of(case, estimate, size)
        for prompt in long:
            if fault := estimate.long_text(prompt, target, references):
                whose = "" if prompt == case.prompt else "in its teacher_prompt "
                raise CaseError(f"{case.where}: case {case.id!r} has {whose}{fault}")
