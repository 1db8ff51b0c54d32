"""A study run through the command line: killed, resumed, in parts, added to, and refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewstep.backbones.families import load_backbone
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.bench.gallery import Gallery
from fewstep.runtime.errors import FewstepError, StudyError
from fewstep.study import forecast, plan
from fewstep.study.claim import claim_folder
from fewstep.study.files import digests
from fewstep.study.folder import StudyFolder
from fewstep.study.grid import StudyGrid, resolve_grid
from tests.cli.command_line import fewstep, write_recipe
from tests.study.made_studies import judged

DOCS = Path(__file__).parent.parent.parent / "docs"
REPORT = ("results.json", "report.md", "report.html", "grid.png", "moments.png")


def ran(*words: str | Path) -> str:
    result = fewstep("study", *words)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def refused(*words: str | Path) -> str:
    result = fewstep("study", *words)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def reported(folder: Path) -> dict[str, bytes]:
    ran("report", folder)
    return {name: (folder / "report" / name).read_bytes() for name in REPORT}


def ran_report(folder: Path) -> dict[str, Any]:
    ran("report", folder)
    found: dict[str, Any] = json.loads((folder / "report" / "results.json").read_text())
    return found


def grid_of(file: str, **options: Any) -> StudyGrid:
    return resolve_grid(*plan.load_study(file), **options)


def pictures(folder: Path) -> dict[str, int]:
    """When each picture was made."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.glob("examination/**/*.png"))}


def test_killed_and_resumed_it_reports_the_same_to_the_byte(study_file: Callable[..., str], tmp_path: Path) -> None:
    file, whole, torn = study_file(), tmp_path / "whole", tmp_path / "torn"
    ran("run", file, "--out", whole)

    command = [sys.executable, "-m", "fewstep", "study", "run", file, "--out", str(torn)]
    # One thread, as in this process (tests/conftest.py): sums in another number of threads round otherwise.
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=alone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    in_the_middle = torn / "runs" / "even-seed0" / "checkpoints" / "iteration-000001" / "COMPLETE"
    deadline = time.monotonic() + 180
    while not in_the_middle.exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (torn / "examination" / "even-seed0" / "000002" / "verdicts").exists()

    before = pictures(torn)
    output = ran("run", file, "--out", torn)
    assert "none-seed0 is done" in output
    after = pictures(torn)
    assert all(after[path] == made for path, made in before.items() if "none-seed0" in path or "teachers" in path)
    assert reported(whole) == reported(torn)
    assert reported(whole) == reported(whole)
    assert "even-seed0" in (whole / "report" / "cost.md").read_text()


def test_one_number_of_the_plan_at_a_time(study_file: Callable[..., str], tmp_path: Path) -> None:
    """Jobs of an array make together what one command makes alone; a report before that lists what is missing."""
    file, jobs = study_file(("protocol/moments", []), ("figures", [])), tmp_path / "jobs"
    assert "about" in ran("plan", file, "--out", jobs, "--measure")
    ran("run", file, "--out", jobs, "--cell", "1")
    assert ran_report(jobs)["missing"] == ["teacher:base", "none-seed0"]
    assert not (jobs / "runs" / "none-seed0").exists()
    for number in ("0", "2"):
        ran("run", file, "--out", jobs, "--cell", number)
    found = ran_report(jobs)
    assert found["missing"] == []
    assert [row["name"] for row in found["tables"][0]["rows"]] == ["teacher:base", "none", "even"]
    stores = {path.parent.parent for path in jobs.glob("runs/**/store.json")}
    assert len(stores) == 1  # one conditioning store for all runs
    assert "runs 0 to 1" in refused("run", file, "--out", jobs, "--cell", "3")

    other = study_file(("worlds/pocket/set/critic.updates", 2), name="other.yaml")
    assert "critic.updates: 1 -> 2" in refused("run", other, "--out", jobs)
    fewer = study_file(("protocol/moments", []), ("figures", []), ("protocol/cases", 2), name="fewer.yaml")
    assert "protocol.cases: 1 -> 2" in refused("run", fewer, "--out", jobs)  # without --cases it is another study


# ---- the grid


