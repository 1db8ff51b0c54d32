"""What the tests of this folder and the script that made its fixtures share: the command line, and what is alike."""

import json
import math
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import typer
from safetensors import safe_open
from typer.testing import CliRunner, Result

from fewstep.cli.commands.shared import out
from fewstep.cli.main import app

FIXTURES = Path(__file__).parent / "fixtures"
WIDTH = "200"  # of printed tables, in columns

# The run of the fixture. Adapters of rank 1, so that a checkpoint is small; fp32, so that any CPU runs it soon.
ITERATIONS, STOPPED_AT = 4, 2
RUN = (
    "distill", "pocket", "--out", "run/small",
    "--set", "name=small",
    "--set", "run.device=cpu",
    "--set", "run.precision=fp32",
    "--set", f"run.iterations={ITERATIONS}",
    "--set", "run.batch=2",
    "--set", "student.ema=0.985",
    "--set", "student.ema_warmup=10",
    "--set", f"run.save_every_iterations={STOPPED_AT}",
    "--set", f"run.sample_every_iterations={ITERATIONS}",
    "--set", "run.examine_every_iterations=0",
    "--set", "run.best_by=null",
    "--set", "data.t2i.0.source=pocket:t2i:4",
    "--set", "data.edit.0.source=pocket:edit:6",
    "--set", "student.init_from=null",
    "--set", "student.adapter={rank: 1, alpha: 2}",
    "--set", "critic.adapter={rank: 1, alpha: 2}",
    "--set", "critic.updates=1",
    "--set", "critic.exit_step=same",
    "--set", "critic.warmup_iterations=1",
    "--set", "objective.first_step_anchor={weight: 0.3, teacher_steps: 3, detach: true, tasks: [t2i, edit]}",
    "--set", "objective.segment_guidance=null",
)  # fmt: skip
LORA = ("export", "run/small", "--checkpoint", STOPPED_AT, "--form", "adapter", "--lora", "both")
MERGED = ("export", "run/small", "--checkpoint", STOPPED_AT, "--dtype", "fp32", "--lora", "both", "--single-file")

# What is printed of the two galleries: file under figures/, and the command.
SIX, TWO = "galleries/six", "galleries/two"
PRINTED = {
    "measure.txt": ("bench", "measure", SIX, "--workers", "1"),
    "measure-against.txt": ("bench", "measure", SIX, "--against", TWO, "--workers", "1"),
    "rank.txt": ("bench", "rank", SIX, TWO, "--json", "rank.json"),
    "compare.txt": ("bench", "compare", SIX, TWO, "--margin", "0.05", "--json", "compare.json"),
    "compare-probe.txt": ("bench", "compare", TWO, SIX, "--judge", "probe", "--json", "compare-probe.json"),
    "compare-psnr.txt": ("bench", "compare", SIX, TWO, "--metric", "preserve.psnr", "--json", "compare-psnr.json"),
    "probe.txt": ("pocket", "judge", SIX),
    "judge.txt": ("judge", "run", SIX, "--judge", "seer.yaml"),
    "pair.txt": ("judge", "pair", SIX, TWO, "--judge", "seer.yaml"),
}
REPORT = ("bench", "report", SIX, TWO, "--to", "report")

READERS = ("rapidocr", "onnxruntime")  # what the metric `text` reads with; another version measures anew

# Commands that are answered soon, most of them with a refusal, and a word of each answer.
ANSWERS: dict[str, str] = {
    "--version": "0.",
    "nosuch": "nosuch",
    "recipe list": "qwen-image-2.1",
    "recipe show nosuch": "nosuch",
    "recipe show poket": "pocket",
    "recipe show missing.yaml": "missing.yaml",
    "recipe show pocket --set run.iteration=3": "run.iterations",
    "recipe show pocket --set run.iterations": "key=value",
    "recipe show pocket --set run.iterations=-3": "run.iterations",
    "recipe show pocket --set student.sigmas=[1.0,0.5,0.75,0.25]": "sigmas",
    "recipe show pocket --nosuch": "--nosuch",
    "distill missing.yaml": "missing.yaml",
    "distill pocket --set model=nosuch --set run.precision=fp32": "nosuch",
    "distill pocket --set data.t2i.0.source=missing.jsonl": "missing.jsonl",
    "distill pocket --fork missing": "missing",
    "export missing --to to": "missing",
    "sample missing -p house": "missing",
    "sample pocket": "--prompt",
    "generate pocket --suite nosuch --to to": "nosuch",
    "cases check missing.jsonl": "missing.jsonl",
    "doctor nosuch": "nosuch",
    "pocket specialise nosuch": "nosuch",
    "bench check nosuch": "nosuch",
    "bench measure missing": "missing",
    "bench rank missing": "missing",
    "bench report missing --to to": "missing",
    "bench compare missing other": "missing",
    "bench compare missing other --nosuch": "--nosuch",
    "judge run missing --judge missing.toml": "missing",
    "study plan nosuch": "nosuch",
}


