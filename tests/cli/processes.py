"""The command line in processes of their own, which can be killed. They are forked from this one, so that twenty of
them need not import torch twenty times; what runs in them is the whole program."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import load_file

from fewstep.cli.main import app
from tests.processes import begin_child, forking
from tests.train.runs import lines

PATIENCE_S = 120
TENSOR_FILES = ("student", "student_average", "critic", "student_optimiser", "critic_optimiser")


class Command:
    """`fewstep WORDS` in a process of its own, after `first`; what it prints is in `output`."""

    def __init__(
        self,
        log: Path,
        *words: str | Path,
        environment: Mapping[str, str] | None = None,
        first: Callable[[], object] = lambda: None,
    ):
        self.log = log
        with forking():
            self.number = os.fork()
        if self.number == 0:
            os.environ.update(environment or {})
            _run(log, [str(word) for word in words], first)

    def ended(self) -> bool:
        """Whether it has; its exit code stays for `wait`."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.number, flags) is not None

    def wait(self) -> int:
        """Its exit code; of a process that a signal ended, minus the signal's number."""
        return os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.number, number)

    def until(self, true: Callable[[], object]) -> None:
        """Waits until it is true, or the process has ended."""
        end_s = time.monotonic() + PATIENCE_S
        while not true() and not self.ended():
            assert time.monotonic() < end_s, f"nothing happened; it printed: {self.output}"
            time.sleep(0.001)

    @property
    def output(self) -> str:
        return " ".join(self.log.read_text().split())


def _run(log: Path, words: list[str], first: Callable[[], object]) -> None:
    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in a shell's background
    try:
        sys.stdout = sys.stderr = log.open("w", buffering=1)
        begin_child(sys.stdout)
        first()
        app(words)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        os._exit(code)


def run_through(file: str, run: Path) -> Path:
    """`fewstep distill` of a recipe file, in a process of its own, to its end."""
    assert Command(run.parent / "log", "distill", file, "--out", run).wait() == 0
    return run


def assert_same_run_folder(one: Path, other: Path, iterations: int) -> None:
    assert lines(one) == lines(other)
    last = f"checkpoints/iteration-{iterations:06d}"
    states = [(run / last / "state.json").read_bytes() for run in (one, other)]
    assert states[0] == states[1]
    files = [f"{last}/{part}.safetensors" for part in TENSOR_FILES]
    for name in [*files, "student/transformer/diffusion_pytorch_model.safetensors"]:
        held = [load_file(run / name) for run in (one, other)]
        assert held[0].keys() == held[1].keys()
        assert all(held[0][key].equal(held[1][key]) for key in held[0]), name
