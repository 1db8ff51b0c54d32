"""One run, one folder.

    recipe.yaml        the resolved recipe; its presence makes the folder a run
    environment.json   where each start of the run took place
    metrics.jsonl      one line for each iteration
    fork.json          in a fork: where it came from, and what was changed
    checkpoints/ samples/ student/
    students/          the averaged student of every save (train/kept_students.py)
    lock               held by the process that works here
    failure.json       what ended the last start, if it was an error (run/failure.py)

The lock is one of the kernel (flock). It ends with its process, so the folder of a dead process can be locked again.
"""

import errno
import fcntl
import json
import os
import platform
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from fewstep.run import recipe
from fewstep.run.cases_pin import CasesPin
from fewstep.run.failure import forget_failure, note_failure
from fewstep.run.recipe import Recipe
from fewstep.runtime import durable
from fewstep.runtime.errors import FewstepError, RunError

MAX_SHOWN = 10  # differing keys in one message
PACKAGES = ("fewstep", "torch", "diffusers", "transformers", "peft", "safetensors", "numpy")
FOLDERS = ("checkpoints", "samples", "student")
CASES = "cases.json"
MODEL_FILES = ("model_index.json", "modular_model_index.json", "sample_sigmas.json", "transformer")
RUN_ENTRIES = {"lock", "students", *FOLDERS}  # what an interrupted start may have left


class RunDir:
    """The folder of a run. `open_or_create` locks it until `close`, or until the end of a `with` block. `open` opens it
    for reading only."""

    def __init__(self, folder: Path, chosen: Recipe, lock: int | None = None):
        self.folder = folder
        self.recipe = chosen
        self._lock = lock

    @classmethod
    def open_or_create(cls, folder: Path, chosen: Recipe, facts: Mapping[str, Any] | None = None) -> Self:
        """The folder, locked, new or of a run to resume. facts: device, threads, ..., added to environment.json.

        Raises:
            RunError: the folder belongs to another recipe, holds something else, or another process works in it.
            EnvironmentRefused: it cannot be written. A folder that did not exist before is removed again.
        """
        was_there = folder.exists()
        _refuse_foreign(folder)
        lock = None
        try:
            durable.make_folder(folder)
            lock = _lock(folder / "lock")
            _refuse_other_recipe(folder, chosen)
            for name in FOLDERS:
                durable.make_folder(folder / name)
            durable.write_atomically(folder / "recipe.yaml", chosen.resolved_yaml())
            forget_failure(folder)
            run = cls(folder, chosen, lock)
            run._note_environment(facts or {})
        except BaseException:
            if lock is not None:
                os.close(lock)
            if not was_there:
                _remove_start(folder)
            raise
        return run

    @classmethod
    def open(cls, folder: Path) -> Self:
        """An existing run, for reading.

        Raises:
            RunError: it is not a run, or its recipe cannot be read.
        """
        _refuse_model(folder)
        if not (folder / "recipe.yaml").is_file():
            raise RunError(f"{folder} is no run folder: it has no recipe.yaml. Name the --out of fewstep distill")
        return cls(folder, _recipe_of(folder))

    def pin_cases(self, pin: CasesPin) -> None:
        """Records the cases of this run at its first start. Order and epochs depend on them, so they must not change.

        Raises:
            RunError: the run began with other cases, with the same at other sizes, or in another order of batches.
        """
        path = self.folder / CASES
        if path.is_file() and self.metrics_path.exists() and (fault := pin.fault(json.loads(path.read_text()))):
            raise RunError(
                f"{self.folder} {fault}, or go on with these as a run of its own: another --out, and "
                f"`fewstep distill RECIPE --fork {self.folder}`"
            )
        durable.write_atomically(path, json.dumps(pin.record(), indent=1) + "\n")

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def student(self) -> Path:
        return self.folder / "student"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines."""
        return list(durable.read_jsonl(self.metrics_path))

    def environment(self) -> list[dict[str, Any]]:
        """One record for each start of the run, oldest first. Empty if the file is damaged."""
        path = self.folder / "environment.json"
        if not path.exists():
            return []
        with suppress(ValueError):
            return list(json.loads(path.read_text())["starts"])
        return []

    def close(self) -> None:
        """Releases the lock, and removes the lock file."""
        if self._lock is not None:
            with suppress(OSError):
                (self.folder / "lock").unlink()
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._lock is not None:
            note_failure(self.folder, error)
        self.close()

    def note_start(self, facts: Mapping[str, Any]) -> None:
        """Adds facts to the record of the present start in environment.json."""
        *earlier, last = self.environment() or [{}]
        starts = [*earlier, {**last, **facts}]
        durable.write_atomically(self.folder / "environment.json", json.dumps({"starts": starts}, indent=1) + "\n")

    def _note_environment(self, facts: Mapping[str, Any]) -> None:
        starts = [*self.environment(), {**environment(), **facts}]
        durable.write_atomically(self.folder / "environment.json", json.dumps({"starts": starts}, indent=1) + "\n")


def environment() -> dict[str, Any]:
    """Versions and machine, as far as they are known without using a device."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "versions": versions,
    }


