"""`fewstep serve`."""

from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import out, with_error_message
from fewstep.runtime.errors import EnvironmentRefused


@with_error_message
def serve(
    student: Annotated[str, typer.Argument(help="A student folder, as `fewstep export` writes it.")],
    host: Annotated[str, typer.Option(help="Address to listen at; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    queue: Annotated[int, typer.Option(help="Requests that may wait; more get status 429.", min=1)] = 32,
    batch: Annotated[int, typer.Option(help="Pictures drawn together, where they are alike.", min=1)] = 8,
    max_pixels: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="Largest picture that may be asked for, in pixels; twice the student's own if not given.", min=1
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="`bf16` or `fp32`; bf16 on a GPU and fp32 on a CPU if not given."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What clients call the model; the folder's name if not given."),
    ] = None,
    alias: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A further name, for clients that know OpenAI's alone (gpt-image-1). Repeat for several."),
    ] = None,
) -> None:
    """Serve a student to clients of the OpenAI images API: generations and edits.

    Needs `pip install 'fewstep[serve]'`. Stop it with Ctrl-C: what is under way is answered first.
    """
    from fewstep.backbones.model_door import refuse_no_model

    refuse_no_model(student, whole=True)
    try:
        from fewstep.cli.verbs import serve as serving
        from fewstep.sample.server.limits import Limits
    except ModuleNotFoundError as error:
        raise EnvironmentRefused(
            f"{error.name} is not installed, and serving needs it: pip install 'fewstep[serve]'"
        ) from error
    limits = Limits(queue=queue, batch=batch, max_pixels=max_pixels)
    serving.serve_student(
        student,
        host=host,
        port=port,
        limits=limits,
        device=device,
        dtype=dtype,
        name=name,
        aliases=alias or [],
        console=out,
    )
