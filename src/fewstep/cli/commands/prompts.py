"""`fewstep prompts`: sets of prompts and of edit instructions, written by grammars or by a language model."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from fewstep.cli.commands.shared import out, with_error_message
from fewstep.runtime.errors import CaseError

app = typer.Typer(no_args_is_help=True, help="Write prompts and edit instructions to learn from.")


@app.command("build")
@with_error_message
def prompts_build(
    category: Annotated[
        list[str],
        typer.Option(
            "--category",
            "-c",
            help="landscape, portrait, text; of edits scene, perceptual, object, text, identity, style; or all. "
            "Repeatable.",
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="The cases file (.jsonl) to write.")],
    count: Annotated[int, typer.Option(help="Distinct prompts of each category.", min=1, max=10_000_000)] = 20_000,
    seed: Annotated[int, typer.Option(help="Another seed, another set.", min=0)] = 0,
    task: Annotated[Literal["t2i", "edit"], typer.Option(help="Prompts of pictures, or of edits.")] = "t2i",
    source: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--from",
            help="Pictures to edit: a folder (x.txt beside x.png says what x.png shows), a gallery that "
            "`fewstep generate` wrote, or cases with target pictures.",
        ),
    ] = None,
    shows: Annotated[
        Optional[Literal["landscape", "portrait", "text"]],  # noqa: UP045
        typer.Option(help="What all pictures show, where they do not say."),
    ] = None,
    as_they_are: Annotated[
        bool,
        typer.Option(
            "--as-they-are",
            help="Perceptual edits ask to improve the pictures as they are. Otherwise each gets a copy that is dark, "
            "noisy, blurred, ..., to be mended.",
        ),
    ] = False,
    endpoint: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A .toml or .yaml that declares a chat endpoint: it writes instead of the grammar."),
    ] = None,
    each: Annotated[int, typer.Option(help="With --endpoint: prompts asked for by one request.", min=1, max=100)] = 10,
    avoid: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A benchmark suite's folder or file of prompts: nothing that shares 8 words with it."),
    ] = None,
) -> None:
    """Write a set of distinct prompts, or of edit instructions about pictures at hand.

    The grammars need no network and give the same set for the same seed. An endpoint's answers are kept as they come:
    stop it at any time, the same command goes on.
    """
    from fewstep.cli.verbs import prompts

    if (task == "edit") != (source is not None):
        raise CaseError(
            "edits need pictures; name them with --from"
            if task == "edit"
            else "--from gives pictures to edit; add --task edit, or leave it out"
        )
    categories = prompts.selected_categories(task, category)
    order = prompts.PromptSetSpec(task, categories, count, seed, to, source, shows, not as_they_are, avoid)
    if endpoint is None:
        prompts.build_prompts(order, out)
    else:
        prompts.ask_prompts(order, endpoint, each, out)


@app.command("rewrite")
@with_error_message
def prompts_rewrite(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="Cases of any format that `fewstep cases check` reads.")
    ],
    endpoint: Annotated[Path, typer.Option(help="A .toml or .yaml that declares a chat endpoint.")],
    to: Annotated[Path, typer.Option("--to", help="The cases file (.jsonl) to write.")],
    instructions: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A text file with what the model is told, such as the makers' own rewriting prompt."),
    ] = None,
) -> None:
    """Give cases a teacher_prompt: a rewriting that the teachers read, while the student reads the prompt itself.

    The student then needs no prompt rewriter. Answers are kept as they come: stop it at any time, the same command goes
    on.
    """
    from fewstep.cli.verbs import prompt_rewriting

    prompt_rewriting.rewrite_cases(source, endpoint, to, instructions, out)


@app.command("report")
@with_error_message
def prompts_report(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="Cases of any format that `fewstep cases check` reads.")
    ],
) -> None:
    """Say how varied a set of prompts is: repeats, vocabulary, overlap of pairs, lengths."""
    from fewstep.cli.verbs import prompts

    prompts.report_prompts(source, out)
