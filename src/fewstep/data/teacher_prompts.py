"""Prompts for the teachers alone: what is worth saying of them before a run. Without torch.

A case may carry `prompt`, which the student reads, and `teacher_prompt`, a rewriting of it that the teachers read. The
student then learns what the teacher draws from the rewriting, and needs no rewriter at inference.
"""

from collections.abc import Sequence

from fewstep.data.cases import Case
from fewstep.data.prompts.wording import quoted
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.prompt_owner import PromptOwner


def teacher_prompt_remarks(cases: Sequence[Case], critic_reads: PromptOwner) -> list[str]:
    """One line for each thing that is probably not meant.

    Args:
        critic_reads: the recipe's `critic.prompts`.

    Raises:
        RecipeError: the critic is to read the teachers' prompts, and no case has one.
    """
    rewritten = [case for case in cases if case.teacher_prompt is not None]
    if not rewritten:
        if critic_reads == "teacher":
            raise RecipeError(
                "critic.prompts is teacher, but no case has a teacher_prompt. Set critic.prompts: student, or write "
                "them (fewstep prompts rewrite)"
            )
        return []
    remarks = []
    if missing := [case for case in cases if case.teacher_prompt is None]:
        remarks.append(
            f"{len(missing):,} of {len(cases):,} cases have no teacher_prompt: their teachers read what the student "
            f"reads. The first is {missing[0].where or missing[0].id}"
        )
    if lossy := [(case, lost) for case in rewritten if (lost := lost_quotes(case.prompt, case.taught_prompt))]:
        case, lost = lossy[0]
        remarks.append(
            f"{len(lossy):,} rewritten prompts have lost text that stood in quotation marks, so their pictures would "
            f'lack it. The first is {case.where or case.id}: "{lost[0]:.60}"'
        )
    return remarks


def lost_quotes(prompt: str, rewritten: str) -> list[str]:
    """The texts in straight double quotes that stand in `prompt` and, letter by letter, nowhere in `rewritten`."""
    return [text for text in quoted(prompt) if text not in rewritten]
