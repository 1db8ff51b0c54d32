"""A teacher whose categories match no case is refused before anything is encoded, with the categories there are."""

import json
from pathlib import Path

import pytest

from fewstep.run.encoding import encode_recipe
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import RecipeError
from tests.cli.command_line import fewstep, refused

TOLD = (
    r"teachers.named.faces.categories [portrat] match no case, so it would never teach; the t2i cases have: "
    "landscape, portrait. Name one of these, or take the teacher out"
)


def settings(folder: Path, categories: str, tasks: str = "[t2i]") -> list[str]:
    cases = folder / "c.jsonl"
    rows = [{"prompt": name, "category": name} for name in ("landscape", "portrait")]
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        f"data.t2i=[{{source: {cases}}}]",
        "tasks={t2i: 1, edit: 0}",
        "teachers.preset=step-wise",
        f"teachers.named.faces={{adapter: pocket:portrait, tasks: {tasks}, categories: {categories}}}",
    ]


def options(given: list[str]) -> list[str]:
    return [part for each in given for part in ("--set", each)]


def test_it_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    given = options(settings(tmp_path, "[portrat]"))
    for words in (("distill",), ("encode",), ("plan",), ("cases", "plan")):
        out = tmp_path / words[-1] / "run"
        refused(fewstep(*words, "pocket", "--out", out, *given, "--set", "run.device=cpu"), TOLD)
        assert not list(out.rglob("*.safetensors"))


def test_in_python(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="match no case"):
        encode_recipe(load_recipe("pocket", settings(tmp_path, "[portrat]")), tmp_path / "run")


@pytest.mark.parametrize(
    ("categories", "tasks"),
    [("[portrait]", "[t2i]"), ("[portrait, elsewhere]", "[t2i]"), ("null", "[t2i]"), ("[portrat]", "[edit]")],
    ids=["its case", "one of its cases", "all", "a task without batches"],
)
def test_a_teacher_with_cases_or_without_batches_is_left_alone(categories: str, tasks: str, tmp_path: Path) -> None:
    result = fewstep(
        "cases", "plan", "pocket", "--out", tmp_path / "run", *options(settings(tmp_path, categories, tasks))
    )
    assert result.exit_code == 0, result.output
