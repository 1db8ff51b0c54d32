"""Ship: which student of a run, in which form, verified; and what was shipped, with its card.

The export is `fewstep export`, in a process of its own that outlives the studio. It writes into `exports/NAME` of the
run folder, with a record beside it, so another studio finds it there, at work or ended. Exports of earlier versions lie
in `students/` beside the run, and are shown too.
"""

import re
from pathlib import Path
from typing import Any

from starlette.requests import Request

from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.command_words import command_line
from fewstep.run.studio.places import EXPORTS, file_inside
from fewstep.run.studio.run_view import RunView
from fewstep.run.studio.studio import Screen, Studio, acting, asked, reading, text_field
from fewstep.run.studio.task_records import TaskRecord, task_records

BESIDE = "students"  # beside the runs, of earlier versions
MOST_CARD = 200_000  # bytes
CHOICES = {
    "form": ("merged", "adapter"),
    "weights": ("average", "raw"),
    "dtype": ("", "bf16", "fp32"),
    "lora": ("", "diffusers", "comfyui", "both", "plain"),
}
CARD, MODEL = "README.md", "model_index.json"


class ShipScreen:
    def __init__(self, studio: Studio):
        self.studio = studio

    def students(self, request: Request) -> dict[str, Any]:
        """What a run has to ship: its saved iterations with their figures, and what was shipped already."""
        view = self.studio.run(asked(request, "run"))
        saved = sorted(_numbered(view.folder / "checkpoints", "") | _numbered(view.folder / "students", ".json"))
        raw = _numbered(view.folder / "checkpoints", "")
        examined, best = view.summary()["best"], view.examined()
        student = view.recipe().get("student")
        mode = student.get("mode") if isinstance(student, dict) else None
        return {
            "saved": [{"iteration": i, "whole": i in raw, "figures": best.get(i, {})} for i in saved],
            "best": examined,
            "full": mode == "full",
            "shipped": [*_shipped(_place(view)), *_shipped(_place(view, beside=True), beside=True)],
            "tasks": _tasks(_place(view)),
            "place": str(_place(view)),
        }

    def plan(self, fields: dict[str, Any]) -> dict[str, Any]:
        words, out = self._words(fields)
        return {"command": command_line(words), "out": str(out)}

    def start(self, fields: dict[str, Any]) -> dict[str, Any]:
        words, out = self._words(fields)
        if out.exists() and any(out.iterdir()):
            raise StudioRefused(f"{out} is there already; give it another name", 409)
        record = TaskRecord(out.parent, out.name)
        self.studio.jobs.start(f"ship {out.name}", words, detached=True, record=record)
        return _known(record)

    def job(self, request: Request) -> dict[str, Any]:
        """How an export of a run is, whoever started it."""
        view = self.studio.run(asked(request, "run"))
        return _known(TaskRecord(_place(view), _name(asked(request, "job"))))

    def forget(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Removes the record of an export that was not whole. What was written stays."""
        record = TaskRecord(_place(self.studio.run(text_field(fields, "run"))), _name(text_field(fields, "job")))
        if _known(record)["state"] == "working":
            raise StudioRefused("it is at work", 409)
        record.remove()
        return {}

    def card(self, request: Request) -> dict[str, Any]:
        """The model card of what was shipped, and its files."""
        beside = request.query_params.get("beside") == "true"
        place = _place(self.studio.run(asked(request, "run")), beside) / _name(asked(request, "name"))
        if place.is_symlink() or place.parent.is_symlink():
            raise StudioRefused("links are not followed", 403)
        text = file_inside(place, CARD).read_bytes()[:MOST_CARD].decode("utf-8", "replace")
        files = sorted(path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
        listed = [{"path": path.relative_to(place).as_posix(), "bytes": path.stat().st_size} for path in files[:300]]
        return {"card": text, "files": listed, "folder": str(place)}

    def _words(self, fields: dict[str, Any]) -> tuple[list[str], Path]:
        view = self.studio.run(text_field(fields, "run"))
        which = text_field(fields, "checkpoint", "best")
        if not re.fullmatch(r"best|last|\d{1,12}", which):
            raise StudioRefused("a checkpoint is `best`, `last`, or an iteration that was saved")
        chosen = {name: _choice(fields, name) for name in CHOICES}
        out = _place(view) / _name(text_field(fields, "name"))
        if out.is_symlink() or out.parent.is_symlink():
            raise StudioRefused(f"{out} is a link, or lies in one, and links are not followed", 403)
        words = ["export", str(view.folder), "--to", str(out), "--checkpoint", which, "--form", chosen["form"]]
        words += ["--weights", chosen["weights"]] if chosen["weights"] != "average" else []
        for name in ("dtype", "lora"):
            words += [f"--{name}", chosen[name]] if chosen[name] else []
        rank = text_field(fields, "svd_rank", "").strip()
        if rank and not re.fullmatch(r"[1-9]\d{0,4}", rank):
            raise StudioRefused("the rank that a LoRA is cut down to is a whole number")
        words += ["--svd-rank", rank] if rank else []
        words += ["--single-file"] if fields.get("single_file") is True else []
        words += ["--verify"] if fields.get("verify") is True else []
        return words, out


def _place(view: RunView, beside: bool = False) -> Path:
    return view.folder.parent / BESIDE if beside else view.folder / EXPORTS


def _tasks(place: Path) -> list[dict[str, Any]]:
    """Exports that are at work, failed, or were abandoned. What is whole is in the list of what was shipped."""
    told = (record.as_dict() for record in task_records(place))
    return [each for each in told if each is not None and each["state"] != "done"]


def _known(record: TaskRecord) -> dict[str, Any]:
    told = record.as_dict()
    if told is None:
        raise StudioRefused("this run has no such export (any more)", 404)
    return told


def _name(given: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", given):
        raise StudioRefused("the folder's name is letters, digits, . _ and -, at most 100")
    return given


def _choice(fields: dict[str, Any], name: str) -> str:
    value = text_field(fields, name, CHOICES[name][0])
    if value not in CHOICES[name]:
        raise StudioRefused(f"{name} is {', '.join(each or 'left out' for each in CHOICES[name])}")
    return value


def _numbered(folder: Path, suffix: str) -> set[int]:
    found = folder.glob(f"iteration-*{suffix}") if folder.is_dir() else []
    matches = [re.fullmatch(rf"iteration-(\d+){re.escape(suffix)}", path.name) for path in found]
    return {int(match[1]) for match in matches if match}


def _shipped(place: Path, beside: bool = False) -> list[dict[str, Any]]:
    """Students and LoRAs in the folder, the newest first."""
    if not place.is_dir() or place.is_symlink():
        return []
    found = [path for path in place.iterdir() if (path / CARD).is_file() and not path.is_symlink()]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    forms = ["merged" if (path / MODEL).is_file() else "adapter" for path in found]
    return [
        {"name": path.name, "form": form, "when": path.stat().st_mtime, "beside": beside}
        for path, form in zip(found, forms, strict=True)
    ]


def _routes(studio: Studio) -> list[Any]:
    screen = ShipScreen(studio)
    return [
        reading("/api/ship/students", screen.students),
        reading("/api/ship/job", screen.job),
        reading("/api/ship/card", screen.card),
        acting("/api/ship/plan", screen.plan),
        acting("/api/ship/start", screen.start),
        acting("/api/ship/forget", screen.forget),
    ]


SCREEN = Screen("ship", "Ship", _routes)
