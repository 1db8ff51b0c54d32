"""What makes a plan another question: whatever its answer follows from, and nothing else."""

import inspect
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.bench import protocol
from fewstep.cli import main
from fewstep.data import pictures
from fewstep.run.budget import question
from fewstep.run.budget.question import PCIE_GBS, PlanOptions, answer_key, plan_question
from fewstep.run.recipe import parse_recipe
from fewstep.runtime import hardware
from fewstep.runtime.errors import RecipeError, RunError

JUDGE = 'model = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'
METRIC = {"phase": "distil", "seconds": {"iteration": 1.0}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_qwen_image_21.qwen_image_21_pipeline(0).save_pretrained(folder)
    return folder


class Asked:
    """A folder with all that a plan may read, and the keys of questions about it."""

    def __init__(self, folder: Path, tiny: Path):
        self.folder, self.model = folder, folder / "model"
        shutil.copytree(tiny, self.model, ignore=shutil.ignore_patterns("*.safetensors"))
        (self.model / "README.md").write_text("---\nlicense: mit\n---\n")
        Image.new("RGB", (64, 64), "teal").save(folder / "source.png")
        edit = {"id": "e", "prompt": "make it night", "reference_images": ["source.png"]}
        (folder / "edit.jsonl").write_text(json.dumps(edit) + "\n")
        (folder / "t2i.txt").write_text("a red house\n")
        (folder / "judge.toml").write_text(JUDGE)
        lines = (json.dumps(METRIC | {"task": task}) for task in ("t2i", "edit"))
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")

    def key(self, changes: dict[str, Any] | None = None, **options: Any) -> str | None:
        data = {
            task: [{"source": str(self.folder / file)}] for task, file in (("t2i", "t2i.txt"), ("edit", "edit.jsonl"))
        }
        run = {"batch": 2, "precision": "fp32", "device": "cpu", "iterations": 4, "examine_every_iterations": 2}
        plain = {"name": "tiny", "model": str(self.model), "size": [64, 64], "run": run, "data": data}
        plain |= {"examine": {"judge": {"file": str(self.folder / "judge.toml")}}}
        recipe = parse_recipe(plain, "tiny").changed(changes or {})
        return answer_key(plan_question(recipe, self.folder / "run", PlanOptions(**options)))


@pytest.fixture
def asked(tmp_path: Path, tiny: Path) -> Asked:
    return Asked(tmp_path, tiny)


def test_the_same_question_has_the_same_key(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked.key()
    assert first is not None
    monkeypatch.chdir(tmp_path)
    os.utime(tmp_path / "t2i.txt", (1, 1))
    (tmp_path / "model" / "notes.txt").write_text("nothing reads this")
    assert asked.key() == first


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("t2i.txt", "red", "old"),
        ("edit.jsonl", "night", "light"),
        ("judge.toml", '"m"', '"n"'),
        ("model/README.md", "mit", "isc"),
        ("model/model_index.json", "{", "{ "),
        ("model/processor/tokenizer.json", "{", "{ "),
        ("model/transformer/config.json", '"num_layers": 2', '"num_layers": 3'),
        ("model/scheduler/scheduler_config.json", "{", "{ "),
    ],
)
def test_a_changed_file_is_another_question(asked: Asked, file: str, old: str, new: str) -> None:
    first, path = asked.key(), asked.folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert asked.key() != first


def test_a_changed_picture_is_another_question(asked: Asked) -> None:
    first = asked.key()
    Image.new("RGB", (96, 64), "teal").save(asked.folder / "source.png")
    assert asked.key() != first


def test_a_picture_of_another_size_is_another_question_though_bytes_and_time_agree(asked: Asked) -> None:
    """It is neither of the longest sequences nor of the usual ones, and counts for the store alone."""
    odd, lines = asked.folder / "odd.png", asked.folder / "edit.jsonl"
    Image.new("RGB", (128, 128), "teal").save(asked.folder / "source.png")
    case = json.loads(lines.read_text())
    cases = [
        case | {"id": f"e{i}", "reference_images": [name]} for i, name in enumerate(["source.png"] * 8 + [odd.name])
    ]
    lines.write_text("".join(json.dumps(one) + "\n" for one in cases))
    keys = []
    for width in (64, 96, 64):
        Image.new("RGB", (width, 64), "teal").save(odd)
        odd.write_bytes(odd.read_bytes().ljust(2000, b"\0"))
        os.utime(odd, (1, 1))
        pictures._upright.cache_clear()  # as in another process
        keys.append(asked.key())
    assert keys[0] == keys[2] != keys[1]