def test_runs_have_stable_names_and_one_budget(study_file: Callable[..., str]) -> None:
    runs = grid_of(study_file(), seeds=2, overrides=["run.iterations=3"]).runs
    assert [run.name for run in runs] == ["none-seed0", "even-seed0", "none-seed1", "even-seed1"]
    assert [run.recipe.run.seed for run in runs] == [0, 0, 1, 1]
    assert {(run.recipe.run.iterations, run.recipe.run.batch) for run in runs} == {(3, 4)}
    assert {run.recipe.store for run in runs} == {None}  # beside the runs: shared


def test_seeds_join_a_study(study_file: Callable[..., str]) -> None:
    assert grid_of(study_file(), seeds=3).definition() == grid_of(study_file()).definition()


@pytest.mark.parametrize("name", plan.shipped_studies())
def test_shipped_studies_resolve_in_each_of_their_worlds(name: str) -> None:
    study, _ = plan.load_study(name)
    for world in study.worlds:
        runs = resolve_grid(study, world=world)
        assert len(runs.runs) == len(study.cells) * len(study.seeds)
        assert runs.recipe.run.iterations % runs.recipe.run.examine_every_iterations == 0
        assert all(moment % runs.recipe.run.examine_every_iterations == 0 for moment in runs.moments)


def test_calls_of_a_sample() -> None:
    """Four rollout calls and one with gradient; two critic updates and its answer; teachers as the plan weighs them."""
    by_cell = {
        run.cell: forecast.calls(run.recipe)
        for run in resolve_grid(plan.load_study("teacher-guidance")[0], seeds=1).runs
    }
    guided = by_cell["base-only"].teachers  # 1, or 2 where the recipe guides its base
    assert (by_cell["base-only"].student, by_cell["base-only"].critic) == (5, 3)
    assert by_cell["step-wise"].teachers == guided + 0.5  # a specialist at two of four steps
    assert by_cell["last-step-only"].teachers == guided + 0.25


