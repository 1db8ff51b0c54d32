"""`fewstep pocket`: the embedded default."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.commands.shared import out, refusing

app = typer.Typer(no_args_is_help=True, help="The embedded default: its world, its teacher, its examination.")


@app.command("train")
@refusing
def pocket_train(
    to: Annotated[Path, typer.Option("--out", help="Work folder; the same one resumes.")] = Path("runs/pocket-teacher"),
    minutes_vae: Annotated[float, typer.Option(help="Training minutes of the autoencoder.")] = 20,
    minutes_teacher: Annotated[float, typer.Option(help="Training minutes of the teacher.")] = 120,
) -> None:
    """Make the pocket teacher again: autoencoder, teacher, probe. The shipped weights came from this."""
    from fewstep.pocket.train import train_pocket

    train_pocket(to, minutes_vae=minutes_vae, minutes_teacher=minutes_teacher)


@app.command("examine")
@refusing
def pocket_examine(
    model: Annotated[str, typer.Argument(help="`pocket` (the teacher) or a student folder made from it.")] = "pocket",
    cases: Annotated[int, typer.Option(help="Held-out cases per category and edit kind.", min=1)] = 100,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Sampler steps; the model's own if not given.", min=1),
    ] = None,
    guidance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Guidance scale; the model's own if not given.", min=0),
    ] = None,
    to: Annotated[Path, typer.Option("--out", help="Where pictures and figures go.")] = Path("runs/pocket-examination"),
) -> None:
    """Examine a model on held-out pocket cases with the probe."""
    from fewstep.demo import examine

    examine(model, cases=cases, steps=steps, guidance=guidance, to=to)


@app.command("judge")
@refusing
def pocket_judge(
    gallery: Annotated[Path, typer.Argument(help="A gallery of a pocket suite (`fewstep generate`, `bench adopt`).")],
) -> None:
    """Judge a gallery with the probe: no network, no key, and the same record as any other judge."""
    from fewstep import suite_tables
    from fewstep.pocket.judge import judge

    suite_tables.show_scores(judge(gallery), gallery, out)
