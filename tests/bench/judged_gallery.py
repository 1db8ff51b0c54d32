"""Small galleries with their suites, and judges' declarations that point at a server."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewstep.bench import suites
from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.gallery import Gallery, begin_gallery
from fewstep.bench.suite_files import write_suite
from fewstep.runtime.task import Task
from tests.endpoint.fault_server import Call, FaultServer, Script, says

EDITS = ("scene", "perceptual", "object", "text", "identity", "style")


def noise(seed: int, side: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def gallery(
    folder: Path,
    cases: int = 6,
    task: Task = "t2i",
    system: str = "student",
    first: int = 0,
    categories: Sequence[str] | None = None,
    side: int = 16,
) -> Path:
    """A gallery of noise, one picture a case. first: seed of the first picture, so that systems differ."""
    kinds = categories or (EDITS if task == "edit" else ("landscape", "portrait", "text"))
    at = folder / "suite" if (folder / "suite").is_dir() else folder.parent / f"suite-{task}-{cases}"
    if not at.is_dir():
        heading = SuiteHeading("small", "1", task, 1, (side, side), "CC0-1.0")
        drafts = (
            DraftCase(
                f"c{i:05d}",
                f"prompt number {i}",
                kinds[i % len(kinds)],
                references=(noise(10_000_000 + i, side),) if task == "edit" else (),
            )
            for i in range(cases)
        )
        write_suite(heading, drafts, at)
    suite = suites.open_suite(at)
    made = begin_gallery(folder, system, suite.identity, {"fingerprint": system}, "adopted")
    suites.copy_into_gallery(suite, folder)
    for i, question in enumerate(suite.questions):
        facts = {"prompt": question.case.prompt, "task": task, "category": question.case.category}
        made.add(question.case.id, question.seeds[0], noise(first + i, side), facts)
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return list(Gallery(folder))


def judge_file(folder: Path, server: FaultServer | str, **keys: Any) -> Path:
    """A judge's declaration, impatient as tests are."""
    url = server if isinstance(server, str) else server.url
    declaration = {
        "base_url": url,
        "model": "seer",
        "timeout_s": 30,
        "deadline_s": 60,
        "backoff_s": 0.01,
        "concurrency": 2,
    }
    path = folder / "seer.yaml"
    path.write_text(json.dumps(declaration | keys))  # JSON is YAML
    return path


def rated(score: float = 4.25, **more: Any) -> str:
    """An answer under t2i-v1."""
    return json.dumps({"score": score, "reasoning": "so it is", **more})


def edit_rated(call: Call, score: float = 3.5, modes: Sequence[str] = ()) -> str:
    """An answer under edit-v1: the criteria are those of the schema that was sent."""
    schema = call.body["response_format"]["json_schema"]["schema"]["properties"]
    subs = dict.fromkeys(schema["sub_scores"]["properties"], score)
    answer = {"overall_score": score, "sub_scores": subs, "reasoning": "so it is", "failure_modes": list(modes)}
    return json.dumps(answer)


def honest(call: Call) -> Any:
    """Answers every protocol's question well formed."""
    keys = call.body["response_format"]["json_schema"]["schema"]["properties"]
    if "winner" in keys:
        script: Script = says(json.dumps({"winner": "A", "reasoning": "first"}))
    elif "sub_scores" in keys:
        script = says(edit_rated(call))
    else:
        script = says(rated())
    return script(call)
