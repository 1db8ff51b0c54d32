"""The frozen set: which cases, what is refused of a recipe before anything is encoded, what a run keeps."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.testing.tiny_qwen_image_21 import qwen_image_21_pipeline
from fewstep.flow.guidance import Guidance
from fewstep.run.best_by import own_figures, refuse_best_without_examiner
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.run.self_exam.chosen_cases import exam_cases, quoted_words
from fewstep.run.self_exam.cost import exam_schedule, rarer
from fewstep.run.self_exam.exam_cases import freeze, frozen_set
from fewstep.run.self_exam.plan import ExaminePlan
from fewstep.run.self_exam.prepare import planned_exam
from fewstep.run.self_exam.ranked import FOLDER, RANKED, ranked_best
from fewstep.run.self_exam.scorer_folders import refuse_scorers
from fewstep.runtime.errors import RecipeError, RunError

SMALL = {"size": [64, 64], "run.iterations": 200, "run.examine_every_iterations": 50, "examine.prompts": 2}


def case_files(folder: Path) -> dict[str, str]:
    """Two prompts of each of two categories, and two edits."""
    for n in range(2):
        Image.new("RGB", (64, 64), (40 * n, 90, 10)).save(folder / f"{n}.png")
    t2i = [{"id": f"p{n}", "prompt": f'A sign that says "OPEN {n}"', "category": "ab"[n // 2]} for n in range(4)]
    edit = [{"id": f"e{n}", "prompt": "Make it night", "reference_images": [f"{n}.png"]} for n in range(2)]
    for name, records in (("t2i", t2i), ("edit", edit)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return {"t2i": str(folder / "t2i.jsonl"), "edit": str(folder / "edit.jsonl")}


def plan_of(folder: Path, **more: object) -> ExaminePlan:
    return ExaminePlan.model_validate({**case_files(folder), "prompts": 3, "edits": 2, **more})


def test_categories_take_turns_and_quoted_words_are_to_be_read(tmp_path: Path) -> None:
    found = exam_cases(plan_of(tmp_path), ("t2i", "edit"), tmp_path)
    assert [one.case.id for one in found] == ["p0", "p2", "p1", "e0", "e1"]
    assert [len(one.seeds) for one in found] == [2, 2, 2, 1, 1]
    assert found[0].text == ("OPEN 0",)
    assert quoted_words("the dog's bowl says “WOOF” and it's 'red'") == ("WOOF",)
    assert [one.case.task for one in exam_cases(plan_of(tmp_path), ("t2i",), tmp_path)] == ["t2i"] * 3


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("mini-t2i", "examine.edit: suite mini-t2i is of task t2i, and edits, with pictures are needed"),
        ("t2i.jsonl", "examine.edit: .*has no edits with pictures under 'reference_images'"),
        ("nowhere", "examine.edit: nowhere: there is no such file"),
    ],
)
def test_edits_without_pictures_are_refused_with_their_key(tmp_path: Path, edit: str, words: str) -> None:
    plan = plan_of(tmp_path)
    given = str(tmp_path / edit) if edit.endswith("jsonl") else edit
    with pytest.raises(RecipeError, match=words):
        exam_cases(plan.model_copy(update={"edit": given}), ("t2i", "edit"), tmp_path)


def test_a_set_is_frozen_with_its_pictures_and_outlives_its_sources(tmp_path: Path) -> None:
    chosen = exam_cases(plan_of(tmp_path), ("t2i", "edit"), tmp_path)
    run = tmp_path / "run"
    made = freeze(run, chosen, "asked")
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    held = frozen_set(run, "asked")
    assert held is not None
    assert held.identity == made.identity
    assert [(one.case.prompt, one.seeds, one.text) for one in held.cases] == [
        (one.case.prompt, one.seeds, one.text) for one in chosen
    ]
    assert all(path.is_relative_to(run) for one in held.cases for path in one.case.references)
    assert freeze(run, [], "asked").identity == made.identity, "later it is read"


def test_another_set_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    freeze(run, exam_cases(plan_of(tmp_path), ("t2i", "edit"), tmp_path), "asked")
    with pytest.raises(RunError, match="holds the set that this run began with"):
        frozen_set(run, "something else")
    lines = (run / FOLDER / "cases.jsonl").read_text().splitlines(keepends=True)
    (run / FOLDER / "cases.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(RunError, match="is not as it was written"):
        frozen_set(run, "asked")


def test_a_ranking_is_followed_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert ranked_best(tmp_path) is None
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / RANKED).write_text('{"ship": 48}')
    assert ranked_best(tmp_path) == 48
    (tmp_path / FOLDER / RANKED).write_text("{")
    with pytest.raises(RunError, match="call fewstep rank"):
        ranked_best(tmp_path)


# ---- what it costs


def recipe(**changes: object) -> Recipe:
    given = {"examine": {}, "run.examine_every_iterations": 50, "run.iterations": 1000, "run.best_by": None}
    return load_recipe("pocket", {**given, **{key.replace("__", "."): value for key, value in changes.items()}})


def test_examinations_fit_their_share_first_by_fewer_cases_then_by_coming_more_rarely() -> None:
    def of(**changes: object) -> object:
        found = exam_schedule(recipe(**changes), ("t2i", "edit"), 40, Guidance(3.0))
        assert found is not None
        return found

    plenty, tight, tighter = of(examine={"share": 0.5}), of(run__batch=8), of(run__batch=4)
    assert (plenty.plan.prompts, plenty.every, plenty.changed) == (24, 50, ())  # type: ignore[attr-defined]
    assert 8 <= tight.plan.prompts < 24  # type: ignore[attr-defined]
    assert tight.share <= 0.05  # type: ignore[attr-defined]
    assert tight.every == 50  # type: ignore[attr-defined]
    assert "instead of 24 and 24" in tight.changed[0]  # type: ignore[attr-defined]
    assert (tighter.plan.prompts, tighter.every) == (8, 100)  # type: ignore[attr-defined]
    assert "every 100 iterations instead of 50" in tighter.changed[0]  # type: ignore[attr-defined]


def test_the_teachers_answers_at_few_steps_are_counted() -> None:
    """72 pictures: 80 forwards of the teacher's, 4 of its few steps, and 4 of each of six examinations."""
    given = recipe(run__iterations=250, examine={"share": 1.0}, run__gradient_checkpointing="off")
    found = exam_schedule(given, ("t2i", "edit"), 40, Guidance(3.0))
    assert found is not None
    training = 250 * 16 * (4 + 1 + 3 * 3 + 1 + 2)  # rollout, estimate, three updates, critic, guided teachers
    examining = 72 * (80 + 4 + 4 * 6)
    assert found.share == pytest.approx(examining / (training + examining))
    assert "at all their steps and at the student's" in found.words


