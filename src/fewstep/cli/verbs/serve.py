"""`fewstep serve`: a student behind an address."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
import uvicorn
from rich.console import Console

from fewstep.runtime.device import PRECISIONS, resolve_device
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.runtime.listening import LOCAL, bound_socket
from fewstep.sample.pictures import load_student
from fewstep.sample.server.app import Server
from fewstep.sample.server.limits import Limits

GRACE_SECONDS = 60  # time for running requests to end once the server is stopped


def serve_student(
    student: str,
    *,
    host: str,
    port: int,
    limits: Limits,
    device: str,
    dtype: str | None,
    name: str | None,
    aliases: Sequence[str],
    console: Console,
) -> None:
    """Serves until it is stopped (Ctrl-C, SIGTERM); running requests are answered first.

    Raises:
        ModelError: no student.
        EnvironmentRefused: the address is taken, a device is not available, a name is none, or `limits` refuses the
            student's own size.
    """
    if dtype is not None and dtype not in PRECISIONS:
        raise EnvironmentRefused(f"--dtype is {' or '.join(PRECISIONS)}, not '{dtype}'")
    if any(not each.strip() for each in (*aliases, *([] if name is None else [name]))):
        raise EnvironmentRefused("--name and --alias are what clients call the model; leave them out instead of empty")
    with bound_socket(host, port) as listening:
        where = resolve_device(device, dtype or "fp32")
        chosen = PRECISIONS[dtype] if dtype else torch.bfloat16 if where.type == "cuda" else torch.float32
        with console.status(f"loading {student}"):
            model = load_student(student, dtype=chosen, device=where)
        server = Server(model, name or Path(student).resolve().name, limits, aliases)
        console.print(
            f"serving [bold]{server.served.name}[/] at http://{host}:{listening.getsockname()[1]}/v1, Ctrl-C ends",
            highlight=False,
        )
        if host not in LOCAL:
            console.print(
                "[bold]Anyone who reaches this address can use it[/]: it asks for no key. Put a proxy before it."
            )
        config = uvicorn.Config(
            server.app(), log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_SECONDS
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it again once all is answered
            uvicorn.Server(config).run(sockets=[listening])
