"""What the drawing process draws: the teacher as it is, and a run's kept student as the run holds it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fewstep.backbones.embedded import POCKET
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.flow.rng import NamedRNG
from fewstep.roles.adapters import Adapters
from fewstep.roles.plan import AdapterPlan
from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
from fewstep.run.studio.draw_models import kept_iterations
from fewstep.run.studio.draw_worker import DrawWorker
from fewstep.sample.measured import draw_measured, draw_on_grid
from fewstep.sample.origin import facts_of
from fewstep.sample.pictures import Model, open_model
from fewstep.train import file_hashes

PROMPT = "Open country at sunset over the sea with grey mountains."


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(POCKET)


@pytest.fixture(scope="module")
def run(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps a student: a drawn adapter of the pocket model."""
    folder = tmp_path_factory.mktemp("runs") / "kept"
    with RunDir.open_or_create(folder, load_recipe("pocket", ["student.adapter.rank=2", "student.adapter.alpha=2"])):
        pass
    adapters = Adapters(model.backbone.transformer)
    adapters.add("student", AdapterPlan(rank=2, alpha=2.0), ["to_q", "to_v"], NamedRNG(0))
    state = {name: weight.detach().clone() for name, weight in adapters.parameters("student").items()}
    for name, weight in state.items():
        if name.endswith("lora_B.weight"):
            weight.copy_(0.2 * NamedRNG(0).normal(weight.shape, name))
            adapters.parameters("student")[name].data.copy_(weight)
    kept(folder, state)
    with torch.no_grad(), adapters.active("student"):
        grid = RunDir.open(folder).recipe.student.grid
        drawn = draw_on_grid(model, PROMPT, [], [3], grid, NO_GUIDANCE, (64, 64))
        next(drawn).picture.save(folder / "expected.png")
    with adapters.active(None):
        next(draw_measured(model, PROMPT, [], [3], steps=2)).picture.save(folder / "teacher.png")
    return folder


def kept(run: Path, state: dict[str, torch.Tensor]) -> None:
    """The student of iteration 4, as a run keeps it."""
    (run / "students").mkdir()
    file = "iteration-000004.safetensors"
    save_file(state, run / "students" / file)
    hashed = file_hashes.hash_files(run / "students", [file])[file]
    size = (run / "students" / file).stat().st_size
    record = {"format": 1, "iteration": 4, "tasks": {"t2i": 8}, "files": {file: {"size": size, "hash": hashed}}}
    (run / "students" / "iteration-000004.json").write_text(json.dumps(record))


def column(source: str | Path, steps: int | None = None, **more: Any) -> dict[str, Any]:
    return {"source": str(source), "steps": steps, "iteration": None, "teacher": None, "few": False} | more


def drawn(
    columns: list[dict[str, Any]], to: Path, prompt: str = PROMPT, references: tuple[Path, ...] = ()
) -> list[Any]:
    """The events, without those of loading."""
    request = {"columns": columns, "prompt": prompt, "references": [str(path) for path in references], "seeds": [3]}
    events = DrawWorker().draw(request | {"size": None, "device": "cpu", "folder": str(to)})
    return [event for event in events if "loading" not in event]


def test_columns_of_one_base(run: Path, tmp_path: Path) -> None:
    assert kept_iterations(run) == [4]
    columns = [column(POCKET, 2), column(run, iteration=4), column("nowhere"), column(run, iteration=5)]
    columns.append(column(run, 2, teacher="base"))
    told = drawn(columns, tmp_path)
    assert [event["column"] for event in told] == [0, 1, 2, 3, 4]
    assert [event.get("nfe") for event in told] == [4, 4, None, None, 4]
    assert "no model at 'nowhere'" in told[2]["error"]
    assert "keeps no student of iteration 5; it has: 4" in told[3]["error"]
    pictures = [Image.open(tmp_path / f"{i}-3.png").tobytes() for i in (0, 1, 4)]
    expected = [Image.open(run / f"{name}.png").tobytes() for name in ("teacher", "expected", "teacher")]
    assert pictures == expected, "each adapter is on for its own column alone"
    assert pictures[0] != pictures[1]
    assert facts_of(tmp_path / "1-3.png")["Seed"] == "3"