def test_a_run_that_examines_nothing_has_no_schedule() -> None:
    assert exam_schedule(recipe(run__examine_every_iterations=0), ("t2i",), 40, Guidance()) is None
    assert exam_schedule(recipe(examine={"t2i": None}), ("t2i",), 40, Guidance()) is None


def test_examinations_that_take_too_long_become_rarer_in_whole_steps() -> None:
    assert rarer(100, 100, took=5, share=0.05) == 100
    assert rarer(100, 100, took=6, share=0.05) == 100, "a little more is not worth a change"
    assert rarer(100, 100, took=15, share=0.05) == 300
    assert rarer(300, 100, took=15, share=0.05) == 300, "and stays"


# ---- figures that a run cannot have


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": {"t2i": 5, "edit": 0}, "run__best_by": "edit.shift"}, "'edit.shift', and this run examines no edit"),
        ({"examine": {"seeds": 1}, "run__best_by": "t2i.variety"}, "which needs 2 seeds, and examine.seeds is 1"),
        ({"run__best_by": "t2i.clip"}, "but the figures of this run are: score"),
        ({"examine": {"patience": 2}}, "examine.patience waits for a better run.best_by"),
    ],
)
def test_a_figure_that_this_run_cannot_have_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        refuse_best_without_examiner(recipe(**changes))


def test_any_figure_of_the_run_may_choose() -> None:
    for name in own_figures(recipe(examine={"scorers": {"clip": "models/clip"}})):
        refuse_best_without_examiner(recipe(run__best_by=name, examine={"scorers": {"clip": "models/clip"}}))


def test_a_scorer_of_another_kind_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"examine\.scorers\.clip: "):
        refuse_scorers(ExaminePlan(scorers={"clip": str(tmp_path)}))
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(RecipeError, match="is a model of type 'dinov2'"):
        refuse_scorers(ExaminePlan(scorers={"clip": str(tmp_path)}))
    with pytest.raises(ValueError, match="names a figure"):
        ExaminePlan(scorers={"a b": "x"})


def test_how_a_run_examines_itself_changes_no_weights() -> None:
    plain = load_recipe("pocket")
    assert plain.changed({"examine": {"prompts": 4}}).fingerprint() == plain.fingerprint()


def test_edits_are_examined_at_the_shape_at_which_they_are_trained(tmp_path: Path) -> None:
    """A photo that is no square: a student that is examined at one would be shifted against it."""
    Image.new("RGB", (128, 64), (200, 90, 10)).save(tmp_path / "wide.png")
    record = {
        "id": "e",
        "prompt": "Make it night",
        "reference_images": ["wide.png"],
        "teacher_prompt": "Make it a night",
    }
    (tmp_path / "wide.jsonl").write_text(json.dumps(record) + "\n")
    qwen_image_21_pipeline().save_pretrained(tmp_path / "base")
    recipe = load_recipe(
        "qwen-image-2.1", {**SMALL, "model": tmp_path / "base", "examine.edit": tmp_path / "wide.jsonl"}
    )
    planned = planned_exam(recipe, tmp_path / "run")
    assert planned is not None
    (edit,) = (one.case for one in planned.cases if one.case.task == "edit")
    assert edit.size((0, 0)) == QwenImage21.size_of_edit([(64, 128)], 64 * 64) != (64, 64)
    assert {one.case.size((0, 0)) for one in planned.cases if one.case.task == "t2i"} == {(64, 64)}

    run = tmp_path / "run"
    frozen = planned.freeze(run)
    assert frozen.identity == planned.freeze(run).identity
    again = frozen_set(run)
    assert again is not None
    assert [one.case.taught_prompt for one in again.cases if one.case.task == "edit"] == ["Make it a night"]
