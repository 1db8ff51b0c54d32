"""What `fewstep prompts rewrite` does and prints."""

from pathlib import Path

from rich.console import Console

from fewstep.cli.verbs.prompts import refuse_written, spending_bar
from fewstep.data.cases import write_jsonl
from fewstep.data.prompts.prompt_rewriter import questions, rewrite_prompts
from fewstep.data.sources import cases_of, entries_of
from fewstep.endpoint.declaration import load_endpoint
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError


def rewrite_cases(source: str, declaration: Path, to: Path, instructions: Path | None, console: Console) -> None:
    """Writes the cases of `source` with prompts for the teachers. Answers are kept as they come.

    Raises:
        CaseError: the cases or the instructions cannot be read, or `to` is there already.
        EndpointError, DeclarationError: the endpoint or its file cannot be used.
    """
    record = to.with_name(f"{to.stem}.answers.jsonl")
    refuse_written(to)
    endpoint = load_endpoint(declaration)
    endpoint.key()
    asked = questions(None if instructions is None else _words(instructions))
    cases = cases_of(entries_of(source, to.with_name(f"{to.stem}-pictures")), source)
    wanted = sum(case.teacher_prompt is None for case in cases)
    console.print(f"answers are kept in [bold]{record}[/]", highlight=False, soft_wrap=True)
    with spending_bar(wanted, console) as seen:
        rewritten = rewrite_prompts(cases, endpoint, record, asked, seen)
    durable.make_folder(to.parent)
    write_jsonl(to, rewritten)
    left = [case for case in rewritten if case.teacher_prompt is None]
    console.print(
        f"{wanted - len(left):,} of {wanted:,} prompts rewritten in [bold]{to}[/]", highlight=False, soft_wrap=True
    )
    if left:
        console.print(
            f"{len(left):,} cases have none, because no answer kept their quoted text or could be read; their teachers "
            f"read what the student reads. The first is {left[0].id}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


def _words(path: Path) -> str:
    try:
        words = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"--instructions {path} cannot be read as UTF-8 text ({error})") from error
    if not words:
        raise CaseError(f"--instructions {path} is empty; write what the model is to do, or leave it out")
    return words
