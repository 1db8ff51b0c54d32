"""The harder world's phrase book against captions: the order of parts, what is left out, what goes together."""

import random
from itertools import permutations

import pytest

from fewstep.pocket.harder import captions
from fewstep.pocket.harder.attributes import NONE, attribute
from fewstep.pocket.harder.captions import caption
from fewstep.pocket.harder.known_words import CHAINS, LOOSE, only_together
from fewstep.pocket.harder.scenes import Scene, any_value, random_scene, scene

MOVED = {  # the parts that stand in any order, as they stand in the chain
    "landscape": ("[time]", "[ground]", "[hills]", "[body]", "[weather]"),
    "portrait": ("[mood]", "[glasses]", "in a [clothes] [garment]"),
    "text": ("[shape]", "[board]", "[material]"),
    "still-life": (),
}


def having(category: str, word: str = "", **values: str) -> Scene:
    return scene(category, any_value(category, random.Random(0)) | values, word)


@pytest.mark.parametrize("category", list(CHAINS))
def test_captions_that_name_everything_are_the_chain(category: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attribute says its name for its phrase. All orders that the book promises are found, and no other."""
    monkeypatch.setattr(captions, "phrase", lambda it, name: f" [{name.replace('_', ' ')}]")
    monkeypatch.setattr(captions, "OPENINGS", dict.fromkeys(CHAINS, ("[the beginning]",)))
    monkeypatch.setattr(captions, "READS", (" reading",))
    monkeypatch.setattr(captions, "quoted_word", lambda word: ' "[letters]"')
    it = having(category, **{"count": "two", "thing": "house", "hat": "cap"} if category != "text" else {})
    said = {caption(it, random.Random(k), captions.everything(it)) for k in range(3000)}
    found = {each.replace(" two ", " [count] ").replace("]s", "]") for each in said}
    chain, moved = f"{CHAINS[category]}.", MOVED[category]
    assert found == {chain.replace(" ".join(moved), " ".join(order)) for order in permutations(moved)}


@pytest.mark.parametrize(
    ("category", "values", "named", "said"),
    [
        ("landscape", {"thing": "house", "colour": "red", "count": "one"}, "thing colour count", "and a red house"),
        ("landscape", {"thing": "house", "colour": "red", "count": "two"}, "thing colour", "and a red house or houses"),
        ("landscape", {"thing": NONE, "count": NONE}, "thing colour count place", "and nothing else"),
        ("portrait", {"style": "short", "hair": "brown"}, "style hair", "with short brown hair"),
        ("portrait", {"style": "short"}, "skin style", "and short hair"),
        ("portrait", {"hat": NONE}, "hat hat_colour", "without a hat"),
        ("text", {"material": "wood"}, "material word", "made of wood reading"),
        ("still-life", {"fruit": "apple", "colour": "red", "count": "one"}, "fruit colour count", "with a red apple"),
        ("still-life", {"fruit": "apple", "colour": "red"}, "fruit colour", "with a red apple or apples"),
        ("still-life", {"vessel": "cup", "paint": "blue"}, "fruit vessel paint", "beside a blue cup"),
        ("still-life", {"vessel": "cup", "paint": "blue"}, "vessel paint side", "with a blue cup"),
    ],
)
def test_what_is_left_out_is_said_as_the_book_says(
    category: str, values: dict[str, str], named: str, said: str
) -> None:
    it = having(category, "AB", **values)
    made = {caption(it, random.Random(k), frozenset(named.split())) for k in range(20)}
    assert any(f"{said}." in each or f'{said} "AB".' in each for each in made), made
    assert any(f"{said};" in f"{line};" or f"{said} " in line for line in LOOSE[category])


def test_values_go_together_as_the_book_says() -> None:
    """Every pair of the book is drawn, and no other."""
    pairs = {
        "Of landscapes, things and their colours": ("landscape", "thing", "colour"),
        "Of portraits, hair and what is over it": ("portrait", "style", "hat"),
        "Of signs, boards and their letters": ("text", "board", "ink"),
        "Of still lives, fruit and their colours": ("still-life", "fruit", "colour"),
    }
    told = dict(only_together())
    for line, (category, of, goes) in pairs.items():
        book = {(entry.split(" (")[0], one) for entry in told[line] for one in entry.split(" (")[1][:-1].split(", ")}
        left, right = attribute(category, of).phrases, attribute(category, goes).phrases
        scenes = [random_scene(category, random.Random(k), "train") for k in range(1500)]
        drawn = {(left[it[of]].strip(), right[it[goes]].strip()) for it in scenes if it[of] != NONE}
        assert {pair for pair in book if not pair[0].startswith("large")} == drawn
    for it in (random_scene("landscape", random.Random(k), "train") for k in range(1500)):
        assert (it["ground"] == "sea") == (it["thing"] == "boat") or it["thing"] == NONE
        assert it["place"] == NONE or it["count"] == "one"
