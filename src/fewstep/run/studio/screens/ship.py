"""Ship: which student of a run, in which form, verified; and what was shipped, with its card.

The export is `fewstep export`, in a process of its own. It writes beside the run, into `students/NAME`.
"""

import re
from pathlib import Path
from typing import Any

from starlette.requests import Request

from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.jobs import command_line
from fewstep.run.studio.places import file_inside
from fewstep.run.studio.run_view import RunView
from fewstep.run.studio.studio import Screen, Studio, acting, asked, reading, text_field

FOLDER = "students"  # beside the runs
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
            "shipped": _shipped(_place(view)),
            "place": str(_place(view)),
        }

    def plan(self, fields: dict[str, Any]) -> dict[str, Any]:
        words, out = self._words(fields)
        return {"command": command_line(words), "out": str(out)}

    def start(self, fields: dict[str, Any]) -> dict[str, Any]:
        words, out = self._words(fields)
        if out.exists() and any(out.iterdir()):
            raise StudioRefused(f"{out} is there already; give it another name", 409)
        out.parent.mkdir(exist_ok=True)
        return self.studio.jobs.start(f"ship {out.name}", words).as_dict()

    def job(self, request: Request) -> dict[str, Any]:
        return self.studio.jobs.job(asked(request, "job")).as_dict()

    def card(self, request: Request) -> dict[str, Any]:
        """The model card of what was shipped, and its files."""
        place = _place(self.studio.run(asked(request, "run"))) / _name(asked(request, "name"))
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


def _place(view: RunView) -> Path:
    return view.folder.parent / FOLDER


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


def _shipped(place: Path) -> list[dict[str, Any]]:
    """Students and LoRAs in the folder, the newest first."""
    if not place.is_dir() or place.is_symlink():
        return []
    found = [path for path in place.iterdir() if (path / CARD).is_file() and not path.is_symlink()]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [
        {"name": path.name, "form": "merged" if (path / MODEL).is_file() else "adapter", "when": path.stat().st_mtime}
        for path in found
    ]


def _routes(studio: Studio) -> list[Any]:
    screen = ShipScreen(studio)
    return [
        reading("/api/ship/students", screen.students),
        reading("/api/ship/job", screen.job),
        reading("/api/ship/card", screen.card),
        acting("/api/ship/plan", screen.plan),
        acting("/api/ship/start", screen.start),
    ]


SCREEN = Screen("ship", "Ship", _routes)