def fewstep(*words: object) -> Result:
    """The command line in this process, printing as wide as the fixtures were printed."""
    out.width = int(WIDTH)
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": WIDTH, "TERM": "xterm"})


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of a .jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


# Keys of a recipe that were added after the fixtures were made, with the values that older files are read with.
ADDED_KEYS = (
    "keep_students", "lr_warmup", "examine", "ema_warmup", "order", "rollouts", "prompts", "preservation", "track",
    "blocks_to_swap",
)  # fmt: skip


def without_added(recipe: str) -> str:
    """A resolved recipe without the keys that were added since."""
    return "".join(
        line for line in recipe.splitlines(keepends=True) if line.strip().partition(": ")[0] not in ADDED_KEYS
    )


# ---- alike


def alike(one: Any, other: Any, rel: float = 2e-3, least: float = 1e-7) -> bool:
    """Same keys, same order of lists, same values; decimals as far as another CPU's rounding may part them."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key], rel, least) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(a, b, rel, least) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=rel, abs_tol=least)
    return type(one) is type(other) and one == other


def words_and_figures(text: str) -> list[Any]:
    """A printed text without its layout: words as they are, decimals as numbers."""
    plain = re.sub(r"[\u2500-\u257f\s]+", " ", text).strip()  # the boxes of tables
    parts = re.split(r"(?<![\w.])([+-]?\d+\.\d+(?:e[+-]?\d+)?)(?![\w.])", plain)
    return [float(part) if number % 2 else part for number, part in enumerate(parts)]


def same_text(one: str, other: str) -> bool:
    """Texts that say the same, up to how a decimal is rounded in its last place."""
    return alike(words_and_figures(one), words_and_figures(other), least=1.1e-3)


# ---- what is held of large files, of pages and of commands


def tensors(file: Path) -> dict[str, Any]:
    """Of every tensor of a .safetensors file: dtype, shape, sum and sum of magnitudes; and the file's metadata."""
    with safe_open(file, framework="pt") as opened:
        told: dict[str, Any] = {"metadata": opened.metadata()}
        for name in sorted(opened.keys()):
            value = opened.get_tensor(name)
            whole = value.double()
            told[name] = [str(value.dtype), list(value.shape), float(whole.sum()), float(whole.abs().sum())]
    return told


def student_facts(folder: Path) -> dict[str, Any]:
    """What a student's folder holds: the names of its files, and the tensors that training or exporting made."""
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    own = [name for name in files if name.endswith(".safetensors") and not name.startswith(("vae/", "text_encoder/"))]
    return {"files": files, "tensors": {name: tensors(folder / name) for name in own}}


def texts(folder: Path) -> Iterator[Path]:
    """The texts of a student's folder that its export writes, from the folder on."""
    for name in ("README.md", "model_index.json", "sample_sigmas.json", "recipe.yaml", "scheduler", "comfyui"):
        found = sorted((folder / name).iterdir()) if (folder / name).is_dir() else [folder / name]
        yield from (file.relative_to(folder) for file in found if file.is_file() and file.suffix != ".safetensors")


def kept_as(text: Path) -> Path:
    """Its name among the fixtures: cards are no pages of this repository, whose tools would reformat or check them."""
    return text.with_name("card.txt") if text.name == "README.md" else text


class _Page(HTMLParser):
    """The text of a page, a line for each piece."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.lines.append(" ".join(data.split()))


def page_text(file: Path) -> str:
    page = _Page()
    page.feed(file.read_text())
    return "\n".join(page.lines) + "\n"


def help_text() -> str:
    """Every command with its words of help, and every argument and option of it, however wide a terminal is."""
    return "\n".join(_helped(typer.main.get_command(app), "fewstep")) + "\n"


def _helped(command: Any, path: str) -> Iterator[str]:
    yield f"{path}"
    yield from (f"  {line.strip()}" for line in (command.help or "").splitlines() if line.strip())
    for each in command.params:
        names = "/".join([*each.opts, *each.secondary_opts])
        facts = [each.param_type_name]
        bounds = [getattr(getattr(each, "type", each), end, None) for end in ("min", "max")]
        facts += [f"{bounds[0]}..{bounds[1]}"] if bounds != [None, None] else []
        facts += [name for name in ("required", "multiple", "is_flag", "hidden") if getattr(each, name, False)]
        facts += [f"metavar {each.metavar}"] if each.metavar else []
        facts += [f"default {each.default!s}"] if not each.required else []
        yield f"  {names}  [{', '.join(facts)}]"
        yield f"      {' '.join((getattr(each, 'help', None) or '').split())}"
    yield ""
    for name in sorted(getattr(command, "commands", {})):
        yield from _helped(command.commands[name], f"{path} {name}")


def answers(folder: Path) -> dict[str, int]:
    """The exit code of every command of ANSWERS, run in an empty folder; its word must be in what it prints."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        codes = {}
        for line, word in ANSWERS.items():
            result = fewstep(*line.split())
            assert word in " ".join(result.output.split()), (line, result.output)
            codes[line] = result.exit_code
    finally:
        os.chdir(before)
    return codes
