"""What all commands share: how they print, how they refuse, and the arguments that several take."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape

from fewstep.errors import FewstepError

out = Console()
err = Console(stderr=True)

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A shipped recipe (`fewstep recipe list`) or a YAML file of yours.")
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form on every Python we support
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. `--set run.iterations=300`. Repeatable."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def refusing(command: Callable[..., Any]) -> Callable[..., Any]:
    """A user's error is one clear message and exit code 2; Ctrl-C is 130; `--debug` shows the traceback."""

    @wraps(command)
    def wrapped(*args: Any, debug: bool = False, **options: Any) -> None:
        try:
            command(*args, **options)
        except FewstepError as error:
            if debug:
                raise
            err.print(f"[bold red]fewstep:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            if debug:
                raise
            err.print("[bold]Stopped.[/] The same command goes on where this left off.")
            raise typer.Exit(130) from None

    # typer reads the signature: add the option that this wrapper answers.
    signature = inspect.signature(command)
    option = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {**command.__annotations__, "debug": Debug}
    return wrapped
