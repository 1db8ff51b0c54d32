"""`fewstep judge`: vision-language models that rate or compare the pictures of galleries."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import out, with_error_message

app = typer.Typer(
    no_args_is_help=True,
    help="Let a vision-language model judge galleries. Any OpenAI-compatible endpoint will do; see docs/judges.md.",
)

GalleryFolder = Annotated[Path, typer.Argument(metavar="GALLERY", help="A gallery's folder.")]
JudgeFile = Annotated[Path, typer.Option("--judge", help="The .toml or .yaml file that declares the judge's endpoint.")]
ProtocolName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--protocol", help="How it is asked (`fewstep judge protocols`), or a .yaml file of yours."),
]
Limit = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Ask about so many pictures only, drawn from all categories."),
]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and ask nothing.")]


@app.command("run")
@with_error_message
def judge_run(
    gallery: GalleryFolder,
    judge: JudgeFile,
    protocol: ProtocolName = None,
    limit: Limit = None,
    dry: Dry = False,
) -> None:
    """Ask a judge about every picture of a gallery. The same command goes on where it was stopped.

    Every answer is on disk before the next question; nothing that was answered is asked again.
    """
    from fewstep.cli.verbs import judge_passes

    judge_passes.run(gallery, judge, protocol, limit, dry, out)


@app.command("retry")
@with_error_message
def judge_retry(
    gallery: GalleryFolder,
    judge: JudgeFile,
    protocol: ProtocolName = None,
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--only", metavar="STATUS", help="Only what ended so, e.g. `--only failed`. Repeatable."),
    ] = None,
) -> None:
    """Ask again what has no good answer - failed, refused, invalid, truncated, out of range - and nothing else."""
    from fewstep.cli.verbs import judge_passes

    judge_passes.retry(gallery, judge, protocol, only or [], out)


@app.command("pair")
@with_error_message
def judge_pair(
    a: Annotated[Path, typer.Argument(metavar="GALLERY_A", help="One system's gallery; answers go beside it.")],
    b: Annotated[Path, typer.Argument(metavar="GALLERY_B", help="Another system's, for the same suite.")],
    judge: JudgeFile,
    protocol: ProtocolName = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Show so many pairs only."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--retry", help="Ask again what has no good answer, and nothing else.")
    ] = False,
    dry: Dry = False,
) -> None:
    """Show a judge two systems' pictures of each case, in both orders: A, B or a tie."""
    from fewstep.cli.verbs import judge_passes

    judge_passes.pair(a, b, judge, protocol, limit, again, dry, out)


@app.command("check")
@with_error_message
def judge_check(
    judge: JudgeFile,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", help="Where checks and the baseline are kept; `judge-checks/NAME` if not given."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep this check as the baseline of later ones.")] = False,
) -> None:
    """Put pictures whose order is known to a judge. Exit code 1: it is unfit, or has drifted from the baseline."""
    from fewstep.cli.verbs import judge_passes

    if judge_passes.check(judge, to, keep, out).alarms:
        raise typer.Exit(1)


@app.command("protocols")
@with_error_message
def judge_protocols(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Show every word of this one."),
    ] = None,
    category: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only the rubric of this category."),
    ] = None,
) -> None:
    """List the protocols, or show one as it is sent."""
    from fewstep.cli.verbs import judge_protocols

    if name is None:
        judge_protocols.list_protocols(out)
    else:
        judge_protocols.show_protocol(name, category, out)