def test_calls_of_optional_terms(study_file: Callable[..., str]) -> None:
    """What a term of the loss asks of student and teachers is counted; the base is guided, with two calls each time."""
    anchored = {"objective.segment_guidance": None, "objective.first_step_anchor": {"weight": 0.3, "teacher_steps": 3}}
    cells = {
        "segment": {},
        "plain": {"objective.segment_guidance": None},
        "anchored": anchored,
        "preserved": {"objective.preservation": 20},
        "decoupled": {"objective.decoupled_guidance": True},
        "fresh": {"critic.order": "student-first", "critic.rollouts": "fresh"},
        "five": {"critic.updates": 5},
        "same": {"critic.exit_step": "same"},
    }
    base = {"objective.segment_guidance": {"weight": 0.25, "teacher_steps": 2}}
    file = study_file(
        ("cells", {name: {"set": base | told} for name, told in cells.items()}),
        ("axis", ["objective", "critic", "student"]),
        ("figures", []),
        ("worlds/pocket/set", {"teachers.named": {}, "student.init_from": None}),
    )
    told = {run.cell: forecast.calls(run.recipe) for run in grid_of(file).runs}
    assert {name: (each.student, each.critic, each.teachers) for name, each in told.items()} == {
        "segment": (5, 3, 2 + 2 * 2),  # two steps over a segment
        "plain": (5, 3, 2),
        "anchored": (6, 3, 2 + 3 * 2),
        "preserved": (5, 3, 6 + 0.5 * 2),  # edits alone, half of the batches
        "decoupled": (5, 3, 6 + 1),
        "fresh": (4 * 2 + 1, 3, 6),  # one further rollout for the second of two updates
        "five": (5, 6, 6),
        "same": (3.5, 3, 6),  # a rollout ends at the improved step: after 1, 2, 3 or 4 calls
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("cells/even/set/student.steps", 2)], "cells.even sets student.steps, which is not on the axis"),
        ([("cells/even/set", {"tasks": {"t2i": 1, "edit": 0}})], "none and even are the same recipe"),
        ([("cells/even", None)], "at least 2"),
        ([("axis", ["run.iterations"])], "can be no axis"),
        ([("worlds/pocket/set/run.batch", 8)], "write it under worlds.pocket.budget"),
        ([("worlds/pocket/teachers", ["base", "mine"])], "teachers names mine"),
        ([("worlds/pocket/recipe", "pockets")], "pockets"),
        ([("protocol/momens", [0.5])], "did you mean protocol.moments"),
        ([("protocol/moments", [0.5, 0.1])], "rise strictly"),
        ([("seeds", [0, 0])], "twice"),
        ([("cells/a b", {"set": {"tasks": {"t2i": 2, "edit": 1}}})], "names a folder"),
        ([("figures/0/cells", ["odd"])], "no cell"),
        ([("cells/even/label", "none")], "cells.none and cells.even are both called none"),
        ([("tables", [{"paper": 9, "task": "t2i", "title": "t", "rows": {}}])], "paper is 9"),
        ([("tables", [{"paper": 1, "task": "t2i", "title": "t", "rows": {"none": "E9"}}])], "E9 is no row"),
        ([("cells/even/set", {"tasks": {"t2i": 1, "edti": 1}})], "cell even"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_contradictory_study_is_refused(
    changes: list[tuple[str, Any]], words: str, study_file: Callable[..., str], tmp_path: Path
) -> None:
    assert words in refused("run", study_file(*changes), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_difference_that_a_cell_brings_by_the_way_is_found() -> None:
    """Both keys are on the axis; what they resolve to is compared, and shift is not."""
    raw = plan.load_study("task-mixture")[0].model_dump(mode="json")
    raw["axis"] = ["student.sigmas"]
    sigmas = {"student.sigmas": [1.0, 0.8, 0.5, 0.2]}
    raw |= {
        "premises": {},
        "tables": [],
        "figures": [],
        "cells": {"a": {"set": {}}, "b": {"set": {**sigmas, "student.shift": None}}},
    }
    with pytest.raises(StudyError, match=r"student\.shift, which is not on the axis"):
        resolve_grid(plan.validate_study(raw, "made up"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--world", "moon"], "--world is one of: pocket"),
        (["--set", "tasks.edit=3"], "what the cells differ in"),
        (["--set", "run.seed=3"], "--seeds"),
        (["--set", "run.iteration=3"], "did you mean run.iterations"),
    ],
)
def test_options_that_contradict_the_study(
    options: list[str], words: str, study_file: Callable[..., str], tmp_path: Path
) -> None:
    assert words in refused("run", study_file(), "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_no_study(study_file: Callable[..., str], tmp_path: Path) -> None:
    assert "no study.json" in refused("report", tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    assert "choose another --out" in refused("run", study_file(), "--out", tmp_path / "mine")
    assert "did you mean task-mixture" in refused("plan", "task-mixtur")


def test_files_that_change_between_two_cells_are_noticed(study_file: Callable[..., str], tmp_path: Path) -> None:
    """Cells would differ in more than the axis."""
    cases, lora = tmp_path / "cases.txt", tmp_path / "mine.safetensors"
    cases.write_text("a red boat\n")
    save_file({"x": torch.zeros(1)}, lora)
    runs = grid_of(
        study_file(
            ("worlds/pocket/set/data.t2i", [{"source": str(cases)}]),
            ("worlds/pocket/set/teachers.named", {"mine": {"adapter": str(lora)}}),
        )
    )
    found = digests(run.recipe for run in runs.runs)
    assert found.keys() == {str(cases), str(lora)}  # the pocket world's follow from their names
    assert digests(run.recipe for run in runs.runs) == found
    cases.write_text("a blue boat\n")
    save_file({"x": torch.ones(1)}, lora)
    again = digests(run.recipe for run in runs.runs)
    assert all(again[source] != found[source] for source in found)


def test_a_study_whose_cases_were_rewritten_is_refused(study_file: Callable[..., str], tmp_path: Path) -> None:
    cases = tmp_path / "cases.txt"
    cases.write_text("a red boat\n")
    runs = grid_of(study_file(("worlds/pocket/set/data.t2i", [{"source": str(cases)}])))
    claim_folder(runs, StudyFolder(tmp_path / "out"))
    claim_folder(runs, StudyFolder(tmp_path / "out"))
    cases.write_text("a red boat\na blue one\n")
    with pytest.raises(StudyError, match=r"files\.\S*cases\.txt: \w+ -> \w+"):
        claim_folder(runs, StudyFolder(tmp_path / "out"))


def test_settings_reach_the_recipe_letter_by_letter(study_file: Callable[..., str]) -> None:
    source = "\U0001f33b cases.jsonl"
    runs = grid_of(study_file(("worlds/pocket/set/data.t2i", [{"source": source}])))
    assert runs.recipe.data.t2i[0].source == source


def test_the_documented_study_can_be_run(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(name: rank.*?)```", (DOCS / "studies.md").read_text(), re.DOTALL)
    (tmp_path / "rank.yaml").write_text(block)
    runs = grid_of(str(tmp_path / "rank.yaml"))
    assert [run.name for run in runs.runs][:2] == ["narrow-seed0", "wide-seed0"]
    assert runs.moments == (30, 60, 120)


# ---- another model than the pocket teacher


def test_what_nothing_here_can_judge_waits_for_its_judges(study_file: Callable[..., str], tmp_path: Path) -> None:
    """A recipe file beside the study's; runs end with their students, and verdicts from elsewhere make the report."""
    tiny_qwen_image_21.qwen_image_21_pipeline(0).save_pretrained(tmp_path / "teacher")
    sources = {"t2i": [{"source": "pocket:t2i:2"}], "edit": [{"source": "pocket:edit:2"}]}
    role = {"adapter": {"rank": 2, "alpha": 2}}
    run = {"precision": "fp32", "device": "cpu", "examine_every_iterations": 0}
    recipe = {"name": "mine", "model": str(tmp_path / "teacher"), "size": [64, 64], "run": run, "data": sources}
    write_recipe(recipe | {"student": role, "critic": role | {"updates": 1}}, tmp_path)
    world = {"recipe": "recipe.yaml", "budget": {"iterations": 2, "batch": 2}, "set": {}, "teachers": []}
    file, out = study_file(("worlds", {"mine": world}), ("protocol/moments", []), ("figures", [])), tmp_path / "out"
    ran("run", file, "--out", out)
    assert (out / "runs" / "even-seed0" / "student" / "model_index.json").is_file()
    assert "none-seed0 is done" in ran("run", file, "--out", out)
    assert ran_report(out)["missing"] == ["none-seed0", "even-seed0"]
    for run, value in (("none-seed0", 2.0), ("even-seed0", 3.0)):
        judged(StudyFolder(out).student(run, 2), ["t2i"], 3, lambda task, category, case, value=value: value)
    (table,) = ran_report(out)["tables"]
    assert {row["name"]: row["rank"] for row in table["rows"]} == {"none": 2, "even": 1}


# ---- teachers


def lora(path: Path) -> Path:
    """A small change of every module that adapters attach to."""
    backbone = load_backbone("pocket", dtype=torch.float32, parts="transformer")
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, module in backbone.transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(backbone.lora_targets):
            rows, columns = module.weight.shape
            tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(2, columns, generator=generator) / columns**0.5
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(rows, 2, generator=generator) * 0.3
    save_file(tensors, path)
    return path


def test_specialised_teachers_are_examined_at_their_own_weights(study_file: Callable[..., str], tmp_path: Path) -> None:
    named = {"mine": {"adapter": str(lora(tmp_path / "mine.safetensors")), "categories": ["portrait"]}}
    file = study_file(
        ("worlds/pocket/set/teachers.named", named),
        ("worlds/pocket/teachers", ["base", "mine"]),
        ("protocol/moments", []),
        ("figures", []),
    )
    out = tmp_path / "out"
    ran("run", file, "--out", out, "--cell", "2")
    galleries = [Gallery(out / "examination" / "teachers" / name) for name in ("base", "mine")]
    asked = [(row["case"], row["seed"]) for row in galleries[0]]
    assert asked == [(row["case"], row["seed"]) for row in galleries[1]]
    drawn = [[gallery.picture(*key).tobytes() for key in asked] for gallery in galleries]
    assert all(one != other for one, other in zip(*drawn, strict=True))
    rows = ran_report(out)["tables"][0]["rows"]
    assert [row["name"] for row in rows[:3]] == ["teacher:base", "teacher:specialised", "teacher:mine"]
    portrait = {row["name"]: row["judges"]["probe"]["portrait"]["value"] for row in rows[:3]}
    assert portrait["teacher:specialised"] == portrait["teacher:mine"]


def test_an_embedded_teacher_that_is_not_there_is_refused_first(study_file: Callable[..., str], tmp_path: Path) -> None:
    named = {"mine": {"adapter": "pocket:nobody"}}
    file = study_file(("worlds/pocket/set/teachers.named", named))
    assert "pocket:nobody is no embedded LoRA" in refused("run", file, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cases_of_another_world_are_refused_before_the_teachers(study_file: Callable[..., str], tmp_path: Path) -> None:
    file = study_file(("worlds/pocket/recipe", "pocket-harder"))
    for command in (("plan", file), ("run", file, "--out", tmp_path / "out")):
        assert "has cases of another world than model pocket-harder" in refused(*command)
    assert not (tmp_path / "out").exists()


def test_the_harder_world_is_examined_by_its_reader(study_file: Callable[..., str], tmp_path: Path) -> None:
    """Halves of a score, its own categories and kinds of edit, and a teacher's grid that follows the size."""
    sources = {f"data.{task}": [{"source": f"pocket-harder:{task}:8"}] for task in ("t2i", "edit")}
    world = {"recipe": "pocket-harder", "budget": {"iterations": 1, "batch": 2}, "teachers": ["base"]}
    small = {"student.adapter": {"rank": 2, "alpha": 2}, "critic.adapter": {"rank": 2, "alpha": 2}}
    changes = [("worlds", {"harder": {**world, "set": {**sources, **small, "run.precision": "fp32"}}})]
    changes += [("protocol", {"cases": 1, "teacher_steps": 2}), ("figures", [])]
    file, out = study_file(*changes), tmp_path / "out"
    ran("run", file, "--out", out)
    found = ran_report(out)
    columns = {table["task"]: table["columns"] for table in found["tables"]}
    assert columns["t2i"] == ["landscape", "portrait", "text", "still-life"]
    assert columns["edit"][-2:] == ["two-pictures", "three-pictures"]
    verdicts = sorted(out.glob("examination/**/verdicts/reader.jsonl"))
    assert len(verdicts) == 3, "two cells and the teacher"
    lines = [json.loads(line) for line in verdicts[0].read_text().splitlines()]
    assert len(lines) == 12
    for line in lines:
        halves = line["sub_scores"].values()
        assert line["score"] == pytest.approx(sum(halves) / len(halves), abs=1e-3)
    assert {tuple(line["sub_scores"]) for line in lines} >= {("asked", "drawn")}
    described = json.loads(next(out.glob("examination/**/base/system.json")).read_text())
    assert set(described["facts"]["sigmas"]) == {"96 x 96", "128 x 96", "96 x 128", "128 x 128"}
    before = pictures(out)
    ran("run", file, "--out", out)
    assert pictures(out) == before
    wrong = {"one": {"says": "so", "task": "t2i", "higher": {"rows": ["even"], "categories": ["face"]}, "at_least": 0}}
    told = refused("run", study_file(*changes, ("premises", wrong), name="wrong.yaml"), "--out", tmp_path / "wrong")
    assert "the harder world's t2i cases do not have; it has: landscape, portrait, text, still-life" in told


def test_a_premise_over_a_category_of_no_case_is_refused_first(study_file: Callable[..., str], tmp_path: Path) -> None:
    side = {"rows": ["teacher:base"], "categories": ["portrait", "moons"]}
    premise = {"says": "moons are hard", "task": "t2i", "higher": side, "at_most": 4.0}
    said = refused("run", study_file(("premises", {"moons": premise})), "--out", tmp_path / "out")
    assert "premises.moons names the category moons" in said
    assert "it has: landscape, portrait, text" in said
    assert not (tmp_path / "out").exists()


def test_errors_are_the_users(study_file: Callable[..., str]) -> None:
    with pytest.raises(FewstepError):
        grid_of(study_file(), world="moon")


def test_a_missing_lora_is_told_with_what_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused("run", "teacher-guidance", "--world", "harder")
    assert "holds no LoRA" in told
    assert told.endswith("made by: fewstep pocket specialise t2i --world harder --iterations 400 --examples 1200")
    assert list(tmp_path.iterdir()) == []
