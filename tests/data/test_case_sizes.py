"""The size at which a case is trained: its own, drawn from the recipe's, or what the family makes of its references."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fewstep.backbones.edit_sizes import klein_fault, klein_size, on_own_grid
from fewstep.data.case_sizes import CaseSizes, Size, drawn_size
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import Ratio
from fewstep.data.phases import Phases, constant
from fewstep.data.plan import SizesPlan
from fewstep.data.streams import Stream
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import CaseError, RecipeError

THREE = SizesPlan.model_validate(
    {"t2i": [{"size": [64, 64], "weight": 2}, {"size": [32, 96]}, {"size": [96, 32], "weight": 3}]}
)


class LikeQwen:
    """The last reference's shape at the area; nothing is refused."""

    def size_of_edit(self, references: list[Size], area: int) -> Size:
        return on_own_grid(references[-1], area)

    def reference_fault(self, reference: Size) -> str | None:
        return None


class LikeKlein:
    def size_of_edit(self, references: list[Size], area: int) -> Size:
        return klein_size(references[0])

    def reference_fault(self, reference: Size) -> str | None:
        return klein_fault(reference)


def rule(plan: SizesPlan = THREE, size: Size = (64, 64), seed: int = 0, family: object = LikeQwen()) -> CaseSizes:
    return CaseSizes(plan, size, seed, family)  # type: ignore[arg-type]


def prompts(count: int) -> list[Case]:
    return [Case(f"p{n}", "t2i", f"a boat {n}") for n in range(count)]


def edit(folder: Path, *shapes: tuple[int, int], **stated: int) -> Case:
    """An edit of pictures of these widths and heights."""
    paths = []
    for n, shape in enumerate(shapes):
        paths.append(folder / f"{shape[0]}x{shape[1]}-{n}.png")
        Image.new("1", shape).save(paths[-1])
    return Case("e", "edit", "make it night", references=tuple(paths), where="c.jsonl:7", **stated)


# ---- prompts


def test_prompts_have_the_recipe_s_sizes_in_proportion_to_their_weights() -> None:
    counts = Counter(drawn_size(THREE.t2i, 0, case.id) for case in prompts(6000))
    for share in THREE.t2i:
        assert counts[share.size] == pytest.approx(1000 * share.weight, rel=0.1)


def test_a_size_follows_from_seed_and_id_alone_and_never_changes() -> None:
    drawn = [drawn_size(THREE.t2i, 0, f"p{n}") for n in range(8)]
    expected = [(96, 32), (96, 32), (96, 32), (32, 96), (96, 32), (64, 64), (32, 96), (96, 32)]
    assert drawn == expected, "stores and runs rely on it"
    assert [drawn_size(THREE.t2i, 1, f"p{n}") for n in range(8)] != drawn
    few, many = ({c.id: rule().of(c) for c in prompts(n)} for n in (5, 50))
    assert few.items() <= many.items(), "more cases change no other case's size"


def test_a_case_s_own_size_wins_and_without_sizes_the_recipe_s() -> None:
    own = replace(prompts(1)[0], height=128, width=32)
    assert rule().of(own) == (128, 32)
    assert {rule(SizesPlan.model_validate({})).of(case) for case in prompts(9)} == {(64, 64)}


# ---- edits


def test_an_edit_has_the_shape_that_the_family_gives_its_references(tmp_path: Path) -> None:
    case = edit(tmp_path, (300, 300), (400, 200))
    assert rule(size=(1024, 1024)).of(case) == on_own_grid((200, 400), 1024 * 1024)
    assert rule(size=(1024, 1024), family=LikeKlein()).of(case) == (288, 288)
    assert rule(SizesPlan.model_validate({"edit": "recipe"})).of(case) == (64, 64)
    assert rule().of(replace(case, height=96, width=160)) == (96, 160)


def test_a_picture_turned_by_exif_is_an_upright_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (640, 320)).save(tmp_path / "turned.jpg", exif=exif)
    case = Case("e", "edit", "x", references=(tmp_path / "turned.jpg",))
    height, width = rule(size=(1024, 1024)).of(case)
    assert height > width


