"""`fewstep pocket`: the embedded default."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import Overrides, out, with_error_message
from fewstep.runtime.errors import EnvironmentRefused, ModelError, RecipeError

WORLDS = ("pocket", "harder")
HARDER = Path("runs/harder")  # where the harder world's teacher and reader are looked for
World = Annotated[str, typer.Option(help="`pocket`, or `harder`, the world that is being made.")]
HarderReader = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--reader", help="Harder world: the folder of its reader; `runs/harder/reader` if not given."),
]

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
    minutes_probe: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Training minutes of the network that examines; 6, or 80 in the harder world.", min=0),
    ] = None,
    minutes_letters: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="Harder world: how many of these are for letters, first; a tenth, or none with --start.",
            min=0,
        ),
    ] = None,
    world: World = "pocket",
    seed: Annotated[int, typer.Option(help="Of the batches; another one for each stretch.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Samples of an update of the teacher, over all workers.", min=1)] = 64,
    workers: Annotated[int, typer.Option(help="Processes of one thread.", min=1)] = 2,
    compiled: Annotated[
        bool, typer.Option("--compile", help="The teacher's blocks compiled; takes g++ and a minute of compiling.")
    ] = False,
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A pocket pipeline to go on from: its folder, or `pocket`; from nothing if not given."),
    ] = None,
) -> None:
    """Make the pocket teacher again: autoencoder, teacher, probe. The shipped weights came from this."""
    with _needs_checkout():
        from fewstep.pocket.harder.vocabulary import vocabulary as harder_words
        from pocket_making.harder.train import train_harder
        from pocket_making.teacher_trainer import TeacherTrainingConfig
        from pocket_making.train import train_pocket
    import torch

    from fewstep.pocket.build import TEACHER
    from fewstep.pocket.vocabulary import vocabulary
    from fewstep.pocket.world_words import tokenizer_words
    from fewstep.roles.compilation import refuse_without_compiler

    _refuse_unknown(world, minutes_letters=minutes_letters)
    worlds: dict[str, Callable[..., Path]] = {"pocket": train_pocket, "harder": train_harder}
    begun = TEACHER if start == "pocket" else None if start is None else Path(start)
    if begun is not None and not (begun / "model_index.json").is_file():
        raise ModelError(f"--start {start}: no pipeline folder there; give one that `pocket train` wrote, or `pocket`")
    if batch % workers:
        raise RecipeError(f"--batch {batch}: {workers} workers cannot share it evenly; give a multiple of {workers}")
    if minutes_letters is not None and minutes_letters >= minutes_teacher:
        raise RecipeError(
            f"--minutes-letters {minutes_letters:g} leaves none of --minutes-teacher {minutes_teacher:g} for all else; "
            "give fewer"
        )
    words = harder_words() if world == "harder" else vocabulary()
    if begun is not None and not words.keys() <= tokenizer_words(begun).keys():
        raise RecipeError(f"--start {start}: its words are not those of the {world} world; give a folder that it wrote")
    if compiled:
        refuse_without_compiler(torch.device("cpu"), "--compile is given", "leave it out")
    minutes = {"minutes_vae": minutes_vae, "minutes_teacher": minutes_teacher}
    chosen = {"minutes_probe": minutes_probe, "minutes_letters": minutes_letters}
    minutes |= {name: given for name, given in chosen.items() if given is not None}
    plan = TeacherTrainingConfig(batch=batch, seed=seed, compiled=compiled)
    worlds[world](to, **minutes, plan=plan, workers=workers, start=begun)


def _refuse_unknown(world: str, **of_the_harder: object) -> None:
    """Refuses a world that there is not, and options of the harder world (by name) beside the pocket world."""
    if world not in WORLDS:
        raise RecipeError(f"--world {world}: there is no such world; choose {' or '.join(WORLDS)}")
    given = [name for name, value in of_the_harder.items() if value is not None]
    if world == "pocket" and given:
        option = given[0].replace("_", "-")
        raise RecipeError(f"--{option} belongs to --world harder; leave it out, or name that world")


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
    world: World = "pocket",
    reader: HarderReader = None,
) -> None:
    """Examine a model on held-out pocket cases with the probe."""
    _refuse_unknown(world, reader=reader)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.cli.verbs.demo import examine_and_show, show_examination
    from fewstep.pocket.exam import ExamSpec

    if world == "harder":
        with _needs_checkout():
            from fewstep.pocket.harder.exam import HarderExamSpec
            from fewstep.pocket.harder.systems import COLUMNS, examine_pipeline

        asked, told = HarderExamSpec(cases=cases, diversity=diversity), TerminalReporter(out)
        read_by = reader or HARDER / "reader"
        found = examine_pipeline(Path(model), read_by, asked, to, steps, guidance, adapter, told)
        show_examination(found, f"{model} on held-out cases of the harder world", to, out, COLUMNS)
        return
    spec = ExamSpec(cases=cases, diversity=diversity)
    examine_and_show(model, spec=spec, steps=steps, guidance=guidance, adapter=adapter, to=to, console=out)


@app.command("compare")
@with_error_message
def pocket_compare(
    student: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="A student folder made from the teacher; may be left out in the harder world."),
    ] = None,
    cases: ExamCaseCount = 100,
    diversity: DiversityCaseCount = 8,
    seed: Annotated[
        int, typer.Option(help="Which held-out cases: choose a recipe on some, report on others.", min=0)
    ] = 1,
    to: Annotated[Path, typer.Option("--out", help="Where pictures and figures go.")] = Path("runs/pocket-comparison"),
    world: World = "pocket",
    teacher: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Harder world: the teacher's folder; `runs/harder/pipeline` if not given."),
    ] = None,
    reader: HarderReader = None,
) -> None:
    """A student against its teacher at full steps with guidance, and at 4 steps without: same cases, same seeds."""
    _refuse_unknown(world, teacher=teacher, reader=reader)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.cli.verbs.demo import compare_and_show, show_examination
    from fewstep.pocket.exam import ExamSpec

    if world == "harder":
        with _needs_checkout():
            from fewstep.pocket.harder.exam import HarderExamSpec
            from fewstep.pocket.harder.systems import COLUMNS, compare_harder

        asked, told = HarderExamSpec(cases=cases, diversity=diversity, seed=seed), TerminalReporter(out)
        read_by = reader or HARDER / "reader"
        found = compare_harder(teacher or HARDER / "pipeline", student, read_by, asked, to, told)
        show_examination(found, "The harder world's teacher on held-out cases", to, out, COLUMNS)
        return
    if student is None:
        raise RecipeError("name a student folder made from the pocket teacher: `fewstep pocket compare STUDENT`")
    compare_and_show(student, ExamSpec(cases=cases, diversity=diversity, seed=seed), to, out)


@app.command("student")
@with_error_message
def pocket_student(
    to: Annotated[Path, typer.Option("--out", help="Folder of cases, run and examination; the same one resumes.")] = (
        HARDER / "student"
    ),
    teacher: Annotated[Path, typer.Option(help="The teacher's folder.")] = HARDER / "pipeline",
    reader: Annotated[Path, typer.Option(help="The folder of the world's reader.")] = HARDER / "reader",
    prompts: Annotated[int, typer.Option(help="Training prompts.", min=1)] = 1500,
    edits: Annotated[int, typer.Option(help="Training edits.", min=1)] = 1500,
    cases: ExamCaseCount = 60,
    diversity: DiversityCaseCount = 8,
    overrides: Overrides = None,
) -> None:
    """Distil the harder world's teacher and examine the student beside it; of the pocket world, `fewstep demo` does."""
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.cli.verbs.demo import show_examination

    with _needs_checkout():
        from fewstep.pocket.harder.exam import HarderExamSpec
        from fewstep.pocket.harder.systems import COLUMNS
        from pocket_making.harder.distil import HarderDistillation, distil_harder

    asked = HarderDistillation(teacher, reader, {"t2i": prompts, "edit": edits}, overrides or ())
    spec = HarderExamSpec(cases=cases, diversity=diversity)
    found = distil_harder(asked, to, spec, TerminalReporter(out))
    show_examination(found, "A student of the harder world and its teacher", to / "examination", out, COLUMNS)
    out.print(f"[bold]{to / 'report.html'}[/]: open it in a browser", highlight=False, soft_wrap=True)


