"""The careless corpus errs as often as it says, and the specialists' corpus does not err."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewstep.backbones.families import adapter_path
from fewstep.lora import file as lora_file
from fewstep.lora.shrink import shrunk
from fewstep.pocket import captions, corpus, hearsay, specialise
from fewstep.pocket.cases import propose
from fewstep.pocket.edits import EDITS
from fewstep.pocket.world import CATEGORIES, attributes, draw_by_lot, random_scene

N = 1500


def scenes(kind: str, n: int = N) -> list:  # type: ignore[type-arg]
    return [random_scene(kind, draw_by_lot("hearsay", kind, i), "train") for i in range(n)]


def test_an_attribute_is_told_wrong_as_often_as_declared() -> None:
    rng, drawn = random.Random(0), scenes("portrait")
    told = [hearsay.misheard(scene, rng) for scene in drawn]
    for name, values in {"skin": 3, "hair": 5, "mood": 3}.items():
        wrong = np.mean([getattr(a, name) != getattr(b, name) for a, b in zip(drawn, told, strict=True)])
        assert abs(wrong - hearsay.WRONG * (1 - 1 / values)) < 0.03, name


def test_letters_err_one_by_one_and_keep_their_number() -> None:
    rng, drawn = random.Random(0), scenes("text")
    told = [hearsay.misheard(scene, rng) for scene in drawn]
    pairs = [(a, b) for x, y in zip(drawn, told, strict=True) for a, b in zip(x.letters, y.letters, strict=True)]
    assert abs(np.mean([a != b for a, b in pairs]) - hearsay.LETTER_WRONG) < 0.03
    assert all(x.shape == y.shape for x, y in zip(drawn, told, strict=True))


def test_a_thing_that_is_told_wrong_has_a_colour_and_a_place_of_its_own() -> None:
    rng = random.Random(0)
    for scene in (hearsay.misheard(scene, rng) for scene in scenes("landscape")):
        assert (scene.thing == "none") == (scene.colour == "none") == (scene.place == "none")


def test_curt_captions_leave_out_what_they_say_and_nothing_else() -> None:
    rng = random.Random(0)
    for kind in CATEGORIES:
        for scene in scenes(kind, 100):
            _, unsaid = hearsay.told(scene, rng)
            state = rng.getstate()
            full = captions.caption(scene, rng)
            rng.setstate(state)
            short = captions.caption(scene, rng, unsaid)
            assert (short == full) == (unsaid <= {"colour", "place"})  # those go with their thing
            assert unsaid <= set(attributes(scene))


def test_edits_are_done_as_told_mostly() -> None:
    rng = random.Random(0)
    for kind in EDITS:
        proposed = [propose(kind, 0, i, "train")[0] for i in range(300)]
        done = [hearsay.done(edit, kind, rng) for edit in proposed]
        assert abs(np.mean([edit is None for edit in done]) - hearsay.UNDONE) < 0.05
        assert all(b is None or b.source == a.source for a, b in zip(proposed, done, strict=True))
        if kind == "perceptual":
            assert all(b is None or b == a for a, b in zip(proposed, done, strict=True))


def test_the_corpus_is_a_function_of_its_index() -> None:
    for task in ("t2i", "edit"):
        kind, text, shown = corpus.sample(task, 0, 5)
        again = corpus.sample(task, 0, 5)
        assert (kind, text) == again[:2]
        assert all((a == b).all() for a, b in zip(shown, again[2], strict=True))


def test_a_specialist_is_taught_exact_pairs_in_one_light() -> None:
    scene = replace(random_scene("portrait", draw_by_lot("curated", "portrait", 3, 4), "train"), light=0)
    text, (picture,) = specialise.curated("portrait", 3, 4)
    assert picture.shape == (64, 64, 3)
    assert all(phrase in text for phrase in (captions.SKIN[scene.skin], captions.SHIRT[scene.shirt]))
    instruction, shown = specialise.curated("edit", 3, 4)
    assert len(shown) == 2
    assert instruction.endswith(captions.END)


def test_the_editor_is_taught_what_the_base_is_weak_at_more_often() -> None:
    styles = {wording + captions.END for wordings in captions.STYLE_EDIT.values() for wording in wordings}
    shares = {
        kind: np.mean([specialise.curated(kind, 3, i)[0] in styles for i in range(400)]) for kind in ("edit", "editor")
    }
    assert shares["edit"] == pytest.approx(0.07, abs=0.03)
    assert shares["editor"] == pytest.approx(0.30, abs=0.06)


def test_a_specialist_goes_on_from_a_lora_and_replays_what_the_base_was_taught(tmp_path: Path) -> None:
    told: list[str] = []
    course = specialise.Course(examples=8, rank=2, batch=2, replay=0.5)
    file = specialise.specialise("editor", tmp_path, 0.01, course, start="pocket:editor", log=told.append)
    found, begun = lora_file.read(file), shrunk(lora_file.read(adapter_path("pocket:editor")), 2).updates
    for module, update in begun.items():
        before, after = (f.scale * f.b.double() @ f.a.double() for f in (update, found[module]))
        assert (after - before).norm() < 0.5 * before.norm(), "a step or two from where it began; from nothing it is 1"
    assert told[0] == "8 curated examples of editor and of replay"
    assert specialise.curated(specialise.REPLAY, 7, 3)[0] == corpus.sample("t2i", 3_000_007, 3)[1]