def _refuse_foreign(folder: Path) -> None:
    """Refuses a folder that holds something else than a run."""
    _refuse_model(folder)
    if not folder.exists() or (folder / "recipe.yaml").exists():
        return
    if not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another --out")
    strange = sorted(
        path.name for path in folder.iterdir() if path.name not in RUN_ENTRIES and not path.name.endswith(".tmp")
    )
    if strange:
        raise RunError(f"{folder} is not empty and no run ({strange[0]} is in it); choose another --out")


def _refuse_model(folder: Path) -> None:
    """Refuses a model or a student, which contains its recipe as a run does. A folder with records of a run is a run,
    whatever else is in it."""
    if (folder / "metrics.jsonl").exists():
        return
    weights = [*folder.glob("*.safetensors"), *(folder / name for name in MODEL_FILES)]
    if any(path.exists() for path in weights):
        raise RunError(f"{folder} is a model or a student, and no run; name the --out of fewstep distill")


def _refuse_other_recipe(folder: Path, chosen: Recipe) -> None:
    """Refuses another recipe. As long as the run has made nothing, its recipe may still change."""
    made = [folder / "metrics.jsonl", *(path for name in FOLDERS for path in (folder / name).glob("*"))]
    if not (folder / "recipe.yaml").exists() or not any(path.exists() for path in made):
        return
    held = _recipe_of(folder)
    pinned = recipe.PINNED_WITH_CASES
    if held.fingerprint(without=pinned) == chosen.fingerprint(without=pinned):
        return
    changed = recipe.weight_changes(held, chosen)
    more = [f"... and {len(changed) - MAX_SHOWN} more"] if len(changed) > MAX_SHOWN else []
    raise RunError(
        f"{folder} belongs to another recipe; choose another --out (`fewstep distill RECIPE --fork {folder}` goes "
        "on there from this run's last checkpoint), or take these back:\n  "
        + "\n  ".join([*changed[:MAX_SHOWN], *more])
    )


def _recipe_of(folder: Path) -> Recipe:
    try:
        return recipe.load_recipe(folder / "recipe.yaml")
    except FewstepError as error:
        raise RunError(
            f"{folder} holds a recipe that cannot be used here, perhaps of another version of fewstep:\n{error}"
        ) from error


def _lock(path: Path) -> int:
    """Opens and locks a file. Another process removes it when it closes, so the locked file must still be the one at
    `path`."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise durable.refusal(path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return handle
        except OSError as error:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
            os.close(handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise RunError(
                    f"{path.parent} is in use by {holder or 'another process'}; wait for it, or choose another --out"
                ) from error
            raise durable.refusal(path, error) from error
        os.close(handle)


def _remove_start(folder: Path) -> None:
    """Removes what this process created in a folder and could not finish."""
    with suppress(OSError):
        for name in FOLDERS:
            with suppress(FileNotFoundError):
                (folder / name).rmdir()
        for name in ("environment.json", "recipe.yaml", "lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
