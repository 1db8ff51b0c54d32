"""Models of the harder world as systems: pictures of the sampler, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from fewstep.backbones.families import adapter_path
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.export.lora import Lora, write_comfyui_lora, write_lora
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.lora.file import read_lora
from fewstep.pocket.build import TEACHER
from fewstep.pocket.harder import systems
from fewstep.pocket.harder.cases import HarderCase, instruction_case, prompt_case
from fewstep.pocket.harder.exact_answers import exact_answers
from fewstep.pocket.harder.exam import HarderExamSpec
from fewstep.pocket.lora_world import STATED, refuse_lora_of_other_world, world_of_lora
from fewstep.pocket.systems import system_of
from fewstep.run.examination import ExaminationResult
from fewstep.runtime.errors import AdapterError, RunError
from fewstep.sample.pictures import generate_pictures, open_model
from tests.cli.command_line import fewstep, refused
from tests.reporters import Recorded

SPEC = HarderExamSpec(cases=1, diversity=0)


@pytest.fixture(scope="module")
def student(harder_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harder-student") / "student"
    shutil.copytree(harder_teacher, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"sample_sigmas": [1.0, 0.6]}))
    return folder


def test_a_models_pictures_are_the_samplers(harder_teacher: Path) -> None:
    """Prompts and edits of several sizes and with several references; each picture is the one of its case alone."""
    model = open_model(harder_teacher)
    guidance = {"t2i": NO_GUIDANCE, "edit": Guidance(1.5)}
    system = system_of(model, 2, guidance, sizes=systems.PIXELS)
    asked: list[HarderCase] = [prompt_case(1, index, "portrait") for index in range(4)]
    asked += [instruction_case(1, 0, kind) for kind in ("text", "perceptual", "three-pictures")]
    assert len({case.size for case in asked}) > 2
    drawn = system.sampler(asked, list(range(5, 12)))
    for seed, (case, picture) in enumerate(zip(asked, drawn, strict=True), start=5):
        (alone,) = generate_pictures(model, [case.prompt], case.references, seed, 2, guidance[case.task], case.size)
        assert picture.size == case.target.size
        expected, found = (np.asarray(each.convert("RGB")).astype(int) for each in (alone, picture))
        assert np.abs(expected - found).max() <= 1
    assert set(system.facts["sigmas"]) == {"96 x 96", "96 x 128", "128 x 96", "128 x 128"}


def test_the_ceiling_is_the_autoencoders(harder_teacher: Path) -> None:
    ceiling = systems.ceiling_of(open_model(harder_teacher).backbone)
    asked = [prompt_case(1, 2, "still-life"), instruction_case(1, 0, "text")]
    for case, picture in zip(asked, ceiling.sampler(asked, [1, 2]), strict=True):
        assert picture.size == case.target.size
        answers = (np.asarray(case.target),) if case.task == "edit" else exact_answers(case.scene, case.named)
        nearest = min(np.abs(np.asarray(picture)[..., :3].astype(int) - answer).mean() for answer in answers)
        assert 0 < nearest < 10


def test_teacher_student_and_ceiling_are_compared(
    harder_teacher: Path, harder_reader: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QwenImage21, "default_steps", 2)
    found = systems.compare_harder(student, SPEC, tmp_path, harder_teacher, harder_reader)
    assert list(found["systems"]) == ["teacher", "teacher-4", "student", "ceiling"]
    calls = {name: facts["network_calls"] for name, facts in found["systems"].items() if "network_calls" in facts}
    assert calls["teacher"] == {"t2i": 4, "edit": 4}
    assert calls["teacher-4"] == {"t2i": 4, "edit": 4}
    assert calls["student"] == {"t2i": 2, "edit": 2}
    drawn = next(line for line in found["figures"] if line["key"] == "edit.drawn")
    assert drawn["values"]["ceiling"]["value"] > 0.4 > drawn["values"]["teacher"]["value"]
    assert (tmp_path / "sheet-edit.png").is_file()


def test_an_examination_that_is_there_is_read_again_by_another_reader(
    harder_teacher: Path, harder_reader: Path, tmp_path: Path
) -> None:
    """The pictures stay; the figures say whose they are, and that they were replaced. Torn ones are told, or written
    anew."""
    out = tmp_path / "out"

    def examined(reader: Path) -> tuple[list[str], str]:
        said = Recorded()
        found = systems.examine_pipeline(harder_teacher, SPEC, out, reader, steps=1, guidance=1.0, reporter=said)
        return [words for level, words in said.said if level == "warning"], found["reader"]["name"]

    (none, first), drawn = examined(harder_reader), sorted(out.rglob("*.png"))
    made = {path: path.stat().st_mtime_ns for path in drawn if "pictures" in path.parts}
    other = tmp_path / "reader"
    shutil.copytree(harder_reader, other)
    weights = load_file(other / "reader.safetensors")
    (*_, last) = weights
    save_file(weights | {last: 1.5 * weights[last]}, other / "reader.safetensors")
    (told,), second = examined(other)
    assert "were those of another reader" in told
    assert none == []
    assert first != second
    (out / "figures.json").write_text('{"figures": [')
    with pytest.raises(RunError, match=r"figures\.json cannot be read"):
        ExaminationResult.of(out, {"model": "Model"})
    for shape in ('{"systems": null, "figures": []}', '{"figures": [], "reader": "x"}', '{"systems": {"model": {}}}'):
        (out / "figures.json").write_text(shape)
        with pytest.raises(RunError, match=r"figures\.json is not what an examination writes"):
            ExaminationResult.of(out, {"model": "Model"})
    assert examined(other) == ([], second)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    (out / "model" / "system.json").write_text('{"facts": ')
    with pytest.raises(RunError, match=r"system\.json cannot be read .* remove .*model, and it is drawn again"):
        examined(other)


@pytest.fixture(params=["examine", "compare"])
def command(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def words(command: str, model: Path, reader: Path, out: Path) -> list[str | Path]:
    named: list[str | Path] = [model] if command == "examine" else ["--teacher", model]
    return ["pocket", command, *named, "--world", "harder", "--reader", reader, "--out", out]


def test_the_pocket_world_is_refused_here(command: str, harder_reader: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(fewstep(*words(command, TEACHER, harder_reader, out)), "its words are not those of the harder world")
    assert not out.exists()


def test_a_torn_tokenizer_is_no_other_world(student: Path, harder_reader: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(student, torn)
    (torn / "processor" / "tokenizer.json").write_text('{"model": {"vocab": {"a')
    asked = ["pocket", "examine", torn, "--world", "harder", "--reader", harder_reader, "--out", tmp_path / "out"]
    refused(fewstep(*asked), "tokenizer.json cannot be read; copy or export the folder again")
    (torn / "processor" / "tokenizer.json").unlink()
    refused(fewstep(*asked), "its words are not those of the harder world")


def test_this_world_is_refused_there(student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for command in ("examine", "compare"):
        asked = ["pocket", command, student, "--world", "pocket", "--out", out]
        refused(fewstep(*asked), "its words are not those of the pocket world")
    assert not out.exists()


def test_a_missing_pipeline_or_reader(command: str, harder_teacher: Path, harder_reader: Path, tmp_path: Path) -> None:
    out, nothing = tmp_path / "out", tmp_path / "nothing"
    refused(fewstep(*words(command, nothing, harder_reader, out)), str(nothing.name), "no pipeline folder there")
    refused(fewstep(*words(command, harder_teacher, nothing, out)), str(nothing.name), "no reader of the harder world")
    assert not out.exists()


def test_a_reader_of_other_questions(harder_teacher: Path, tmp_path: Path) -> None:
    reader = tmp_path / "reader"
    shutil.copytree(TEACHER.parent / "weights", reader)
    refused(fewstep(*words("examine", harder_teacher, reader, tmp_path / "out")), "answers other questions")


def test_a_student_for_a_teacher_and_files_that_cannot_be_read(
    student: Path, harder_teacher: Path, harder_reader: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    told = ["--reader", harder_reader, "--out", out]
    refused(fewstep("pocket", "compare", student, "--teacher", student, *told), "is a student; give the teacher")
    refused(fewstep("pocket", "student", "--teacher", student, *told), "is a student; give the teacher")
    torn = tmp_path / "torn"
    shutil.copytree(student, torn)
    for text in (b"model: [unclosed", b"\xff\xfe"):
        (torn / "recipe.yaml").write_bytes(text)
        refused(fewstep("pocket", "compare", torn, "--world", "harder", *told), "recipe.yaml cannot be read")
    reader = tmp_path / "reader"
    shutil.copytree(harder_reader, reader)
    (reader / "reader.safetensors").write_bytes((reader / "reader.safetensors").read_bytes()[:1000])
    refused(fewstep(*words("examine", harder_teacher, reader, out)), "no reader of the harder world there")
    assert not out.exists()


def test_a_teacher_for_a_student(harder_teacher: Path, harder_reader: Path, tmp_path: Path) -> None:
    asked = ["pocket", "compare", harder_teacher, "--world", "harder", "--teacher", harder_teacher]
    refused(fewstep(*asked, "--reader", harder_reader, "--out", tmp_path / "out"), "is no student")


def embedded_again(folder: Path) -> Path:
    """An embedded LoRA under another name, with the keys and alphas of another program, and without its header."""
    folder.mkdir()
    shapes = {m: each.shape for m, each in read_lora(adapter_path("pocket:text")).items()}
    return write_comfyui_lora(Lora(read_lora(adapter_path("pocket:text"))), folder / "x.safetensors", shapes)


def stated(folder: Path, world: str) -> Path:
    """A LoRA of its own that says where it was trained, as `specialise` writes it."""
    learned = {m: replace(each, b=2 * each.b) for m, each in read_lora(adapter_path("pocket:text")).items()}
    return write_lora(Lora(learned), folder, stated={STATED: world})


def test_a_lora_that_may_be_of_this_world_is_taken(tmp_path: Path) -> None:
    harder, unknown = stated(tmp_path / "harder", "harder"), stated(tmp_path / "none", "")
    assert [world_of_lora(str(file)) for file in (harder, unknown)] == ["harder", None]
    for file in (harder, unknown):
        refuse_lora_of_other_world(str(file), "harder")
    with pytest.raises(AdapterError, match="was trained over the harder teacher; give a LoRA file of the pocket world"):
        refuse_lora_of_other_world(str(harder), "pocket")


def test_a_lora_of_the_pocket_teacher(harder_teacher: Path, harder_reader: Path, tmp_path: Path) -> None:
    """Its shapes fit."""
    examined = words("examine", harder_teacher, harder_reader, tmp_path / "out")
    refused(fewstep(*examined, "--adapter", "pocket:text"), "pocket:text was trained over the pocket teacher")
    made = ["pocket", "specialise", "text", "--world", "harder", "--base", harder_teacher, "--out", tmp_path / "out"]
    refused(fewstep(*made, "--start", "pocket:text"), "pocket:text was trained over the pocket teacher")
    for file in (embedded_again(tmp_path / "renamed"), stated(tmp_path / "stated", "pocket")):  # by what it is
        refused(fewstep(*examined, "--adapter", file), "was trained over the pocket teacher")
        refused(fewstep(*made, "--start", file), "was trained over the pocket teacher")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["examine", "--world", "hard"], "choose pocket or harder"),
        (["examine", "pocket", "--reader", "r"], "--reader belongs to --world harder"),
        (["compare", "s", "--teacher", "t"], "--teacher belongs to --world harder"),
        (["compare"], "name a student folder"),
        (["specialise", "text", "--base", "b"], "--base belongs to --world harder"),
        (["specialise", "editor", "--world", "harder"], "choose portrait, text, t2i, edit"),
        (["specialise", "text", "--world", "harder", "--base", "b"], "no pipeline folder there"),
        (["train", "--out", "made", "--batch", "5"], "2 workers cannot share it evenly"),
        (["specialise", "text", "--t-min", "0.6", "--t-max", "0.5"], "no time lies between them"),
    ],
)
def test_options_that_do_not_fit(options: list[str], told: str) -> None:
    refused(fewstep("pocket", *options), told)
