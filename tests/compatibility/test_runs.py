"""A run folder that an older version left: it is continued, and its students are exported, as that version would."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from fewstep.lora.file import read_lora
from fewstep.run.recipe import flat_keys
from fewstep.train.kept_students import KeptStudents
from tests.compatibility.held import (
    FIXTURES,
    ITERATIONS,
    LORA,
    MERGED,
    RUN,
    STOPPED_AT,
    alike,
    fewstep,
    kept_as,
    records,
    same_text,
    student_facts,
    texts,
    without_added,
)

CHECKPOINT = Path("run/small/checkpoints", f"iteration-{STOPPED_AT:06d}")


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """Of the clock's readings only what was timed."""
    return record | {"seconds": sorted(record["seconds"])} if "seconds" in record else record


def test_a_stopped_run_is_continued_to_the_same_end(copy: Path) -> None:
    """To the last bit up to its checkpoint. Its last iteration is today's: texts of two lengths share that batch, and
    the older version placed the target of the shorter one after the longer (backbones/joint_sequence.py)."""
    store = {file: file.stat().st_mtime_ns for file in Path("run/store").rglob("*") if file.is_file()}
    result = fewstep(*RUN)
    assert result.exit_code == 0, result.output
    assert f"going on from {CHECKPOINT}" in " ".join(result.output.split())
    now = {file: file.stat().st_mtime_ns for file in Path("run/store").rglob("*") if file.is_file()}
    assert now == store, "cases were drawn or encoded again"

    lines, unbroken = (
        list(map(timeless, records(file))) for file in (Path("run/small/metrics.jsonl"), Path("unbroken.jsonl"))
    )
    assert {line["phase"] for line in unbroken} == {"warm-up", "distil"}
    assert [list(line) for line in lines] == [list(line) for line in unbroken]
    assert alike(lines, unbroken)

    held, last = FIXTURES / CHECKPOINT, CHECKPOINT.with_name(f"iteration-{ITERATIONS:06d}")
    added = {"hashes.json"}  # the fixture's checkpoint has none, and was resumed without
    assert {file.name for file in last.iterdir()} == {file.name for file in held.iterdir()} | added
    state, old = (json.loads((place / "state.json").read_text()) for place in (last, held))
    assert [key for key in state if key != "average"] == list(old)
    assert state["average"] == {"updates": ITERATIONS, "warms_up": False, "start_share": 0.985**ITERATIONS}
    assert KeptStudents(Path("run/small")).iterations() == [STOPPED_AT, ITERATIONS]
    assert state["iteration"] == ITERATIONS
    for file in held.glob("*.safetensors"):
        mine, theirs = load_file(last / file.name), load_file(file)
        assert {name: (x.dtype, x.shape) for name, x in mine.items()} == {
            n: (x.dtype, x.shape) for n, x in theirs.items()
        }
    assert Path("run/small/samples", f"iteration-{ITERATIONS:06d}.png").is_file()
    assert_student(Path("run/small/student"), "student", trained=True)


def shapes(file: Path) -> dict[str, Any]:
    return {name: (value.dtype, value.shape) for name, value in load_file(file).items()}


def test_the_recipe_of_a_run_is_the_one_that_its_command_gives(copy: Path) -> None:
    shown = fewstep("recipe", "show", "run/small/recipe.yaml").output
    held, now = (flat_keys(yaml.safe_load(text)) for text in (Path("run/small/recipe.yaml").read_text(), shown))
    assert held.items() <= now.items(), "every key that it was written with, and the defaults of keys since then"
    other = fewstep(*RUN, "--set", "student.learning_rate=1e-5")
    assert other.exit_code == 2
    assert "student.learning_rate" in other.output


def test_a_merged_student_is_exported_as_it_was(copy: Path) -> None:
    shutil.rmtree("merged")
    result = fewstep(*MERGED, "--to", "merged")
    assert result.exit_code == 0, result.output
    assert_student(Path("merged"), "merged")


def test_a_lora_is_exported_as_it_was(copy: Path) -> None:
    shutil.rmtree("lora")
    result = fewstep(*LORA, "--to", "lora")
    assert result.exit_code == 0, result.output
    assert_student(Path("lora"), "lora")


def assert_student(folder: Path, name: str, trained: bool = False) -> None:
    """As `name` of the fixtures: the same files, texts and tensors. Where it was trained on, of values only magnitudes:
    Adam's first steps follow the sign of a gradient, however small it is, so rounding may turn single ones."""
    facts, held = student_facts(folder), json.loads((FIXTURES / f"{name}.json").read_text())
    assert facts["files"] == held["files"]
    for file, tensors in held["tensors"].items():
        assert facts["tensors"][file].keys() == tensors.keys(), file
        for tensor, told in tensors.items():
            now = facts["tensors"][file][tensor]
            if trained and tensor != "metadata":
                assert now[:2] == told[:2], (file, tensor)
                assert alike(now[3], told[3], rel=0.05, least=1e-4), (file, tensor)
            else:
                assert alike(now, told, least=1e-4), (file, tensor)
    for text in texts(folder):
        assert same_text(as_held(folder / text), (FIXTURES / name / kept_as(text)).read_text()), text


def as_held(text: Path) -> str:
    """Without what cards say since these were made: which iteration was exported, and what helps where rounding lost
    much of so short a run's update."""
    lines = text.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("| Checkpoint |")]
    assert len(lines) - len(kept) == (text.name == "README.md"), text
    whole = "".join(kept).replace(". **That is much: use the LoRA on the base, or export in fp32**", "")
    return without_added(whole) if text.name == "recipe.yaml" else whole


def test_lora_files_of_both_forms_change_the_model_as_strongly_as_their_run_did(copy: Path) -> None:
    trained = load_file(CHECKPOINT / "student_average.safetensors")
    own = read_lora(Path("lora/pytorch_lora_weights.safetensors"))
    other = read_lora(Path("lora/comfyui/small-lora.safetensors"))
    strength = 2.0  # alpha / rank
    updates = {
        name.split(".lora_A.")[0]: strength * trained[name.replace(".lora_A.", ".lora_B.")] @ trained[name]
        for name in trained
        if ".lora_A." in name
    }
    assert len(updates) == len(own) > len(other)
    for module, factors in own.items():
        assert torch.equal(factors.delta(), updates[module.removeprefix("transformer.")]), module
    norms = [sum(float(f.delta().double().square().sum()) for f in form.values()) for form in (own, other)]
    assert norms[0] > 0.0
    assert alike(norms[0], norms[1], rel=1e-6)
