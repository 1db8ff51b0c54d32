"""One verb per stage. Commands import what they run inside their functions, and read a recipe before they import what
runs it: `fewstep --help` answers, and a mistyped key is refused, before torch is loaded. A group of commands
(`fewstep cases ...`) is a file in `commands/`."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep import __version__
from fewstep.cli.commands import (
    bench,
    cases,
    judge,
    pocket,
    prompts,
    recipe,
    study,
)
from fewstep.cli.commands.runs import rank, report
from fewstep.cli.commands.sample import sample
from fewstep.cli.commands.serve import serve
from fewstep.cli.commands.shared import (
    Overrides,
    RecipeName,
    err,
    out,
    with_error_message,
)
from fewstep.cli.commands.studio import studio
from fewstep.runtime.allocator import keep_freed_memory

app = typer.Typer(
    name="fewstep",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Distil a many-step image model into **one 4-step student** that generates and edits.\n\n"
    "First time here: `fewstep demo` does everything on a bundled teacher. "
    "Then `fewstep recipe show qwen-image-2.1`, write your cases, and `fewstep distill`.",
)
for _group, _commands in (
    ("cases", cases),
    ("recipe", recipe),
    ("pocket", pocket),
    ("judge", judge),
    ("bench", bench),
    ("prompts", prompts),
    ("study", study),
):
    app.add_typer(_commands.app, name=_group)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    # Progress bars of libraries would break ours. Hub libraries must not wait for a network that may not be there.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()


@app.command()
@with_error_message
def demo(
    to: Annotated[Path, typer.Option("--out", help="Where the run, the student and the page go.")] = Path("runs/demo"),
    world: Annotated[
        str, typer.Option(help="`harder`, or `pocket`, the smaller one: what the bundled teacher draws.")
    ] = "harder",
) -> None:
    """Distil a bundled teacher, examine the student, and leave a page with pictures.

    Everything happens on this machine, on CPU, in minutes. Stop it at any time; the same command goes on.
    """
    pocket.refuse_unknown_world(world)
    from fewstep.cli.verbs.demo import DEMOS, run_demo

    run_demo(to, out, DEMOS[world], "fewstep demo" if world == "harder" else f"fewstep demo --world {world}")


@app.command()
@with_error_message
def distill(
    recipe: RecipeName,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="The run folder; `runs/NAME` if not given."),
    ] = None,
    overrides: Overrides = None,
    fork: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="RUN[@WHICH]",
            help="Go on from another run's checkpoint (an iteration, `best`, or `last` if not given) in a new --out.",
        ),
    ] = None,
) -> None:
    """Distil a teacher into a 4-step student, as a recipe says.

    Encodes what is not yet in the store, trains, and writes the student folder. The same command resumes.
    """
    from fewstep.cli.chosen_recipe import chosen_recipe
    from fewstep.run.door import refuse_recipe, user_loras

    chosen = chosen_recipe(recipe, overrides)
    for key, part, file in user_loras(chosen):
        from fewstep.lora.file import read_lora
        from fewstep.lora.naming import naming

        with naming(key, part):
            read_lora(Path(file))  # in 2 s, and before diffusers is imported; whether it fits the model is seen later
    refuse_recipe(chosen)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.run import launch

    launch.distill_recipe(chosen, to or Path("runs") / chosen.name, TerminalReporter(out), fork=fork)


@app.command()
@with_error_message
def plan(
    recipe: RecipeName,
    gpu: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Memory of the GPU it is to fit, in GB: 24, 48, 80, 141.", min=1, metavar="GB"),
    ] = None,
    gpus: Annotated[
        int, typer.Option(help="How many of them share each batch, and weights as run.sharding says.", min=1)
    ] = 1,
    per_machine: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="How many of them a machine has, for run.sharding: hybrid; 8 if not given.", min=1),
    ] = None,
    seconds: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--seconds-per-iteration", help="A rate to tell the hours by.", min=0),
    ] = None,
    measured: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A run folder whose metrics.jsonl tells the rate."),
    ] = None,
    tflops: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="A GPU's peak rate in TFLOP/s, of which 40 % are taken to be reached.", min=0),
    ] = None,
    pcie: Annotated[
        float,
        typer.Option(
            help="What a GPU is sent from host memory, in GB/s, for blocks that wait there (with --tflops): by default "
            "80 % of PCIe 4.0 x16.",
            min=0.1,
            metavar="GB/S",
        ),
    ] = 25.0,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="The run folder that it would have; `runs/NAME` if not given."),
    ] = None,
    in_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Count again what was counted before, and keep that instead.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Say what a run needs before anything is loaded: memory by part, work, disk, hours.

    Needs no weights: an iteration is rehearsed on tensors that hold nothing. Exits with 2 where it cannot fit `--gpu`.
    """
    from fewstep.backbones.model_door import refuse_no_model
    from fewstep.cli.chosen_recipe import chosen_recipe

    chosen = chosen_recipe(recipe, overrides)
    refuse_no_model(chosen.model)
    from fewstep.cli.verbs.plan import keep_plan, kept_plan, kept_words, print_plan
    from fewstep.run.budget.question import PlanOptions, answer_key, plan_question

    options = PlanOptions(gpu, gpus, per_machine, seconds, measured, tflops, pcie)
    with out.status("reading cases"):
        question = plan_question(chosen, to, options)
        key = answer_key(question)
    told = None if key is None or anew else kept_plan(key)
    if told is not None and not in_json:
        err.print(f"[dim]{kept_words(told)}[/]", highlight=False, soft_wrap=True)
    if told is None:
        from fewstep.runtime.light_imports import light_imports

        with out.status("loading torch and diffusers"), light_imports():
            from fewstep.cli.verbs.plan_words import told_plan
            from fewstep.run.budget.kept_forecasts import forecasting_anew
            from fewstep.run.budget.needs import needs_of
        with out.status("rehearsing an iteration"), forecasting_anew() if anew else nullcontext():
            told = told_plan(needs_of(question))
        if key is not None and key == answer_key(question):  # no file was changed since
            keep_plan(key, told)
    print_plan(told, in_json, out)
    if told.fits is False:
        raise typer.Exit(2)


