"""`--set` of a whole section forgets what the recipe says beside it, and says so."""

import pytest

from fewstep.run.reset_keys import reset_keys
from fewstep.study.grid import resolve_grid
from fewstep.study.plan import validate_study
from tests.cli.command_line import fewstep
from tests.study.made_studies import changed

SEGMENT = "objective.segment_guidance"
RANK = "student.adapter={rank: 8}"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], []),
        (["run.iterations=3", "student.adapter.rank=8"], []),
        ([RANK], ["student.adapter.targets: all -> attention+mlp"]),
        ([RANK, "student.adapter.targets=attention"], []),
        (["student.adapter={rank: 8, targets: all}"], []),
        ([f"{SEGMENT}={{weight: 0.5}}"], [f"{SEGMENT}.teacher_steps: 2 -> 4"]),
        ([f"{SEGMENT}={{}}", "run.seed=1"], [f"{SEGMENT}.teacher_steps: 2 -> 4"]),
        (["teachers.named={}"], []),  # nothing has a default there; the whole is what was named
        (["tasks={t2i: 1, edit: 0}"], []),
    ],
)
def test_what_a_section_resets_without_naming_it(overrides: list[str], told: list[str]) -> None:
    assert reset_keys("pocket-harder", overrides) == told


def test_the_commands_say_it() -> None:
    shown = fewstep("recipe", "show", "pocket-harder", "--set", RANK)
    assert "what it does not name has its default: student.adapter.targets: all -> attention+mlp" in shown.stderr
    assert "targets: attention+mlp" in shown.stdout
    assert fewstep("recipe", "show", "pocket-harder", "--set", "student.adapter.rank=8").stderr == ""


def test_cells_of_a_study_say_it() -> None:
    study = changed(
        ("axis", ["student.adapter"]),
        ("worlds/pocket/recipe", "pocket-harder"),
        ("worlds/pocket/set", {}),
        ("cells", {"shipped": {}, "narrow": {"set": {"student.adapter": {"rank": 8}}}}),
    )
    assert resolve_grid(validate_study(study, "made up")).reset == {
        "narrow": ("student.adapter.targets: all -> attention+mlp",)
    }
