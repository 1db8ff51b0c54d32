"""What all commands share: how they print, how they report errors, and the arguments that several take."""

import inspect
import signal
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand

from fewstep.cli.commands.error_reporter import reports_error
from fewstep.runtime.errors import FewstepError, Interrupted
from fewstep.runtime.signals import (
    Terminated,
    exit_code,
    sigterm_as_ctrl_c,
)

out = Console(emoji=False)  # a place such as s.tar:a: is no picture of a letter
err = Console(stderr=True, emoji=False)

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A shipped recipe (`fewstep recipe list`) or a YAML file of yours.")
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form on every Python we support
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. `--set run.iterations=300`. Repeatable."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


NO_ANSWER = 3
HINT = "give another path, or see with --debug where"


def with_error_message(command: Callable[..., Any]) -> Callable[..., Any]:
    """A user's error is one clear message and exit code 2. A signal gives 128 + its number: 130 for Ctrl-C and 143 for
    SIGTERM. `--debug` shows the traceback."""
    return _guarded(command, code=2)


def with_answer_exit_code(command: Callable[..., Any]) -> Callable[..., Any]:
    """For commands whose exit code is their answer. Whatever prevents an answer, a user's error or a crash, exits with
    NO_ANSWER, which no answer uses. Register them with `cls=AnswerCommand`, so a misspelt option exits with it too."""
    return _guarded(command, code=NO_ANSWER)


class AnswerCommand(TyperCommand):
    """A command whose usage errors exit with NO_ANSWER, and not with 2."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        try:
            return super().make_context(*args, **options)
        except typer.Exit:
            raise
        except Exception as error:
            if hasattr(error, "exit_code"):
                error.exit_code = NO_ANSWER
            raise


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _guarded(command: Callable[..., Any], code: int) -> Callable[..., Any]:
    @wraps(command)
    def wrapped(*args: Any, debug: bool = False, **options: Any) -> None:
        try:
            with sigterm_as_ctrl_c():
                command(*args, **options)
        except FewstepError as error:
            if debug:
                raise
            if reports_error():
                err.print(f"[bold red]fewstep:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(exit_code(error.number) if isinstance(error, Interrupted) else code) from None
        except KeyboardInterrupt as stopped:
            if debug:
                raise
            if reports_error():
                err.print("[bold]Stopped.[/] The same command goes on where this left off.")
            number = signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT
            raise typer.Exit(exit_code(number)) from None
        except OSError as error:  # a name that is too long, a folder that may not be written
            if debug or error.strerror is None or isinstance(error, BrokenPipeError):
                raise
            if reports_error():
                place = "" if error.filename is None else f"{error.filename!s:.200}: "
                err.print(f"[bold red]fewstep:[/] {escape(_plain(place + error.strerror))}; {HINT}", soft_wrap=True)
            raise typer.Exit(code) from None
        except typer.Exit:
            raise
        except Exception:
            if code != NO_ANSWER:
                raise
            err.print_exception()  # exit code 1 would be read as an answer
            raise typer.Exit(code) from None

    # typer reads the signature: add the option that this wrapper handles.
    signature = inspect.signature(command)
    option = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {**command.__annotations__, "debug": Debug}
    return wrapped
