"""Edits about pictures at hand: what is known of a picture, what may be asked of it, and degraded copies."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.data.cases import Case
from fewstep.data.prompts import grammar_edits, grammar_prompts
from fewstep.data.prompts.degradations import DEGRADATIONS, degrade
from fewstep.data.prompts.edit_source import EditSource
from fewstep.data.prompts.edit_sources import read_edit_sources
from fewstep.data.prompts.prompt_tags import tags_of
from fewstep.data.sources import entries
from fewstep.runtime.errors import CaseError
from tests.cli.command_line import fewstep

BOAT = "A photograph of a still lake at dawn, with a red rowing boat in front, pine-green hills beyond."
BAKER = "A young Danish baker beside a window. She wears a checked linen shirt and round glasses."
SIGN = 'A wooden shop sign that reads "FERN & SONS", below it "est. 1931".'


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (48, 40)) -> Path:
    """A smooth picture with an edge, different for every seed."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    pixels = np.stack([x, y, (x + y + seed * 0.13) % 1 > 0.5], axis=2) * 180 + 30
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three captioned pictures."""
    for n, (name, caption) in enumerate((("lake", BOAT), ("baker", BAKER), ("sign", SIGN))):
        picture(tmp_path / "in" / f"{name}.png", n)
        (tmp_path / "in" / f"{name}.txt").write_text(caption)
    return tmp_path / "in"


def test_tags_of_prompts() -> None:
    lake, baker, sign = tags_of(BOAT, None), tags_of(BAKER, None), tags_of(SIGN, None)
    assert {"landscape", "outdoors", "water", "sky"} <= lake.tags
    assert lake.named == (("vehicle", "rowing boat"),), "pine-green hills hold no pine, a rowing boat is one thing"
    assert {"portrait", "she", "glasses"} <= baker.tags
    assert baker.whom == "woman"
    assert ("garment", "linen shirt") in baker.named
    assert sign.texts == ("FERN & SONS", "est. 1931")
    assert ("carrier", "shop sign") in sign.named
    assert sign.whom == lake.whom == ""
    assert tags_of("An elephant and her calf on a plain.", "landscape").whom == ""
    assert tags_of("Four laughing friends on a bench, a portrait.", None).whom == "people"
    assert tags_of(None, None).tags == {"unknown"}
    assert tags_of(None, "portrait").whom == "person"


def instructions(category: str, prompt: str | None, count: int, shows: str | None = None) -> list[str]:
    path = Path(__file__)  # only its hash is asked for
    return [grammar_edits.draw_edit(category, EditSource(path, prompt, shows), 0, n) for n in range(count)]


def test_an_object_edit_names_what_is_there() -> None:
    found = instructions("object", BOAT, 200)
    assert sum("rowing boat" in text for text in found) > 80
    assert not [text for text in found if re.search(r"\b(woman|man|sitter)\b", text)]


def test_a_text_edit_quotes_what_is_written_and_keeps_its_capitals() -> None:
    found = instructions("text", SIGN, 200)
    assert all("FERN & SONS" in text or "est. 1931" in text or "New text on the shop sign" in text for text in found)
    changed = [m[1] for text in found if (m := re.search(r'"FERN & SONS" (?:to|with|as) "([^"]+)"', text))]
    assert len(changed) > 10
    assert all(new == new.upper() for new in changed)


def test_an_identity_edit_is_about_the_person_in_the_picture() -> None:
    found = instructions("identity", BAKER, 200)
    assert not [text for text in found if re.search(r"\b(his|him|their|beard|moustache)\b", text)]
    assert [text for text in found if "linen shirt" in text]
    assert [text for text in found if "remove her glasses" in text.lower()]
    assert not [text for text in found if "give the woman round wire glasses" in text.lower()], "she wears some"


@pytest.mark.parametrize("category", grammar_edits.CATEGORIES)
def test_instructions_are_whole_english_for_every_kind_of_picture(category: str) -> None:
    prompts = [
        (grammar_prompts.draw_prompt(kind, 4, n), kind) for kind in grammar_prompts.CATEGORIES for n in range(40)
    ]
    for prompt, kind in [*prompts, (None, None), (None, "portrait"), (None, "text"), (None, "landscape")]:
        if category == "identity" and kind != "portrait":
            continue
        for text in instructions(category, prompt, 8, kind):
            unquoted = re.sub(r'"[^"]*"', '"x"', text)
            assert not re.search(
                r"[{}\[\]|@]|a/an|  | [,.;]|\.\.|\b[Aa] [aei]\w+(?<!one)\b", unquoted.replace("one-", "")
            ), text
            assert text[0].isupper() or text[0] == '"'
            assert text.rstrip()[-1] in '.?!"', text


def test_identity_needs_somebody(folder: Path) -> None:
    with pytest.raises(CaseError, match="--shows portrait"):
        grammar_edits.fitting_sources(
            "identity", [source for source in read_edit_sources(folder) if not source.prompt_tags.whom]
        )
    assert len(grammar_edits.fitting_sources("identity", read_edit_sources(folder))) == 1
    assert len(grammar_edits.fitting_sources("text", read_edit_sources(folder))) == 1, (
        "where there is writing, writing is edited"
    )
    assert len(grammar_edits.fitting_sources("text", read_edit_sources(folder)[:1])) == 1, (
        "where there is none, some can be added"
    )


def test_edits_are_spread_evenly_and_new_for_each_picture(folder: Path) -> None:
    cases = grammar_edits.edits_from_grammar("scene", read_edit_sources(folder), 60, 0, None)
    assert set(Counter(case.references[0].name for case in cases).values()) == {20}
    assert len({(case.references, case.prompt) for case in cases}) == 60
    assert grammar_edits.edits_from_grammar("scene", read_edit_sources(folder), 25, 0, None) == cases[:25]
    assert grammar_edits.edits_from_grammar("scene", read_edit_sources(folder), 25, 1, None) != cases[:25]


def test_pictures_that_are_exhausted_are_refused(folder: Path) -> None:
    with pytest.raises(CaseError, match="more pictures"):
        grammar_edits.edits_from_grammar("perceptual", read_edit_sources(folder)[:1], 5000, 0, None)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_degraded_copy_is_worse_reproducible_and_of_the_same_size(kind: str, tmp_path: Path) -> None:
    with Image.open(picture(tmp_path / "x.png", size=(96, 64))) as opened:
        whole = opened.convert("RGB")
    light, heavy, again = (degrade(whole, kind, strength, 5) for strength in (0.0, 1.0, 1.0))
    assert light.size == heavy.size == whole.size
    assert heavy.tobytes() == again.tobytes()
    lost = [np.abs(np.asarray(degraded, float) - np.asarray(whole, float)).mean() for degraded in (light, heavy)]
    assert 0.2 < lost[0] < lost[1]


def test_perceptual_edits_have_a_degraded_reference_and_a_whole_target(folder: Path, tmp_path: Path) -> None:
    result = fewstep(
        "prompts",
        "build",
        "--task",
        "edit",
        "-c",
        "perceptual",
        "--count",
        12,
        "--from",
        folder,
        "--to",
        tmp_path / "p.jsonl",
    )
    assert result.exit_code == 0, result.output
    cases = [case for case in entries(tmp_path / "p.jsonl", thorough=True) if isinstance(case, Case)]
    assert len(cases) == 12
    words = {
        "dark": "dark|shadow|exp|light",
        "noise": "nois|grain|speckle",
        "haze": "haz|fog|veil",
        "blur": "blur|focus|crisp",
    }
    for case in cases:
        assert case.target is not None
        assert case.target.parent == folder
        assert case.references[0].parent == tmp_path / "p-worn"
        kind = case.references[0].name.split("-")[0]
        assert kind in DEGRADATIONS
        assert re.search(words.get(kind, "."), case.prompt.lower()), (kind, case.prompt)
    before = {path: path.read_bytes() for path in (tmp_path / "p-worn").iterdir()}
    (tmp_path / "p.jsonl").unlink()
    fewstep(
        "prompts",
        "build",
        "--task",
        "edit",
        "-c",
        "perceptual",
        "--count",
        12,
        "--from",
        folder,
        "--to",
        tmp_path / "p.jsonl",
    )
    assert {path: path.read_bytes() for path in (tmp_path / "p-worn").iterdir()} == before


def test_perceptual_edits_can_be_asked_of_pictures_as_they_are(folder: Path, tmp_path: Path) -> None:
    words = [
        "--task",
        "edit",
        "-c",
        "perceptual",
        "--count",
        6,
        "--from",
        folder,
        "--as-they-are",
        "--to",
        tmp_path / "p.jsonl",
    ]
    assert fewstep("prompts", "build", *words).exit_code == 0
    records = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert all(record["reference_images"][0].startswith("in/") and "target_image" not in record for record in records)


def test_the_chain_prompts_pictures_instructions(tmp_path: Path) -> None:
    """A gallery, as `fewstep generate` writes it for a set of prompts, gives edits of all six categories."""
    gallery = tmp_path / "gallery"
    for n, kind in enumerate(grammar_prompts.CATEGORIES):
        path = picture(gallery / "pictures" / f"{n}.png", n)
        row = {"case": f"c{n}", "seed": 0, "file": f"pictures/{path.name}", "status": "drawn", "task": "t2i"}
        with (gallery / "manifest.jsonl").open("a") as file:
            file.write(json.dumps(row | {"prompt": grammar_prompts.draw_prompt(kind, 0, n), "category": kind}) + "\n")
    with (gallery / "manifest.jsonl").open("a") as file:
        file.write(
            json.dumps({"case": "c9", "seed": 0, "status": "failed", "why": "out of memory"}) + '\n{"case": "torn'
        )
    to = tmp_path / "edits.jsonl"
    result = fewstep("prompts", "build", "--task", "edit", "-c", "all", "--count", 9, "--from", gallery, "--to", to)
    assert result.exit_code == 0, result.output
    cases = [case for case in entries(to, thorough=True) if isinstance(case, Case)]
    assert Counter(case.category for case in cases) == dict.fromkeys(grammar_edits.CATEGORIES, 9)
    assert {case.references[0].name for case in cases if case.category == "identity"} == {"1.png"}
    assert {case.references[0].name for case in cases if case.category == "text"} == {"2.png"}
    assert all(line.find(str(tmp_path)) < 0 for line in to.read_text().splitlines()), "paths are relative"


def test_cases_with_target_pictures_are_pictures_to_edit(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    records = [{"prompt": BOAT, "target_image": "a.png", "category": "landscape"}, {"prompt": "no picture here"}]
    (tmp_path / "t2i.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (found,) = read_edit_sources(tmp_path / "t2i.jsonl")
    assert (found.path, found.prompt, found.category) == (tmp_path / "a.png", BOAT, "landscape")


def test_folders_name_what_their_pictures_show(tmp_path: Path) -> None:
    picture(tmp_path / "portrait" / "a.png")
    picture(tmp_path / "b.png")
    by_name = {source.path.name: source.category for source in read_edit_sources(tmp_path, "text")}
    assert by_name == {"a.png": "portrait", "b.png": "text"}


def test_bad_pictures_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    def refused(source: Path) -> str:
        to = tmp_path / "out" / "e.jsonl"
        result = fewstep(
            "prompts", "build", "--task", "edit", "-c", "style", "--count", 3, "--from", source, "--to", to
        )
        assert result.exit_code == 2
        assert not to.parent.exists()
        return " ".join(result.output.split())

    assert "no such file or folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no picture in it" in refused(tmp_path / "empty")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nnot")
    assert "no readable picture" in refused(tmp_path / "torn")
    (tmp_path / "t.jsonl").write_text('{"prompt": "no picture"}\n')
    assert "target_image" in refused(tmp_path / "t.jsonl")
    (tmp_path / "thin").mkdir()
    Image.new("RGB", (4000, 1)).save(tmp_path / "thin" / "x.png")
    assert "Crop or pad" in refused(tmp_path / "thin")


def test_slots_and_tags_come_from_the_same_choice() -> None:
    slots, tags = tags_of(SIGN, None).draw_slots(random.Random(0))
    assert slots["old"] in ("FERN & SONS", "est. 1931")
    assert slots["carrier_there"] == "shop sign"
    assert ("upper_text" in tags) == (slots["old"] == "FERN & SONS")
