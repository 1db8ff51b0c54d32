"""Imports the stock classes, then forks a process for each program that it is asked to run. See fixture.py."""

import json
import os
import runpy
import signal
import socket
import sys
import threading
from pathlib import Path

import diffusers
import torch

CLASSES = (
    *("QwenImage21Pipeline", "QwenImagePipeline", "QwenImageEditPlusPipeline", "Flux2KleinPipeline", "ZImagePipeline"),
    *("LongCatImagePipeline", "LongCatImageEditPipeline", "FlowMatchEulerDiscreteScheduler", "DiffusionPipeline"),
)


def run(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """As the interpreter would: `-m MODULE ARGUMENTS`, or `SCRIPT ARGUMENTS`."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(":") if place]
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def end_with(client: socket.socket) -> None:
    """Ends this process when its client does, as a killed interpreter would."""
    client.recv(1)
    os._exit(1)


def child(client: socket.socket) -> None:
    """Becomes the program."""
    _, (out, err), _, _ = socket.recv_fds(client, 1, 2)
    os.dup2(out, 1)
    os.dup2(err, 2)
    told = json.loads(client.makefile().readline())
    threading.Thread(target=end_with, args=(client,), daemon=True).start()
    torch.set_num_threads(1)
    run(told["words"], told["folder"], told["environment"])


def serve(client: socket.socket) -> None:
    """In a process of its own: forks the program, waits for it, and tells how it ended."""
    number = os.fork()
    if number == 0:
        child(client)
        sys.exit(0)  # whatever it raises is printed, and exits with 1, as ever
    status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    client.sendall(f"{status}\n".encode())
    os._exit(0)


def main(place: Path) -> None:
    for name in CLASSES:
        getattr(diffusers, name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(place))
    place.with_suffix(".pid").write_text(str(os.getpid()))
    listening.listen()
    while True:
        client, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            serve(client)
        client.close()


main(Path(sys.argv[1]))