def test_a_protocol_that_takes_over_another_file_is_known_by_both(asked: Asked) -> None:
    words = (Path(protocol.__file__).parent / "protocols" / "t2i-v1.yaml").read_text()
    other, own = asked.folder / "other.yaml", asked.folder / "own.yaml"
    other.write_text(words)
    own.write_text(yaml.safe_dump({"name": "own-v1", "about": "mine", "like": [str(other)]}))
    changes = {"tasks": {"t2i": 1, "edit": 0}, "examine.judge.protocol": str(own)}
    first = asked.key(changes)
    assert asked.key(changes) == first
    other.write_text(words.replace("{answer}", "Be brief. {answer}"))
    assert asked.key(changes) != first


def test_a_judge_that_cannot_be_used_is_refused_before_anything_is_counted(asked: Asked) -> None:
    (asked.folder / "judge.toml").write_text("model = 1")
    with pytest.raises(RecipeError, match=r"examine\.judge\.file"):
        asked.key()
    assert asked.key({"run.examine_every_iterations": 0}) is not None, "then nobody asks it"


def test_files_that_come_or_go_are_another_question(asked: Asked) -> None:
    keys = [asked.key()]
    (asked.folder / "t2i.txt").rename(asked.folder / "away.txt")
    keys.append(asked.key())
    (asked.folder / "away.txt").rename(asked.folder / "t2i.txt")
    (asked.model / "README.md").unlink()
    keys.append(asked.key())
    assert len(set(keys)) == 3


def test_every_option_is_another_question(asked: Asked) -> None:
    options: list[dict[str, Any]] = [
        {}, {"gpu": 24}, {"gpu": 80}, {"gpus": 2}, {"gpus": 2, "per_machine": 1}, {"seconds_per_iteration": 9.0},
        {"tflops": 100.0}, {"tflops": 100.0, "pcie": 12.0}, {"measured": asked.folder},
    ]  # fmt: skip
    assert len({asked.key(**one) for one in options}) == len(options)
    measured, metrics = asked.key(measured=asked.folder), asked.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("1.0", "2.0"))
    assert asked.key(measured=asked.folder) != measured


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 0.0, -1.0, 1e-320, 1e308])
def test_rates_of_which_no_hours_follow_are_refused(asked: Asked, rate: float) -> None:
    for option in ("seconds_per_iteration", "tflops"):
        with pytest.raises(RecipeError, match="no hours follow"):
            asked.key(**{option: rate})
    metrics = asked.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("1.0", json.dumps(rate)))
    with pytest.raises(RunError, match=re.escape(f"takes {rate:g} s")):
        asked.key(measured=asked.folder)


def test_every_key_of_the_recipe_is_another_question(asked: Asked) -> None:
    changes = [{}, {"name": "other"}, {"run.batch": 4}, {"student.adapter.rank": 4}, {"run.keep_checkpoints": 9}]
    assert len({asked.key(one) for one in changes}) == len(changes)


def test_what_steers_libraries_is_another_question(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked.key()
    monkeypatch.setenv("DIFFUSERS_ATTN_BACKEND", "_native_math")
    assert asked.key() != first


def test_this_machine_counts_where_no_gpu_is_named(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = {"run.device": "auto", "run.precision": "auto"}
    named, found = asked.key(auto, gpu=24), asked.key(auto)
    assert found is not None
    (tmp_path / "cpuinfo").write_text("model name\t: another\ncpu MHz\t: 1\n\nmodel name\t: second\n")
    monkeypatch.setattr(hardware, "CPU", tmp_path / "cpuinfo")
    assert asked.key(auto) not in (None, found)
    assert asked.key(auto, gpu=24) == named
    monkeypatch.setattr(hardware, "CPU", tmp_path / "not-there")
    assert asked.key(auto) is None, "which precision is faster is not known of it"
    assert asked.key(auto | {"run.precision": "bf16"}) is not None
    monkeypatch.setattr(question, "AMD", tmp_path)
    assert asked.key(auto | {"run.precision": "bf16"}) is None, "whether it can be used is not known without torch"
    assert asked.key(auto, gpu=24) == named


def test_a_family_of_another_package_is_always_counted(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked.key() is not None
    (offer := tmp_path / "site" / "theirs-1.0.dist-info").mkdir(parents=True)
    (offer / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (offer / "entry_points.txt").write_text("[fewstep.families]\nQwenImage21Pipeline = theirs:Family\n")
    monkeypatch.syspath_prepend(str(offer.parent))
    assert asked.key() is None


def test_the_command_line_has_the_same_default() -> None:
    assert inspect.signature(main.plan).parameters["pcie"].default == PCIE_GBS == PlanOptions().pcie
