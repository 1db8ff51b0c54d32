"""`fewstep bench`: the examination of any pictures."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import (
    AnswerCommand,
    out,
    with_answer_exit_code,
    with_error_message,
)

app = typer.Typer(no_args_is_help=True, help="The examination: suites, galleries, judges, metrics, ranks, report.")

SuiteOption = Annotated[str, typer.Option("--suite", help="A shipped suite (`fewstep bench suites`) or a folder.")]
SuiteFolder = Annotated[Path, typer.Option("--to", help="The suite's folder; must not exist or be empty.")]

# ---- suites and galleries


@app.command("suites")
@with_error_message
def bench_suites() -> None:
    """The shipped suites."""
    from fewstep.cli.verbs import suites

    suites.list_suites(out)


@app.command("check")
@with_error_message
def bench_check(
    suite: Annotated[str, typer.Argument(help="A suite's folder, or the name of a shipped one.")],
) -> None:
    """Whether a suite is what its hash says, and what is in it."""
    from fewstep.cli.verbs import suites

    if not suites.check_suite(suite, out):
        raise typer.Exit(2)


@app.command("adopt")
@with_error_message
def bench_adopt(
    folder: Annotated[Path, typer.Argument(help="Pictures made elsewhere.")],
    suite: SuiteOption,
    to: Annotated[Path, typer.Option("--to", help="The gallery to make.")],
    system: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the report calls it; the folder's name if not given."),
    ] = None,
    names: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Pattern of the file names; '{case}.png', or '{case}_{k}.png' where there are seeds."),
    ] = None,
    table: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--map", help="A CSV file with the columns file, case and k, instead of a pattern."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Missing pictures become failed rows.")
    ] = False,
) -> None:
    """Make a gallery of pictures made elsewhere: a competitor's, or another tool's."""
    from fewstep.cli.verbs import suites

    suites.adopt_folder(
        folder, suite, to, system=system, names=names, table=table, allow_missing=allow_missing, console=out
    )


@app.command("import")
@with_error_message
def bench_import(
    layout: Annotated[str, typer.Argument(help="gedit, imgedit, longtext, geneval or oneig.")],
    source: Annotated[Path, typer.Argument(help="The downloaded folder or file.")],
    to: SuiteFolder,
    language: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="en, or cn / zh, where the benchmark has both; en if not given."),
    ] = None,
) -> None:
    """Make a suite of a published benchmark that you have downloaded."""
    from fewstep.cli.verbs import suites

    suites.import_and_show_suite(layout, source, to, language, out)


@app.command("build")
@with_error_message
def bench_build(
    task: Annotated[str, typer.Option(help="`t2i` (three categories) or `edit` (six).")],
    count: Annotated[int, typer.Option(help="Cases of each category: 600 for t2i, 250 for edits.", min=1, max=10_000)],
    endpoint: Annotated[Path, typer.Option(help="The model that writes, declared in a .toml or .yaml file.")],
    to: SuiteFolder,
    against: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Training cases: what shares 8 words in a row with them is dropped. Repeatable."),
    ] = None,
    pictures: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A folder of pictures to edit (for `edit`)."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The suite's name; the folder's if not given."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Pictures that each case is drawn with.", min=1, max=100)] = 1,
    seed: Annotated[int, typer.Option(help="Another one draws other hints for the model.", min=0)] = 0,
    licence: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Under which the suite may be used; noted in suite.json."),
    ] = None,
) -> None:
    """Make a full-size suite with any OpenAI-compatible model. The same command resumes."""
    from fewstep.cli.verbs import suites

    suites.build_suite(
        *(task, count, endpoint, to),
        against=against or [],
        pictures=pictures,
        name=name,
        seeds=seeds,
        seed=seed,
        licence=licence,
        console=out,
    )


# ---- metrics, comparison, ranks

JsonFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--json", help="Write the figures here as well."),
]
JudgeNames = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--judge", help="By this judge; all that every gallery has if not given. Repeatable."),
]


@app.command("measure")
@with_error_message
def bench_measure(
    gallery: Annotated[Path, typer.Argument(help="The gallery.")],
    against: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--against", help="Another gallery of the same suite, the teacher's: differences pair by pair."),
    ] = None,
    metrics: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--metrics", help="Names, with commas between; all if not given."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Processes; as many as there are cores if not given.", min=1),
    ] = None,
) -> None:
    """Measure pictures without network or judge: noise, text, preservation, diversity, tone, sanity, latency.

    What is measured is not measured again. Records go to GALLERY/metrics/.
    """
    from fewstep.cli.verbs import bench_compare

    names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics else None
    bench_compare.measure_and_print(gallery, against, names, workers, out)


@app.command("score")
@with_error_message
def bench_score(
    gallery: Annotated[Path, typer.Argument(help="The gallery.")],
    model: Annotated[Path, typer.Option("--model", help="A local folder: CLIP, SigLIP, PickScore, DINO.")],
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the metric is called; the folder's name if not given."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Score pictures with a model of pictures from a local folder; the records are a metric's."""
    from fewstep.cli.verbs import bench_score

    bench_score.score_and_print(gallery, model, name, device, out)