@app.command()
@with_error_message
def encode(
    recipe: RecipeName,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="The run folder the store stands beside; `runs/NAME` if not given."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Encode a recipe's cases into the conditioning store, once. `distill` does this by itself; do it on its own to
    use another machine, or several GPUs: under `torchrun` each process encodes a share. The same command resumes."""
    from fewstep.backbones.model_door import refuse_no_model
    from fewstep.cli.chosen_recipe import chosen_recipe

    chosen = chosen_recipe(recipe, overrides)
    refuse_no_model(chosen.model)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.run.encoding import encode_recipe
    from fewstep.runtime.rank_slice import RankSlice

    place = to or Path("runs") / chosen.name
    encode_recipe(chosen, place, TerminalReporter(out), RankSlice.from_environment())


@app.command()
@with_error_message
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write; must not exist or be empty.")],
    checkpoint: Annotated[str, typer.Option(help="`best`, `last`, or any iteration that was saved.")] = "best",
    weights: Annotated[
        str,
        typer.Option(
            help="`average`: the moving average of the student; `raw`: the student itself, of whole checkpoints."
        ),
    ] = "average",
    form: Annotated[
        str, typer.Option(help="`merged`: a whole pipeline folder; `adapter`: the LoRA alone, run on the base.")
    ] = "merged",
    dtype: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="`bf16` or `fp32`, of the weights; a merged student is bf16 and a LoRA fp32 if not given."),
    ] = None,
    lora: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Whose keys the LoRA has: `diffusers` (if not given), `comfyui` (with workflows), `both`, or `plain` "
            "(DiffSynth-Studio and ComfyUI, with workflows)."
        ),
    ] = None,
    svd_rank: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Cut the LoRA down to this rank (truncated SVD); the card says what that leaves out.", min=1),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="The whole transformer once more, as ComfyUI's one file.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Open it with stock diffusers in a fresh process.")] = False,
) -> None:
    """Write a student that stock diffusers opens and samples right: a whole folder, or the LoRA alone."""
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.run.exporting import export_run

    export_run(
        *(run, to),
        checkpoint=checkpoint,
        form=form,
        dtype=dtype,
        lora=lora,
        svd_rank=svd_rank,
        single_file=single_file,
        verify=verify,
        weights=weights,
        reporter=TerminalReporter(out),
    )


@app.command()
@with_error_message
def generate(
    model: Annotated[str, typer.Argument(help="A student folder, a teacher folder or hub id, or `pocket`.")],
    suite: Annotated[str, typer.Option("--suite", help="A shipped suite (`fewstep bench suites`) or a folder.")],
    to: Annotated[Path, typer.Option("--to", help="The gallery; the same one resumes.")],
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Sampler steps; the model's own if not given. A student knows its own.", min=1, max=1000),
    ] = None,
    guidance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Guidance scale; the model's own if not given. 1 is none.", min=0),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="`bf16` or `fp32`; bf16 on a GPU and fp32 on a CPU if not given."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures drawn together. 1 to measure latency.", min=1)] = 8,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Only the suite's first cases; a later call may ask for more.", min=1),
    ] = None,
    system: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the report calls it; MODEL if not given."),
    ] = None,
    teacher_prompts: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The suite's cases with a `teacher_prompt` (`fewstep prompts rewrite`), which it reads."),
    ] = None,
) -> None:
    """Draw a model's answers to a suite: a gallery that judges and metrics read.

    Resumes by the same command; under `torchrun` each process draws a share. Exits with 1 where pictures failed.
    """
    from fewstep.backbones.model_door import refuse_no_model
    from fewstep.bench.suites import refuse_no_suite

    refuse_no_model(model, whole=True)
    refuse_no_suite(suite)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.cli.verbs.generate import print_generated
    from fewstep.run.gallery import generate_gallery
    from fewstep.runtime.rank_slice import RankSlice

    rank_slice = RankSlice.from_environment()
    found = generate_gallery(
        *(model, suite, to),
        steps=steps,
        guidance=guidance,
        device=device,
        dtype=dtype,
        batch=batch,
        limit=limit,
        system=system,
        teacher_prompts=teacher_prompts,
        rank_slice=rank_slice,
        reporter=TerminalReporter(out),
    )
    print_generated(found, out)
    if found.failed and rank_slice.world == 1:  # torchrun would end the other processes with this one
        raise typer.Exit(1)


app.command()(sample)
app.command()(serve)
app.command()(rank)
app.command()(report)
app.command()(studio)


@app.command()
@with_error_message
def doctor(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A model folder, a hub id, or `pocket`; only the machine if not given."),
    ] = None,
) -> None:
    """Say what this machine has, and whether a model can be used."""
    from fewstep.cli.verbs.doctor import diagnose

    diagnose(model, out)


def main() -> None:
    """The entry point of the command line."""
    app()


if __name__ == "__main__":
    main()
