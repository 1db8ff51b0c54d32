"""Which pictures a call of `fewstep sample` draws, and where it writes them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fewstep.runtime.errors import CaseError, LayoutError, ModelError, RecipeError, RunError
from fewstep.sample.call import (
    SampleCall,
    asked_pictures,
    refuse_options_of_students,
    refuse_other_sizes,
    refuse_steps_of_students,
    sampled_models,
)
from fewstep.sample.file_names import MOST_BYTES, SHEET_ROWS, call_files, slug


def call(models: tuple[str, ...] = ("pocket",), prompts: tuple[str, ...] = ("a boat",), count: int = 1) -> SampleCall:
    return SampleCall(sampled_models(models), asked_pictures(prompts, None, (), count=count))


def names(to: str, of: SampleCall, compared: bool = False) -> list[str]:
    return [str(path) for path in call_files(Path(to), of, compared).pictures.values()]


def test_names_of_models_tell_them_apart() -> None:
    found = sampled_models(["pocket", "pocket@4", "runs/one/student", "runs/two/student", "owner/Model-2.1"])
    assert [model.name for model in found] == [
        "pocket",
        "pocket-4-steps",
        "one-student",
        "two-student",
        "owner-Model-2.1",
    ]
    assert [(model.source, model.steps) for model in found[:2]] == [("pocket", None), ("pocket", 4)]
    assert [model.name for model in sampled_models(["runs/one/student/"])] == ["student"]


def test_a_folder_with_an_at_sign_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "mine@4").mkdir()
    (found,) = sampled_models([str(tmp_path / "mine@4")])
    assert (found.source, found.steps) == (str(tmp_path / "mine@4"), None)


@pytest.mark.parametrize("sources", [("pocket", "pocket"), ("pocket@4", "pocket@4"), ("pocket@0",), ("pocket@1001",)])
def test_models_that_are_refused(sources: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match=r"named twice|1 to 1,000 steps"):
        sampled_models(sources)


def test_pocket_is_the_embedded_teacher_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pocket").mkdir()
    refuse_options_of_students(SampleCall(sampled_models(["pocket"]), (), steps=8, guidance=2.0))
    Path("pocket/model_index.json").write_text(json.dumps({"sample_sigmas": [1.0, 0.5]}))
    refuse_options_of_students(SampleCall(sampled_models(["pocket"]), (), steps=8, guidance=2.0))
    refuse_steps_of_students(SampleCall(sampled_models(["pocket@4"]), ()))
    with pytest.raises(RecipeError, match="this student samples in 2 steps"):
        refuse_options_of_students(SampleCall(sampled_models(["./pocket"]), (), steps=8))


def test_no_two_pictures_of_a_call_have_one_seed() -> None:
    found = asked_pictures(["a", "b"], None, (), seed=7, count=3)
    assert [(asked.number, asked.prompt, asked.seed) for asked in found] == [
        (0, "a", 7),
        (0, "a", 8),
        (0, "a", 9),
        (1, "b", 10),
        (1, "b", 11),
        (1, "b", 12),
    ]


def test_files_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a boat\n\n一座灯塔\n")
    assert [a.prompt for a in asked_pictures(["first"], tmp_path / "lines.txt", ())] == ["first", "a boat", "一座灯塔"]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    cases = [
        {"prompt": "a boat", "seed": 40, "height": 32, "width": 64},
        {"prompt": "make it night", "reference_images": ["a.png"]},
    ]
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    found = asked_pictures([], tmp_path / "cases.jsonl", (), count=2, size="16x16")
    assert [asked.seed for asked in found] == [40, 41, 2, 3]
    assert [asked.size for asked in found] == [(32, 64), (32, 64), (16, 16), (16, 16)]
    assert found[2].references == (tmp_path / "a.png",)
    with pytest.raises(CaseError, match=r"cases.jsonl:2: this case names its own pictures; leave --image out"):
        asked_pictures([], tmp_path / "cases.jsonl", (tmp_path / "a.png",))


def test_files_of_prompts_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "a.tar").write_bytes(b"")
    for file, word in {
        "torn.jsonl": "torn.jsonl:2",
        "empty.txt": "no prompt in it",
        "a.tar": "one a line",
        ".": "one a line",
        "gone.txt": "cannot be read",
    }.items():
        with pytest.raises(CaseError, match=word):
            asked_pictures([], tmp_path / file, ())
    with pytest.raises(CaseError, match="nothing to draw: give --prompt, or --prompts"):
        asked_pictures([], None, ())
    with pytest.raises(CaseError, match="a --prompt is empty"):
        asked_pictures(["a boat", " "], None, ())
    with pytest.raises(LayoutError, match="0x64 has no pixels"):
        asked_pictures(["a boat"], None, (), size="0x64")
    with pytest.raises(LayoutError, match="seed"):
        asked_pictures(["a"], None, (), seed=2**63 - 1, count=2)


def test_models_of_different_sizes_need_a_size() -> None:
    both = call(("pocket", "other/model"))
    with pytest.raises(LayoutError, match=r"pocket 64x64, model 1024x1024\), so not from one noise; give --size"):
        refuse_other_sizes(both, [(64, 64), (1024, 1024)])
    refuse_other_sizes(both, [(64, 64), (64, 64)])
    sized = SampleCall(both.models, asked_pictures(["a"], None, (), size="64x64"))
    refuse_other_sizes(sized, [(64, 64), (1024, 1024)])


def test_files_in_a_folder_and_by_pattern() -> None:
    assert names("out.png", call()) == ["out.png"]
    assert names("to", call(count=2)) == ["to/000-seed0.png", "to/000-seed1.png"]
    assert names("to", call(("pocket", "pocket@4"))) == ["to/000-seed0-pocket.png", "to/000-seed0-pocket-4-steps.png"]
    assert names("to/{prompt}_{seed}", call(count=2)) == ["to/a-boat_0.png", "to/a-boat_1.png"]
    assert names("{model}/{prompt}.PNG", call(("pocket", "pocket@4"))) == [
        "pocket/a-boat.PNG",
        "pocket-4-steps/a-boat.PNG",
    ]


@pytest.mark.parametrize(
    ("to", "count", "words"),
    [
        ("a.png", 2, "2 pictures do not fit into a.png; give a folder"),
        ("a.jpg", 1, "written as PNG, not as .jpg"),
        ("{prompt}.jpg", 1, "written as PNG, not as .jpg"),
        ("{propmt}.png", 1, r"unknown field {propmt}; it may have {prompt}, {seed}, {model}"),
        ("{prompt", 1, "a brace without its other half"),
        ("{seed:03d}.png", 1, r"unknown field {seed:03d}"),
        ("{prompt.__class__}.png", 1, "unknown field"),
        ("p/seed}.png", 1, "a brace without its other half"),
        ("{seed}/../a.png", 2, "several pictures would be a.png"),
        ("{prompt}.png", 2, "several pictures would be a-boat.png"),
    ],
)
def test_outs_that_are_refused(to: str, count: int, words: str) -> None:
    with pytest.raises(RunError) as refused:
        call_files(Path(to), call(count=count), compared=False)
    assert words in str(refused.value)


def test_sheets() -> None:
    many = call(count=SHEET_ROWS + 1)
    alone = call_files(Path("x.png"), many, compared=True)
    assert (dict(alone.pictures), alone.sheets) == ({}, (Path("x.png"), Path("x-2.png")))
    assert call_files(Path("to"), call(), compared=True).sheets == (Path("to/sheet.png"),)
    assert call_files(Path("to/{model}/{seed}.png"), call(), compared=True).sheets == (Path("to/sheet.png"),)
    assert call_files(Path("{seed}.png"), call(), compared=True).sheets == (Path("sheet.png"),)
    called_sheet = SampleCall(call().models, asked_pictures(["sheet"], None, ()))
    with pytest.raises(RunError, match=r"a picture and a contact sheet would both be sheet.png"):
        call_files(Path("{prompt}"), called_sheet, compared=True)


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    files = call_files(tmp_path, call(count=3), compared=True)
    files.refuse_there()
    (tmp_path / "000-seed1.png").touch()
    (tmp_path / "sheet.png").symlink_to("nowhere")
    with pytest.raises(RunError, match=r"000-seed1.png is there already \(and 1 more\); .* --overwrite"):
        files.refuse_there()


@pytest.mark.parametrize(
    "prompt",
    [
        "../../etc/passwd",
        "/",
        "..",
        ".hidden",
        'a/b\\c:d*e?"<>|',
        "a\nb\0c",
        "",
        "“”",
        "x" * 10_000,
        "灯" * 5_000,
        "ü" * 80,
    ],
)
def test_a_prompt_is_a_safe_part_of_a_name(prompt: str) -> None:
    made = slug(prompt)
    assert 0 < len(made.encode()) <= MOST_BYTES
    assert all(c.isalnum() or c == "-" for c in made)
    assert made == slug(made)


def test_long_prompts_that_begin_alike_have_two_names() -> None:
    assert slug("a boat " * 40 + "at dawn") != slug("a boat " * 40 + "at night")
    assert slug("一座灯塔, at dawn") == "一座灯塔-at-dawn"
