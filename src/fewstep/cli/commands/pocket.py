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
HARDER = Path("runs/harder")  # where what belongs to the harder world is written
World = Annotated[str, typer.Option(help="`pocket`, or `harder`.")]
OwnWorld = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--world", help="`pocket` or `harder`; read from the model's tokenizer if not given."),
]
HarderReader = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--reader", help="Harder world: the folder of a reader; the embedded one if not given."),
]
HarderTeacher = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--teacher", help="Harder world: a teacher's folder; the student's own, or the embedded one, if not given."
    ),
]

app = typer.Typer(no_args_is_help=True, help="The embedded worlds: their teachers, students and examinations.")


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
        typer.Option(
            help="A pipeline to go on from: its folder, `pocket` or `pocket-harder`; from nothing if not given."
        ),
    ] = None,
) -> None:
    """Make the pocket teacher again: autoencoder, teacher, probe. The shipped weights came from this."""
    with _needs_checkout():
        from fewstep.pocket.harder.vocabulary import vocabulary as harder_words
        from pocket_making.harder.train import train_harder
        from pocket_making.teacher_trainer import TeacherTrainingConfig
        from pocket_making.train import train_pocket
    import torch

    from fewstep.backbones.embedded import EMBEDDED, embedded_folder, is_embedded
    from fewstep.pocket.vocabulary import vocabulary
    from fewstep.pocket.world_words import tokenizer_words
    from fewstep.roles.compilation import refuse_without_compiler

    _refuse_unknown(world, minutes_letters=minutes_letters)
    worlds: dict[str, Callable[..., Path]] = {"pocket": train_pocket, "harder": train_harder}
    begun = None if start is None else embedded_folder(start) if is_embedded(start) else Path(start)
    if begun is not None and not (begun / "model_index.json").is_file():
        raise ModelError(
            f"--start {start}: no pipeline folder there; give one that `pocket train` wrote, or {' or '.join(EMBEDDED)}"
        )
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


def refuse_unknown_world(world: str) -> None:
    """
    Raises:
        RecipeError: there is no such world.
    """
    if world not in WORLDS:
        raise RecipeError(f"--world {world}: there is no such world; choose {' or '.join(WORLDS)}")


def _refuse_unknown(world: str, **of_the_harder: object) -> None:
    """Refuses a world that there is not, and options of the harder world (by name) beside the pocket world."""
    refuse_unknown_world(world)
    given = [name for name, value in of_the_harder.items() if value is not None]
    if world == "pocket" and given:
        option = given[0].replace("_", "-")
        raise RecipeError(f"--{option} belongs to --world harder; leave it out, or name that world")


def _world_of(model: Path | str | None) -> str:
    """That of a model's words; of what has none of either world, the refusals of the first one are the clearest."""
    from fewstep.pocket.world_of_model import world_of_model

    return "harder" if model is None else world_of_model(model) or "pocket"


@app.command("phrases")
@with_error_message
def pocket_phrases(world: World = "harder") -> None:
    """What a pocket world may be asked: every phrase that its teacher and students know."""
    _refuse_unknown(world)
    from fewstep.pocket.known_worlds import WORLDS as KNOWN

    out.print(KNOWN[world].phrase_book(), highlight=False, soft_wrap=True, markup=False)


ExamCaseCount = Annotated[int, typer.Option(help="Held-out cases per category and edit kind.", min=1)]
DiversityCaseCount = Annotated[int, typer.Option(help="Prompts of each category that are drawn with 8 seeds.", min=0)]


