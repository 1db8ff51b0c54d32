"""`fewstep sample`: several seeds and models, prompt files, names, what a PNG tells, and nothing replaced unasked."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from fewstep.backbones.embedded import POCKET, embedded_folder
from fewstep.cli.verbs.sample import draw_to_files
from fewstep.runtime.errors import Interrupted
from fewstep.runtime.reporter import Advance, Silent
from fewstep.sample.call import SampleCall, asked_pictures, sampled_models
from fewstep.sample.file_names import call_files
from fewstep.sample.origin import facts_of
from tests.cli.command_line import fewstep, refused

PROMPT = "Open country at sunset over the sea with grey mountains."


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def student(folder: Path) -> Path:
    """The pocket model as a student of 2 steps, with one teacher's weights."""
    folder.mkdir()
    for part in embedded_folder(POCKET).iterdir():
        (folder / part.name).symlink_to(part)
    index = json.loads((folder / "model_index.json").read_text()) | {"sample_sigmas": [1.0, 0.5]}
    (folder / "model_index.json").unlink()
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "recipe.yaml").write_text("size: [64, 64]\n")
    return folder


def test_a_comparison_of_teacher_and_student(tmp_path: Path) -> None:
    own = student(tmp_path / "student")
    result = fewstep("sample", "pocket@2", own, "--compare", "-p", PROMPT, "-n", "2", "--guidance", "1", "--out", "to")
    assert result.exit_code == 0, result.output
    found = sorted(path.name for path in (tmp_path / "to").iterdir())
    assert found == [
        "000-seed0-pocket-2-steps.png",
        "000-seed0-student.png",
        "000-seed1-pocket-2-steps.png",
        "000-seed1-student.png",
        "sheet.png",
    ]
    facts = facts_of(tmp_path / "to" / "000-seed1-pocket-2-steps.png")
    assert (facts["Source"], facts["Seed"], facts["NFE"], facts["Steps"]) == ("pocket", "1", "2", "2")
    assert (facts["Description"], facts["Guidance"]) == (PROMPT, "1")
    assert float(facts["Seconds"]) > 0
    assert facts_of(tmp_path / "to" / "000-seed0-student.png")["Source"] == str(own)
    assert "to/000-seed1-pocket-2-steps.png: pocket-2-steps, seed 1, 2 network calls, " in result.output
    with Image.open(tmp_path / "to" / "sheet.png") as sheet:
        assert sheet.width < sheet.height * 3

    again = ("sample", "pocket", "-p", PROMPT, "--steps", "1", "--out", tmp_path / "to" / "sheet.png")
    refused(fewstep(*again), "sheet.png is there already", "--overwrite")
    assert fewstep(*again, "--overwrite").exit_code == 0
    assert facts_of(tmp_path / "to" / "sheet.png")["NFE"] == "2", "one step, with guidance"


def test_prompts_of_a_file_by_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(f"{PROMPT}\n一座灯塔\n")
    result = fewstep("sample", "pocket", "--prompts", "p.txt", "--steps", "1", "--out", "to/{prompt}_{seed}")
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "to").iterdir())
    assert names == ["Open-country-at-sunset-over-the-sea-with-grey-mountains_0.png", "一座灯塔_1.png"]
    assert facts_of(tmp_path / "to" / names[1])["Description"] == "一座灯塔"


class Stopping(Silent):
    """Ctrl-C comes with the second picture."""

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        drawn = 0

        def advance(count: int = 1, details: str = "") -> None:
            nonlocal drawn
            drawn += count
            if drawn == 2:
                raise KeyboardInterrupt

        yield advance


def test_steps_of_a_student_are_its_own(tmp_path: Path) -> None:
    own = student(tmp_path / "mine")
    for steps in (2, 4, 0, 1001):  # also where no model has so many: no advice that would be refused in turn
        told = (
            f"mine@{steps}: @STEPS is for teachers. This is a student, which draws in 2 steps at its own noise levels"
        )
        refused(fewstep("sample", f"{own}@{steps}", "pocket@4", "-p", PROMPT, "--out", tmp_path / "to"), told)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--guidance", "3"), "this student draws without guidance"),
        (("--steps", "3"), "this student samples in 2 steps, at"),
    ],
)
def test_what_a_student_does_not_take_is_refused_before_it_is_opened(
    tmp_path: Path, option: tuple[str, str], told: str
) -> None:
    own = student(tmp_path / "mine")
    (own / "transformer").unlink()  # a link to the package's
    shutil.copytree(embedded_folder(POCKET) / "transformer", own / "transformer")
    (own / "transformer" / "config.json").write_text("{}")  # nothing that could be opened
    other = shutil.copytree(own, tmp_path / "other")
    refused(fewstep("pocket", "examine", own, *option, "--out", tmp_path / "to"), told)
    for models in ((own,), (own, other)):
        refused(fewstep("sample", *models, "-p", PROMPT, *option, "--out", tmp_path / "to"), told)
    assert not (tmp_path / "to").exists()


def test_ctrl_c_leaves_what_was_drawn(tmp_path: Path) -> None:
    call = SampleCall(sampled_models(["pocket"]), asked_pictures([PROMPT], None, (), count=3), steps=1)
    with pytest.raises(Interrupted, match=r"stopped; 2 of 3 files are there.*--overwrite") as stopped:
        draw_to_files(call, call_files(tmp_path / "to", call, compared=False), Stopping(), Console(quiet=True))
    assert stopped.value.number == signal.SIGINT
    assert len(list((tmp_path / "to").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pocket",), "give --prompt, or --prompts"),
        (("pocket", "pocket", "-p", "a"), "named twice"),
        (("pocket", "missing", "-p", "a", "--out", "to"), "no model at 'missing'"),
        (("pocket", "-p", "a", "--prompts", "gone.txt", "--out", "to"), "gone.txt: cannot be read"),
        (("pocket", "-p", "a", "--out", "{promt}.png"), "unknown field {promt}"),
        (("pocket", "-p", "a", "-n", "2"), "give a folder as --out"),
        (("pocket", "-p", "a", "--out", ""), "--out is empty"),
        (("pocket", "-p", "a", "--out", "/proc/none/a.png"), "cannot be written"),
        (("pocket", "-p", "a", "--out", "/dev/null/a.png"), "/dev/null/a.png cannot be written: Not a directory"),
        (("pocket", "-p", "a", "--out", f"{'x' * 300}.png"), "File name too long"),
    ],
)
def test_what_is_refused_before_a_model_is_opened(
    words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a model was opened")

    monkeypatch.setattr("fewstep.sample.images.open_model", opened)
    refused(fewstep("sample", *words), told)
    assert not list(tmp_path.iterdir())


def test_a_prompt_that_the_pocket_world_does_not_know_is_told(tmp_path: Path) -> None:
    known = fewstep("sample", "pocket", "--steps", "1", "-p", PROMPT, "--out", "known.png")
    strange = fewstep("sample", "pocket", "--steps", "1", "-p", "a cat", "--out", "strange.png")
    assert (known.exit_code, strange.exit_code) == (0, 0)
    assert "does not know" not in known.output
    assert "does not know 'a', 'cat'" in " ".join(strange.output.split())


def test_what_the_pocket_worlds_know_is_listed() -> None:
    harder, easy = fewstep("pocket", "phrases"), fewstep("pocket", "phrases", "--world", "pocket")
    assert harder.exit_code == easy.exit_code == 0
    assert "on a checked table" in harder.output
    assert "a red house" in easy.output
