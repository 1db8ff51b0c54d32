"""Run folders as runs leave them, with pictures, examinations and events, without training."""

import json
import math
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from fewstep.data.cases import Case
from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
from fewstep.run.self_exam.exam_cases import ExamCase, FrozenSet, freeze
from fewstep.run.self_exam.results import student_name, write_json_file
from fewstep.sample.origin import save_with_origin

EVIL = "<img src=x onerror=document.title='run'> paint a wall"
PROMPTS = ("a lighthouse at dawn", EVIL)


def picture(path: Path, shade: int, side: int = 64, moved: int = 0) -> None:
    """A disc and a bar on a plain ground; `moved` to the right."""
    image = Image.new("RGB", (side, side), (shade, 90, 150))
    draw = ImageDraw.Draw(image)
    draw.ellipse((side // 8 + moved, side // 8, side // 2 + moved, side // 2), fill=(240, 200, shade))
    draw.rectangle((side // 2 + moved, side // 2, side * 3 // 4 + moved, side * 7 // 8), fill=(20, shade, 40))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def training_line(i: int, **more: Any) -> dict[str, Any]:
    """A line of metrics.jsonl of iteration i, counted from 0."""
    shares = {"tasks": {"edit": 8 * (i + 1), "t2i": 8 * (i + 1)}}
    shares["categories"] = {"edit/style": 8 * (i + 1), "t2i/text": 3 * (i + 1), "t2i/portrait": 5 * (i + 1)}
    figures = {
        "critic_loss": 0.3,
        "student_loss": 1 / (i + 1),
        "cosine": 0.98 - 0.3 / (i + 1),
        "gap": 0.2 + 1 / (i + 3),
    }
    figures |= {"student_norm": 0.1, "critic_norm": 0.2, "pull/editor": 1.0 + 0.1 * math.sin(i), "student_skipped": 0.0}
    line = {"phase": "distil", "iteration": i, "student_step": i % 4, "task": "edit" if i % 2 else "t2i", **shares}
    return line | figures | {"seconds": {"rollout": 0.5, "iteration": 2.0}} | more


def append(folder: Path, *lines: dict[str, Any]) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def frozen(folder: Path) -> FrozenSet:
    """Two prompts at two seeds, one of them hostile, and an edit."""
    source = folder / "source.png"
    picture(source, 60)
    cases = [ExamCase(Case(f"t2i-{n}", "t2i", prompt, "portrait"), (1, 2)) for n, prompt in enumerate(PROMPTS)]
    cases.append(ExamCase(Case("edit-0", "edit", "make the disc red", "style", references=(source,)), (7,)))
    exam = freeze(folder, cases, "asked")
    source.unlink()
    return exam


def draw_examination(folder: Path, exam: FrozenSet, iteration: int) -> None:
    """The student's answers after so many iterations, their figures, and the line in metrics.jsonl."""
    records = []
    for one in exam.cases:
        for seed in one.seeds:
            picture(exam.picture(student_name(iteration), one, seed), min(255, 40 + iteration), moved=2)
            about = {"case": one.case.id, "task": one.case.task, "category": one.case.category, "seed": seed}
            records.append({**about, "values": {"psnr": 20.0 + iteration / 10, "shift": 0.4}, "missing": {}})
    figures = {"t2i.psnr": 20.0 + iteration / 10, "edit.shift": 0.4, "composite": -1 / (iteration + 1)}
    told = {"iteration": iteration, "set": exam.identity, "figures": figures, "missing": {}, "events": []}
    write_json_file(exam.folder / "results" / f"{iteration:06d}.json", {**told, "records": records})
    append(folder, {"phase": "examine", "iteration": iteration, **figures})


def small_run(folder: Path, *overrides: str, trained: int = 40, student: bool = False) -> Path:
    """A run of the pocket recipe: examined at 0 and 20, an event at 21, previews at 0 and 20. student: it has ended."""
    wanted = ["run.iterations=40", "run.best_by=t2i.psnr", "run.save_every_iterations=20", *overrides]
    with RunDir.open_or_create(folder, load_recipe("pocket", wanted), {"device": "cpu"}):
        exam = frozen(folder)
        for one in exam.cases:
            for seed in one.seeds:
                picture(exam.picture("teacher", one, seed), 70)
                picture(exam.picture("teacher-at-4", one, seed), 100, moved=4)
        band = {
            "t2i.psnr": {"value": 30.0, "low": 28.0, "high": 32.0},
            "edit.shift": {"value": 0.1, "low": None, "high": None},
        }
        told = {"set": exam.identity, "teachers": ["teacher base, 40 steps"], "band": band, "records": []}
        write_json_file(exam.folder / "teacher.json", told)
        few = {"set": exam.identity, "steps": 4, "figures": {"t2i.psnr": 18.5}, "missing": {}, "records": []}
        write_json_file(exam.folder / "teacher-at-4.json", few)
        for moment in (0, 20):
            append(folder, *(training_line(i) for i in range(moment - 20, moment) if i >= 0))
            draw_examination(folder, exam, moment)
            for case in range(2):
                picture(folder / "samples" / "pictures" / f"student-{moment:06d}-{case:02d}.png", moment + 30)
                picture(folder / "samples" / "pictures" / f"teacher-{case:02d}.png", 80)
                few = Image.new("RGB", (64, 64), (120, 90, 150))
                told = "teacher, 4 steps, no guidance"
                save_with_origin(few, folder / "samples" / "pictures" / f"few-{case:02d}.png", told)
        shift = {"kind": "shift", "words": "edit.shift is 0.40 px", "values": {"edit.shift": 0.4}, "answer": "warn"}
        append(folder, *(training_line(i) for i in range(20, trained)))
        append(folder, {"phase": "event", "iteration": min(20, trained), **shift})
        if student:
            (folder / "student" / "model_index.json").write_text("{}")
    return folder