@app.command("examine")
@with_error_message
def pocket_examine(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A student's or a teacher's folder; the world's embedded teacher if not given."),
    ] = None,
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
    world: OwnWorld = None,
    reader: HarderReader = None,
) -> None:
    """Examine a model on held-out cases of its world, with the network that reads them."""
    world = world or ("pocket" if model is None and (adapter or "").startswith("pocket:") else _world_of(model))
    _refuse_unknown(world, reader=reader)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.cli.verbs.demo import examine_and_show, show_examination
    from fewstep.pocket.exam import ExamSpec

    if world == "harder":
        from fewstep.backbones.embedded import HARDER as EMBEDDED
        from fewstep.pocket.harder.exam import HarderExamSpec
        from fewstep.pocket.harder.probe import READER
        from fewstep.pocket.harder.systems import COLUMNS, examine_pipeline

        asked, told, source = HarderExamSpec(cases=cases, diversity=diversity), TerminalReporter(out), model or EMBEDDED
        found = examine_pipeline(source, asked, to, reader or READER, steps, guidance, adapter, told)
        show_examination(found, f"{source} on held-out cases of the harder world", to, out, COLUMNS)
        return
    spec = ExamSpec(cases=cases, diversity=diversity)
    examine_and_show(model or "pocket", spec=spec, steps=steps, guidance=guidance, adapter=adapter, to=to, console=out)


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
    world: OwnWorld = None,
    teacher: HarderTeacher = None,
    reader: HarderReader = None,
) -> None:
    """A student against its teacher at full steps with guidance, and at 4 steps without: same cases, same seeds."""
    if student is None and world != "harder":
        raise RecipeError(
            "name a student folder: `fewstep pocket compare STUDENT`; with --world harder its teacher may stand alone"
        )
    world = world or _world_of(student)
    _refuse_unknown(world, teacher=teacher, reader=reader)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.cli.verbs.demo import compare_and_show, show_examination
    from fewstep.pocket.exam import ExamSpec

    if world == "harder":
        from fewstep.pocket.harder.exam import HarderExamSpec
        from fewstep.pocket.harder.probe import READER
        from fewstep.pocket.harder.systems import COLUMNS, compare_harder

        asked, told = HarderExamSpec(cases=cases, diversity=diversity, seed=seed), TerminalReporter(out)
        found = compare_harder(student, asked, to, teacher, reader or READER, told)
        show_examination(found, "The harder world's teacher on held-out cases", to, out, COLUMNS)
        return
    assert student is not None, "refused above"
    compare_and_show(student, ExamSpec(cases=cases, diversity=diversity, seed=seed), to, out)


@app.command("student")
@with_error_message
def pocket_student(
    to: Annotated[Path, typer.Option("--out", help="The run folder, with the examination; the same one resumes.")] = (
        HARDER / "student"
    ),
    teacher: HarderTeacher = None,
    reader: HarderReader = None,
    prompts: Annotated[int, typer.Option(help="Training prompts.", min=1)] = 1500,
    edits: Annotated[int, typer.Option(help="Training edits.", min=1)] = 1500,
    cases: ExamCaseCount = 60,
    diversity: DiversityCaseCount = 8,
    overrides: Overrides = None,
) -> None:
    """`fewstep demo` in the harder world with more to choose: its teacher, the data, keys of the recipe, the cases."""
    from fewstep.cli.verbs.demo import run_demo, show_examination
    from fewstep.cli.verbs.harder_student import HarderStudent
    from fewstep.pocket.harder.systems import SHOWN

    asked = HarderStudent(teacher, reader, {"t2i": prompts, "edit": edits}, overrides or (), cases, diversity)
    found = run_demo(to, out, asked.demo(), "fewstep pocket student")
    show_examination(found, "A student of the harder world and its teacher", to / "examination", out, SHOWN)


@app.command("specialise")
@with_error_message
def pocket_specialise(
    kind: Annotated[
        str, typer.Argument(help="`portrait`, `text`, `edit`, in the pocket world `editor`, in the harder one `t2i`.")
    ],
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
        Optional[str],  # noqa: UP045
        typer.Option(help="Harder world: a teacher's folder; the embedded one if not given."),
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
    from fewstep.backbones.embedded import HARDER as EMBEDDED
    from fewstep.backbones.embedded import model_folder
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
        refuse_no_harder(base or EMBEDDED)
        teacher = model_folder(base or EMBEDDED)
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
    gallery: Annotated[
        Path, typer.Argument(help="A gallery of a suite of either world (`fewstep generate`, `bench adopt`).")
    ],
) -> None:
    """Judge a gallery with what reads its world: no network, no key, and the same record as any other judge."""
    from fewstep.cli.verbs import suites
    from fewstep.pocket.world_judges import judge_gallery

    suites.show_scores(judge_gallery(gallery), gallery, out)