def test_the_pocket_world_says_what_it_does_not_know_beside_any_other_model(tmp_path: Path) -> None:
    other = tmp_path / "other"
    tiny_qwen_image_21.qwen_image_21_pipeline(0).save_pretrained(other)
    pocket, tiny = column(POCKET, 2), column(other, 1)
    for columns in ([pocket, tiny], [tiny, pocket], [pocket, column("nowhere")]):
        assert "does not know 'a', 'cat'" in drawn(columns, tmp_path, "a cat")[0]["note"]
    assert not any("note" in event for event in drawn([tiny], tmp_path, "a cat"))


@pytest.mark.parametrize("asked", [{}, {"iteration": 4}, {"teacher": "base"}, {"teacher": "editor"}])
def test_unknown_words_are_told_before_any_model_is_opened(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    """While the prompt can still be changed."""
    monkeypatch.setattr(DrawWorker, "_model", lambda *_, **__: pytest.fail("a model is opened first"))
    request = {
        "columns": [column(run if asked else POCKET, **asked)],
        "prompt": "a cat",
        "references": [],
        "size": None,
    }
    events = DrawWorker().draw(request | {"seeds": [3], "size": None, "device": "cpu", "folder": str(tmp_path)})
    assert "does not know 'a', 'cat'" in next(events)["note"]
    assert next(events) == {"loading": 0}


def test_a_runs_teachers_have_its_guidance(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.png"
    Image.open(run / "teacher.png").save(source)
    columns = [column(run, 2, teacher="base"), column(run, 2, teacher="editor"), column(run, 2, teacher="base")]
    said, *told = drawn(columns, tmp_path, "Make it night.", (source,))
    assert "does not know 'night.'" in said["note"]
    assert [event["guidance"] for event in told] == [2.5, 2.0, 2.5]
    base, editor, again = (Image.open(tmp_path / f"{i}-3.png").tobytes() for i in range(3))
    assert base == again != editor


def test_a_teacher_at_few_steps_makes_as_many_calls_as_the_student(run: Path, tmp_path: Path) -> None:
    told = drawn([column(run, teacher="editor", few=True), column(run, iteration=4)], tmp_path)
    assert [(event["nfe"], event["steps"], event["guidance"]) for event in told] == [(4, 4, 1.0)] * 2


def test_a_student_of_all_weights_leaves_no_trace(run: Path, tmp_path: Path) -> None:
    """Its weights take the place of the model's own, which are then loaded anew for whoever comes next."""
    full = tmp_path / "full"
    changes = ["student.mode=full", "student.init_from=null", "student.learning_rate=1e-6", "student.weight_decay=0"]
    with RunDir.open_or_create(full, load_recipe("pocket", changes)):
        pass
    state = {name: weight.clone() for name, weight in open_model(POCKET).backbone.transformer.state_dict().items()}
    name = next(name for name in state if name.endswith("to_q.weight"))
    state[name] += 0.2 * NamedRNG(0).normal(state[name].shape, name)
    kept(full, {name: weight.contiguous() for name, weight in state.items()})
    columns = [
        column(run, iteration=4),
        column(full, iteration=4),
        column(run, iteration=4),
        column(run, 2, teacher="base"),
    ]
    told = drawn(columns, tmp_path)
    assert [event.get("error") for event in told] == [None] * 4
    first, whole, again, teacher = (Image.open(tmp_path / f"{i}-3.png").tobytes() for i in range(4))
    assert first == again == Image.open(run / "expected.png").tobytes()
    assert teacher == Image.open(run / "teacher.png").tobytes()
    assert whole not in (first, teacher)
