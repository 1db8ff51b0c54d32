"""A student of short prompts whose teacher reads their rewritings, on the pocket world.

Here a rewriting fills in what a user left out: each kind of scene has attributes with a usual value, a short caption
leaves them out where they have it, and the rewriting names them. Two students are trained on the same short captions:
with the rewritings for the teachers, and without them. Both are asked held-out short captions, the teacher their
rewritings, all from the same noise, and the probe reads the pictures.

    python benchmarks/teacher_prompts.py --out runs/teacher-prompts        # about 10 minutes on two cores

The folder keeps cases, runs and figures.json; the same command goes on.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fewstep
from fewstep.backbones.embedded import POCKET
from fewstep.bench import statistics
from fewstep.data.cases import Case, write_jsonl
from fewstep.pocket.captions import caption
from fewstep.pocket.cases import PocketCase, t2i_case
from fewstep.pocket.probe import Probe
from fewstep.pocket.render import render
from fewstep.pocket.systems import ConditioningCache, system_of
from fewstep.pocket.world import CATEGORIES, Scene, Split, attributes, random_scene, split_of
from fewstep.run.pocket_exam import teacher_guidance
from fewstep.runtime.seeded import seeded_random
from fewstep.sample.pictures import open_model

USUAL: dict[str, dict[str, str]] = {
    "landscape": {"sky": "day", "ground": "grass", "mountains": "none", "body": "sun"},
    "portrait": {"glasses": "no", "mood": "smiling", "wall": "teal"},
    "text": {"shape": "board", "wall": "green"},
}
SHARE = 0.5  # of the attributes above that have their usual value on purpose
ARMS = {"rewritten": True, "short alone": False}


def scene_of(kind: str, split: Split, rng: random.Random) -> Scene:
    """A scene of the split, with usual values more often than by chance."""
    while True:
        scene = random_scene(kind, rng, "train")
        scene = replace(scene, **{name: value for name, value in USUAL[kind].items() if rng.random() < SHARE})
        if split_of(scene) == split:
            return scene


def pair(kind: str, split: Split, index: int) -> tuple[Scene, str, str]:
    """The scene, its short caption, and the rewriting. Both are worded alike but for what is left out."""
    rng = seeded_random("teacher prompts", split, kind, index)
    scene = scene_of(kind, split, rng)
    usual = frozenset(name for name, value in USUAL[kind].items() if getattr(scene, name) == value)
    worded = rng.random()
    return scene, caption(scene, random.Random(worded), usual), caption(scene, random.Random(worded))


def training_cases(count: int, rewritten: bool) -> list[Case]:
    made = []
    for n in range(count):
        kind = CATEGORIES[n % len(CATEGORIES)]
        _, short, long = pair(kind, "train", n)
        made.append(Case(f"short-{n:05d}", "t2i", short, kind, teacher_prompt=long if rewritten else None))
    return made


def questions(count: int) -> list[tuple[PocketCase, PocketCase]]:
    """Held-out cases: under the short caption and under the rewriting."""
    found = []
    for n in range(count):
        for kind in CATEGORIES:
            scene, short, long = pair(kind, "heldout", n)
            case = replace(
                t2i_case(0, n, category_=kind), scene=scene, attributes=attributes(scene), target=render(scene),
                letters=getattr(scene, "letters", None),
            )  # fmt: skip
            found.append(tuple(replace(case, id=f"{kind}-{n}-{i}", prompt=p) for i, p in enumerate((short, long))))
    return found  # type: ignore[return-value]


def trained(folder: Path, arm: str, rewritten: bool, iterations: int) -> Path:
    cases = folder / f"{arm}.jsonl"
    if not cases.exists():
        write_jsonl(cases, training_cases(1500, rewritten))
    keys: dict[str, Any] = {
        "data.t2i": [{"source": str(cases), "category": None, "weight": 1}],
        "tasks": {"t2i": 1, "edit": 0},
        "run.iterations": iterations,
        "run.sample_every_iterations": 0,
        "run.examine_every_iterations": 0,
        "run.best_by": None,
    }
    fewstep.distill(fewstep.load_recipe(POCKET, keys), folder / arm, reporter=fewstep.TerminalReporter())
    return folder / arm / "student"


def attributes_right(system: Any, cases: Sequence[PocketCase], probe: Probe) -> np.ndarray:
    with torch.no_grad():
        drawn = [p for k in range(0, len(cases), 60) for p in system.sampler(cases[k : k + 60], range(k, k + 60))]
    return np.array([record["attributes"] for record in probe.examine(drawn, cases)], dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=144)
    parser.add_argument("--cases", type=int, default=200, help="held-out scenes of each category")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    asked, probe = questions(given.cases), Probe.load()
    short, long = [pair[0] for pair in asked], [pair[1] for pair in asked]
    teacher = open_model(POCKET)
    reference = system_of(teacher, guidance=teacher_guidance(), encoded=ConditioningCache(teacher.backbone))
    values = {
        "teacher, rewriting": attributes_right(reference, long, probe),
        "teacher, short": attributes_right(reference, short, probe),
    }
    for arm, rewritten in ARMS.items():
        student = open_model(trained(given.out, arm, rewritten, given.iterations))
        values[f"student, {arm}"] = attributes_right(system_of(student), short, probe)
    found: dict[str, Any] = {"cases": len(asked), "iterations": given.iterations}
    for name, value in values.items():
        mean = statistics.mean(value, bounds=statistics.SHARE).as_dict()
        against = statistics.paired_difference(value, values["teacher, rewriting"]).as_dict()
        found[name] = {"attributes": mean, "less the teacher": against}
        print(f"{name}: {mean['value']:.4f}, less the teacher {against['value']:+.4f} "
              f"({against['low']} to {against['high']})")  # fmt: skip
    (given.out / "figures.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
