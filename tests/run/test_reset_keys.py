"""`--set` of a whole section forgets what the recipe says beside it, and says so."""

from pathlib import Path

import pytest
import yaml

from fewstep.cli.verbs.harder_student import HarderStudent
from fewstep.run.recipe import load_recipe
from fewstep.run.reset_keys import reset_keys
from fewstep.study.grid import StudyGrid, resolve_grid
from fewstep.study.plan import validate_study
from tests.cli.command_line import fewstep
from tests.study.made_studies import changed

RANK = "student.adapter={rank: 8}"
TARGETS = "student.adapter.targets: all -> attention+mlp"
SEGMENT = "objective.segment_guidance"
NOTICE = "--set of a whole section also changes what it does not name"


def told(recipe: str, *overrides: str) -> list[str]:
    return reset_keys(recipe, overrides, load_recipe(recipe, overrides))


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        ([], []),
        (["run.iterations=3", "student.adapter.rank=8"], []),
        ([RANK], [TARGETS]),
        (["student.adapter.targets=attention", RANK], ["student.adapter.targets: attention -> attention+mlp"]),
        ([RANK, "student.adapter.targets=attention"], []),
        ([RANK, "student.adapter={rank: 4, targets: [to_q]}"], []),
        (["student.adapter={targets: all}"], []),  # rank and alpha are the defaults
        (["student={adapter: {}, shift: 1.5}"], ["student.learning_rate: 0.00125 -> 0.001"]),
        (["student={sigmas: [1.0, 0.75, 0.5, 0.25]}"], [TARGETS, "student.shift: 1.5 -> null"]),
        ([f"{SEGMENT}={{weight: 0.5}}"], [f"{SEGMENT}.teacher_steps: 2 -> 4"]),
        ([f"{SEGMENT}={{}}", "run.seed=1"], [f"{SEGMENT}.teacher_steps: 2 -> 4"]),
        ([f"{SEGMENT}=null"], []),
        (["objective={preservation: 20}"], [f"{SEGMENT} -> null", "objective.time_shift: 1.5 -> 1.0"]),
        (["data.t2i.0={source: pocket-harder:t2i:8}"], []),
        (['student.adapter={targets: ["\U0001f600"], rank: 8}'], []),
    ],
)
def test_what_a_section_changes_without_naming_it(overrides: list[str], lines: list[str]) -> None:
    found = told("pocket-harder", *overrides)
    assert [line for line in lines if line not in found] == []
    assert bool(found) == bool(lines), found


def test_entries_that_a_mapping_no_longer_has_are_told() -> None:
    """Who writes an empty mapping asked for it. Who writes another entry may not know that the first goes."""
    mine = "teachers.named={mine: {adapter: 'pocket:text', tasks: [t2i]}}"
    assert told("pocket", mine) == ["teachers.named.editor -> gone"]
    assert told("pocket", "teachers.named={}") == []
    assert told("pocket", "tasks={t2i: 5}") == []  # edits have their default there, which is the recipe's
    assert told("pocket", "teachers.base.guidance={t2i: {scale: 2}}") == ["teachers.base.guidance.edit -> gone"]


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    """What a file holds counts, also where it is no recipe without `--set`."""
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"extends": "pocket", "student": {"adapter": {"rank": 0, "targets": "all"}}}))
    assert told(str(file), RANK) == [TARGETS]


@pytest.mark.parametrize("command", [("recipe", "show"), ("plan",), ("encode",), ("distill",), ("cases", "plan")])
def test_the_commands_say_it(command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    no_model = "model=/nowhere"  # so that nothing long begins
    shown = fewstep(*command, "pocket-harder", "--set", RANK, "--set", no_model)
    assert f"{NOTICE}: {TARGETS}" in shown.stderr
    assert NOTICE not in fewstep(*command, "pocket-harder", "--set", "student.adapter.rank=8", "--set", no_model).stderr


def test_the_student_of_the_harder_world_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    HarderStudent(None, None, {"t2i": 8, "edit": 8}, [RANK], cases=1, diversity=0).recipe()
    assert f"{NOTICE}: {TARGETS}" in capsys.readouterr().err


def test_one_process_of_a_torchrun_says_it_and_an_error_after_it_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert NOTICE not in fewstep("recipe", "show", "pocket-harder", "--set", RANK).stderr
    monkeypatch.setenv("RANK", "0")
    shown = fewstep("encode", "pocket-harder", "--set", RANK, "--set", "model=/nowhere").stderr
    assert NOTICE in shown
    assert "/nowhere" in shown


def study_of(cells: dict[str, object], shared: dict[str, object]) -> StudyGrid:
    study = changed(
        ("axis", ["student.adapter"]),
        ("worlds/pocket/recipe", "pocket-harder"),
        ("worlds/pocket/set", shared),
        ("cells", cells),
    )
    return resolve_grid(validate_study(study, "made up"))


def test_cells_of_a_study_say_it() -> None:
    (line,) = study_of({"shipped": {}, "narrow": {"set": {"student.adapter": {"rank": 8}}}}, {}).reset
    assert line == f"cells.narrow sets a whole section, and so changes what it does not name: {TARGETS}"


def test_what_all_cells_share_is_told_once() -> None:
    cells = {"wide": {}, "narrow": {"set": {"student.adapter.rank": 8}}}
    (line,) = study_of(cells, {"student.adapter": {"rank": 16}}).reset
    assert line == f"worlds.pocket.set sets a whole section, and so changes what it does not name: {TARGETS}"


def test_a_study_is_planned_and_run_with_that_told(tmp_path: Path) -> None:
    study = changed(
        ("axis", ["student.adapter"]),
        ("worlds/pocket/set/student.adapter", None),
        ("worlds/pocket/set/student.adapter.targets", "all"),
        ("cells", {"two": {"set": {"student.adapter": {"rank": 2}}}, "four": {"set": {"student.adapter.rank": 4}}}),
    )
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study))
    said = f"cells.two sets a whole section, and so changes what it does not name: {TARGETS}"
    planned = fewstep("study", "plan", file, "--out", tmp_path / "study")
    assert said in " ".join(planned.output.split())
    ran = fewstep("study", "run", file, "--cell", "2", "--out", tmp_path / "study")
    assert said in " ".join(ran.output.split())