@app.command("compare", cls=AnswerCommand)
@with_answer_exit_code
def bench_compare(
    a: Annotated[Path, typer.Argument(help="The gallery in question.")],
    b: Annotated[Path, typer.Argument(help="The gallery that it is held against, of the same suite.")],
    margin: Annotated[float, typer.Option(help="The difference below which none matters, in the score's unit.")] = 0.0,
    judge: JudgeNames = None,
    metric: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--metric", help="By a metric instead, or one of its values: flat_noise, text.cer."),
    ] = None,
    non_inferior: Annotated[
        bool, typer.Option("--non-inferior", help="Exit 0 as soon as A is shown to be at most the margin worse.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Whether A is better than B, by more than the margin, on the same cases and seeds.

    Exit code: 0 better, 1 not shown, 2 worse, 3 no answer (wrong use, different suites, missing scores).
    """
    from fewstep.cli.verbs import bench_compare

    found = bench_compare.compare_and_print(a, b, margin, judge, metric, json_file, out)
    passed = found.not_inferior if non_inferior else found.outcome == "better"
    raise typer.Exit(0 if passed else bench_compare.OUTCOMES[found.outcome])


@app.command("rank")
@with_error_message
def bench_rank(
    galleries: Annotated[list[Path], typer.Argument(help="Galleries of one suite.")],
    judge: JudgeNames = None,
    json_file: JsonFile = None,
) -> None:
    """Rank systems by their judges' scores, with intervals and with bands of those that cannot be told apart."""
    from fewstep.cli.verbs import bench_compare

    bench_compare.rank_and_print(galleries, judge, json_file, out)


# ---- report


@app.command("report")
@with_error_message
def bench_report(
    galleries: Annotated[list[Path], typer.Argument(help="Galleries, judged or not; of one suite, or of several.")],
    to: Annotated[Path, typer.Option("--to", help="The report's folder; an earlier report there is renewed.")],
    reference: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The system that the others are compared with; the first gallery's if not given."),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(min=0, help="The difference of scores below which none matters: who is not inferior by it?"),
    ] = 0.0,
    link_pictures: Annotated[
        bool, typer.Option("--link-pictures", help="Leave the pictures in their galleries, and link to them.")
    ] = False,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Tables and words alone.")] = False,
) -> None:
    """Write one static folder that says which system is better, by how much, how certainly, and on what it fails.

    Open its index.html in any browser; nothing is loaded from anywhere else.
    """
    from fewstep.bench.report.build import build_report
    from fewstep.bench.report.pictures import PictureMode
    from fewstep.cli.terminal import TerminalReporter

    keep = PictureMode.of(link_pictures, no_pictures)
    written = build_report(galleries, to, TerminalReporter(out), reference=reference, keep=keep, margin=margin)
    out.print(str(written), highlight=False, soft_wrap=True)
