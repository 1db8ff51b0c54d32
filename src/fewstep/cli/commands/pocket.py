"""`fewstep pocket`: the embedded default."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import out, with_error_message
from fewstep.runtime.errors import EnvironmentRefused, ModelError, RecipeError

app = typer.Typer(no_args_is_help=True, help="The embedded default: its world, its teacher, its examination.")


@contextmanager
def _needs_checkout() -> Iterator[None]:
    """Wraps an import of pocket_making, which lies beside fewstep in a checkout and is not installed with it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pocket_making":
            raise
        raise EnvironmentRefused(
            "this installation cannot make pocket weights: pocket_making is not part of the installed package. Clone "
            "the repository and run the command from there, after `pip install -e .`"
        ) from error


@app.command("train")
@with_error_message
def pocket_train(
    to: Annotated[Path, typer.Option("--out", help="Work folder; the same one resumes.")] = Path("runs/pocket-teacher"),
    minutes_vae: Annotated[float, typer.Option(help="Training minutes of the autoencoder's decoder.", min=0)] = 20,
    minutes_teacher: Annotated[float, typer.Option(help="Training minutes of the teacher.", min=0)] = 120,
    world: Annotated[str, typer.Option(help="`pocket`, or `harder`, the world that is being made.")] = "pocket",
    seed: Annotated[int, typer.Option(help="Of the batches; another one for each stretch.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Processes of one thread.", min=1)] = 2,
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A pocket pipeline to go on from: its folder, or `pocket`; from nothing if not given."),
    ] = None,
) -> None:
    """Make the pocket teacher again: autoencoder, teacher, probe. The shipped weights came from this."""
    with _needs_checkout():
        from pocket_making.harder.train import train_harder
        from pocket_making.harder.vocabulary import vocabulary as harder_words
        from pocket_making.teacher_trainer import TeacherTrainingConfig
        from pocket_making.train import train_pocket
    from fewstep.pocket.build import TEACHER
    from fewstep.pocket.vocabulary import vocabulary

    worlds: dict[str, Callable[..., Path]] = {"pocket": train_pocket, "harder": train_harder}
    if world not in worlds:
        raise RecipeError(f"--world {world}: there is no such world; choose {' or '.join(worlds)}")

    begun = TEACHER if start == "pocket" else None if start is None else Path(start)
    if begun is not None and not (begun / "model_index.json").is_file():
        raise ModelError(f"--start {start}: no pipeline folder there; give one that `pocket train` wrote, or `pocket`")
    words = harder_words() if world == "harder" else vocabulary()
    if begun is not None and not words.keys() <= _words_of(begun):
        raise RecipeError(f"--start {start}: its words are not those of the {world} world; give a folder that it wrote")
    minutes = {"minutes_vae": minutes_vae, "minutes_teacher": minutes_teacher}
    worlds[world](to, **minutes, plan=TeacherTrainingConfig(seed=seed), workers=workers, start=begun)


def _words_of(pipeline: Path) -> set[str]:
    """The words of a pocket pipeline's tokenizer; none if it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return {*json.loads((pipeline / "processor" / "tokenizer.json").read_bytes())["model"]["vocab"]}
    return set()


@app.command("phrases")
@with_error_message
def pocket_phrases() -> None:
    """What the pocket world may be asked: every phrase that its teacher and students know."""
    from fewstep.pocket.known_words import phrase_book

    out.print(phrase_book(), highlight=False, soft_wrap=True, markup=False)


ExamCaseCount = Annotated[int, typer.Option(help="Held-out cases per category and edit kind.", min=1)]
DiversityCaseCount = Annotated[int, typer.Option(help="Prompts of each category that are drawn with 8 seeds.", min=0)]


@app.command("examine")
@with_error_message
def pocket_examine(
    model: Annotated[str, typer.Argument(help="`pocket` (the teacher) or a student folder made from it.")] = "pocket",
    cases: ExamCaseCount = 100,
    diversity: DiversityCaseCount = 0,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Sampler steps; the model's own if not given.", min=1),
    ] = None,
    guidance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Guidance scale; the model's own if not given.", min=0),
    ] = None,
    adapter: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A LoRA over it to examine beside it: a file, or `pocket:portrait|text|edit|editor`."),
    ] = None,
    to: Annotated[Path, typer.Option("--out", help="Where pictures and figures go.")] = Path("runs/pocket-examination"),
) -> None:
    """Examine a model on held-out pocket cases with the probe."""
    from fewstep.cli.verbs.demo import examine_and_show
    from fewstep.pocket.exam import ExamSpec

    spec = ExamSpec(cases=cases, diversity=diversity)
    examine_and_show(model, spec=spec, steps=steps, guidance=guidance, adapter=adapter, to=to, console=out)


@app.command("compare")
@with_error_message
def pocket_compare(
    student: Annotated[Path, typer.Argument(help="A student folder made from the pocket teacher.")],
    cases: ExamCaseCount = 100,
    diversity: DiversityCaseCount = 8,
    seed: Annotated[
        int, typer.Option(help="Which held-out cases: choose a recipe on some, report on others.", min=0)
    ] = 1,
    to: Annotated[Path, typer.Option("--out", help="Where pictures and figures go.")] = Path("runs/pocket-comparison"),
) -> None:
    """A student against its teacher at full steps with guidance, and at 4 steps without: same cases, same seeds."""
    from fewstep.cli.verbs.demo import compare_and_show
    from fewstep.pocket.exam import ExamSpec

    compare_and_show(student, ExamSpec(cases=cases, diversity=diversity, seed=seed), to, out)


@app.command("specialise")
@with_error_message
def pocket_specialise(
    kind: Annotated[str, typer.Argument(help="`portrait`, `text`, `edit` or `editor`.")],
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Folder of the LoRA file; `runs/specialists/KIND` if not given."),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Training minutes.", min=0.01)] = 5,
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A LoRA to go on from: a file, or an embedded one such as `pocket:editor`."),
    ] = None,
) -> None:
    """Make a specialised pocket teacher: a LoRA post-trained on clean, narrow pairs of one kind."""
    with _needs_checkout():
        from pocket_making.specialise import KINDS, specialise

    if kind not in KINDS:
        raise RecipeError(f"'{kind}' is no kind of specialist; choose {', '.join(KINDS)}")
    folder = to or Path("runs/specialists") / kind
    specialise(kind, folder, minutes, start=start, log=lambda text: out.print(text, highlight=False))


@app.command("judge")
@with_error_message
def pocket_judge(
    gallery: Annotated[Path, typer.Argument(help="A gallery of a pocket suite (`fewstep generate`, `bench adopt`).")],
) -> None:
    """Judge a gallery with the probe: no network, no key, and the same record as any other judge."""
    from fewstep.cli.verbs import suites
    from fewstep.pocket.judge import judge

    suites.show_scores(judge(gallery), gallery, out)
