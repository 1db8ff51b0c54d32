"""`fewstep sample`."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import err, out, with_error_message


@with_error_message
def sample(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A student folder, a teacher folder or hub id, `pocket-harder` or `pocket`. Several draw the same "
            "pictures from the same noise. MODEL@STEPS is a teacher at so many steps.",
        ),
    ],
    prompt: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--prompt", "-p", help="What to draw, or how to edit. Repeatable."),
    ] = None,
    prompts: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--prompts", help="A file of prompts: .txt with one a line, or cases as .jsonl or .csv."),
    ] = None,
    image: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--image", "-i", help="A reference picture; makes it an edit. Repeatable, in order."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Noise of the first picture; each further picture takes the next.", min=0)
    ] = 0,
    count: Annotated[int, typer.Option("-n", help="Pictures of each prompt, each of its own seed.", min=1)] = 1,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Sampler steps of teachers. A student knows its own.", min=1, max=1000),
    ] = None,
    guidance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Guidance scale of teachers; 1 is none. A student needs none.", min=0),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HEIGHTxWIDTH in pixels; the model's own if not given.", metavar="HxW"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    to: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="PATH",
            help="A .png for one picture or for the sheet of --compare, otherwise a folder. May have the fields "
            "{prompt}, {seed} and {model}.",
        ),
    ] = "out.png",
    compare: Annotated[
        bool, typer.Option("--compare", help="A contact sheet too: models in columns, prompts and seeds in rows.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pictures that are there already.")] = False,
) -> None:
    """Make pictures with a student (at its own grid) or a teacher (`--steps`, `--guidance`), or compare several."""
    from fewstep.backbones.model_door import refuse_no_model
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.runtime.errors import RunError
    from fewstep.sample.call import (
        SampleCall,
        asked_pictures,
        refuse_options_of_students,
        refuse_steps_of_students,
        sampled_models,
    )
    from fewstep.sample.file_names import call_files

    asked = asked_pictures(prompt or [], prompts, image or [], seed=seed, count=count, size=size)
    call = SampleCall(sampled_models(models), asked, steps, guidance, device)
    if not to.strip():
        raise RunError("--out is empty; name a .png file, a folder, or a pattern with {prompt}, {seed} or {model}")
    files = call_files(Path(to), call, compare)
    if not overwrite:
        files.refuse_there()
    for model in call.models:
        refuse_no_model(model.source, whole=True)
    refuse_steps_of_students(call)
    refuse_options_of_students(call)
    files.refuse_unwritable()
    from fewstep.cli.verbs.sample import draw_to_files

    draw_to_files(call, files, TerminalReporter(out if out.is_terminal else err), out)