@app.command("specialise")
@with_error_message
def pocket_specialise(
    kind: Annotated[str, typer.Argument(help="`portrait`, `text`, `edit` or, in the pocket world, `editor`.")],
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out",
            help="Folder of the LoRA file; `runs/specialists/KIND` or `runs/harder/specialists/KIND` if not given.",
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Training minutes.", min=0.01)] = 5,
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A LoRA to go on from: a file, or an embedded one such as `pocket:editor`."),
    ] = None,
    world: World = "pocket",
    base: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Harder world: the teacher's folder; `runs/harder/pipeline` if not given."),
    ] = None,
    iterations: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Train for so many, in the place of the minutes.", min=1),
    ] = None,
    examples: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Clean pairs to learn from; 6,000 and 12,000 in the pocket world, 400 in the harder.", min=1),
    ] = None,
    t_min: Annotated[float, typer.Option(help="Learn times above this one alone; t = 1 is noise.", min=0, max=1)] = 0.0,
    t_max: Annotated[float, typer.Option(help="Learn times below this one alone.", min=0, max=1)] = 1.0,
) -> None:
    """Make a specialised pocket teacher: a LoRA post-trained on clean, narrow pairs of one kind."""
    _refuse_unknown(world, base=base)
    from fewstep.pocket.lora_world import refuse_lora_of_other_world

    with _needs_checkout():
        from fewstep.pocket.harder.systems import refuse_no_harder
        from pocket_making.harder.specialise import BRITTLE, HARDER_KINDS, specialise_harder
        from pocket_making.specialise import FINETUNE_CONFIGS, KINDS, specialise

    kinds = KINDS if world == "pocket" else HARDER_KINDS
    if kind not in kinds:
        raise RecipeError(f"'{kind}' is no kind of specialist; choose {', '.join(kinds)}")
    if t_min >= t_max:
        raise RecipeError(f"--t-min {t_min:g} --t-max {t_max:g}: no time lies between them; give a lower --t-min")

    def say(text: str) -> None:
        out.print(text, highlight=False)

    if start is not None:
        refuse_lora_of_other_world(start, world)
    if world == "harder":
        teacher = base or HARDER / "pipeline"
        refuse_no_harder(teacher)
        narrow = replace(BRITTLE, examples=examples or BRITTLE.examples).limited_to(t_min, t_max)
        folder = to or HARDER / "specialists" / kind
        specialise_harder(kind, teacher, folder, minutes, iterations, narrow, start, say)
        return
    config = FINETUNE_CONFIGS[kind]
    config = replace(config, examples=examples or config.examples).limited_to(t_min, t_max)
    folder = to or Path("runs/specialists") / kind
    specialise(kind, folder, minutes, config, start=start, log=say, iterations=iterations)


@app.command("judge")
@with_error_message
def pocket_judge(
    gallery: Annotated[Path, typer.Argument(help="A gallery of a pocket suite (`fewstep generate`, `bench adopt`).")],
) -> None:
    """Judge a gallery with the probe: no network, no key, and the same record as any other judge."""
    from fewstep.cli.verbs import suites
    from fewstep.pocket.judge import judge

    suites.show_scores(judge(gallery), gallery, out)