@pytest.mark.parametrize(
    ("shape", "family", "size", "expected"),
    [
        ((2000, 100), LikeQwen(), (1024, 1024), r"c\.jsonl:7: .*2000 x 100 px; sides may differ 16-fold at most"),
        (
            (900, 100),
            LikeKlein(),
            (1024, 1024),
            r"c\.jsonl:7: .*is 100 x 900 px; .* 8-fold at most; crop or pad",
        ),
        ((60, 80), LikeKlein(), (1024, 1024), r"c\.jsonl:7: .*is 80 x 60 px; .* 64 px a side at least; give a larger"),
        ((1024, 64), LikeQwen(), (64, 64), r"c\.jsonl:7: an edit of a reference of 64 x 1024 px would have no"),
    ],
)
def test_what_no_size_can_be_made_of_is_refused(
    tmp_path: Path, shape: tuple[int, int], family: object, size: Size, expected: str
) -> None:
    with pytest.raises(CaseError, match=expected) as refused:
        rule(size=size, family=family).of(edit(tmp_path, shape))
    assert "\n" not in str(refused.value)


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    case = edit(tmp_path, (64, 64))
    case.references[0].unlink()
    with pytest.raises(CaseError, match=r"c\.jsonl:7: there is no picture .*64x64-0\.png"):
        rule().of(case)


# ---- all cases of a run


def test_afterwards_every_case_states_its_size_and_streams_are_what_they_were(tmp_path: Path) -> None:
    held = (*prompts(4), edit(tmp_path, (64, 128)))
    streams = Stream("a", 2, held[:4], 1), Stream("b", 1, held[4:], 3)
    made = Composition(constant(Ratio(1, 1)), {"t2i": Phases((streams[:1],) * 2, (9,)), "edit": constant(streams[1:])})
    settled = rule().settled(made)
    assert [replace(case, height=None, width=None) for case in settled.cases()] == made.cases()
    assert all(case.size((0, 0)) == rule().of(case) for case in settled.cases())
    (stream,) = settled.streams["t2i"].values[1]
    assert (stream.name, stream.weight, stream.source, settled.streams["t2i"].ends) == ("a", 2, 1, (9,))


def test_sizes_that_no_prompt_has_are_told() -> None:
    assert rule().remarks(prompts(500)) == []
    (text,) = rule().remarks(prompts(2))
    assert text.startswith("data.sizes.t2i: none of the 2 prompts without a size of their own was drawn for ")
    own = [replace(case, height=32, width=32) for case in prompts(500)]
    assert "none of the 0 prompts" in rule().remarks(own)[0]
    (other,) = rule(size=(512, 512)).remarks(prompts(500))
    assert "`size` 512 x 512 px is none of them" in other
    assert rule(SizesPlan.model_validate({})).remarks(prompts(1)) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[{size: [64, 64], weight: 0}]", r"data\.sizes\.t2i\.0\.weight should be greater than or equal to 1, not 0"),
        ("[{size: [64, 64], weight: -3}]", r"weight should be greater than or equal to 1, not -3"),
        ("[{size: [64, 64]}, {size: [64, 64]}]", r"data\.sizes\.t2i names \[64, 64\] twice; name it once"),
        ("[{size: [0, 64]}]", r"data\.sizes\.t2i\.0\.size: size \[0, 64\] is no picture"),
        ("[{size: [64, 20000]}]", r"is no picture"),
        ("[[64, 64]]", r"data\.sizes\.t2i\.0 should hold"),
        ("[{weight: 1}]", r"data\.sizes\.t2i\.0\.size is missing"),
        ("[{size: [64, 64], aspect: 1}]", r"data\.sizes\.t2i\.0\.aspect is no key"),
    ],
)
def test_lists_of_sizes_that_are_none(value: str, expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        load_recipe("pocket", [f"data.sizes.t2i={value}"])
