"""The noisy corpus errs as often as declared, and the specialists' corpus does not err."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewstep.backbones.families import adapter_path
from fewstep.lora import file as lora_file
from fewstep.lora.truncation import truncate
from fewstep.pocket import captions
from fewstep.pocket.cases import propose
from fewstep.pocket.edits import EDITS
from fewstep.pocket.world import (
    CATEGORIES,
    attributes,
    random_scene,
)
from fewstep.runtime.seeded import seeded_random
from pocket_making import (
    caption_noise,
    corpus,
    specialise,
)

N = 1500


def scenes(kind: str, n: int = N) -> list:  # type: ignore[type-arg]
    return [random_scene(kind, seeded_random("hearsay", kind, i), "train") for i in range(n)]


def test_an_attribute_is_wrong_as_often_as_declared() -> None:
    rng, drawn = random.Random(0), scenes("portrait")
    noisy = [caption_noise.with_wrong_attributes(scene, rng) for scene in drawn]
    for name, values in {"skin": 3, "hair": 5, "mood": 3}.items():
        wrong = np.mean([getattr(a, name) != getattr(b, name) for a, b in zip(drawn, noisy, strict=True)])
        assert abs(wrong - caption_noise.WRONG_ATTRIBUTE_RATE * (1 - 1 / values)) < 0.03, name


def test_letters_err_one_by_one_and_keep_their_number() -> None:
    rng, drawn = random.Random(0), scenes("text")
    noisy = [caption_noise.with_wrong_attributes(scene, rng) for scene in drawn]
    pairs = [(a, b) for x, y in zip(drawn, noisy, strict=True) for a, b in zip(x.letters, y.letters, strict=True)]
    assert abs(np.mean([a != b for a, b in pairs]) - caption_noise.WRONG_LETTER_RATE) < 0.03
    assert all(x.shape == y.shape for x, y in zip(drawn, noisy, strict=True))


def test_a_thing_that_is_wrong_has_a_colour_and_a_place_of_its_own() -> None:
    rng = random.Random(0)
    for scene in (caption_noise.with_wrong_attributes(scene, rng) for scene in scenes("landscape")):
        assert (scene.thing == "none") == (scene.colour == "none") == (scene.place == "none")


def test_short_captions_leave_out_what_they_report_and_nothing_else() -> None:
    rng = random.Random(0)
    for kind in CATEGORIES:
        for scene in scenes(kind, 100):
            _, omitted = caption_noise.noisy_description(scene, rng)
            state = rng.getstate()
            full = captions.caption(scene, rng)
            rng.setstate(state)
            short = captions.caption(scene, rng, omitted)
            assert (short == full) == (omitted <= {"colour", "place"})  # those go with their thing
            assert omitted <= set(attributes(scene))


def test_edits_are_done_as_written_mostly() -> None:
    rng = random.Random(0)
    for kind in EDITS:
        proposed = [propose(kind, 0, i, "train")[0] for i in range(300)]
        done = [caption_noise.noisy_edit(edit, kind, rng) for edit in proposed]
        assert abs(np.mean([edit is None for edit in done]) - caption_noise.UNDONE_EDIT_RATE) < 0.05
        assert all(b is None or b.source == a.source for a, b in zip(proposed, done, strict=True))
        if kind == "perceptual":
            assert all(b is None or b == a for a, b in zip(proposed, done, strict=True))


def test_the_corpus_is_a_function_of_its_index() -> None:
    for task in ("t2i", "edit"):
        kind, text, pictures = corpus.corpus_sample(task, 0, 5)
        again = corpus.corpus_sample(task, 0, 5)
        assert (kind, text) == again[:2]
        assert all((a == b).all() for a, b in zip(pictures, again[2], strict=True))


def test_a_specialist_is_taught_exact_pairs_in_one_light() -> None:
    scene = replace(random_scene("portrait", seeded_random("curated", "portrait", 3, 4), "train"), light=0)
    text, (picture,) = specialise.curated_example("portrait", 3, 4)
    assert picture.shape == (64, 64, 3)
    assert all(phrase in text for phrase in (captions.SKIN[scene.skin], captions.SHIRT[scene.shirt]))
    instruction, pictures = specialise.curated_example("edit", 3, 4)
    assert len(pictures) == 2
    assert instruction.endswith(captions.END)


def test_the_editor_is_taught_what_the_base_is_weak_at_more_often() -> None:
    styles = {wording + captions.END for wordings in captions.STYLE_EDIT.values() for wording in wordings}
    shares = {
        kind: np.mean([specialise.curated_example(kind, 3, i)[0] in styles for i in range(400)])
        for kind in ("edit", "editor")
    }
    assert shares["edit"] == pytest.approx(0.07, abs=0.03)
    assert shares["editor"] == pytest.approx(0.30, abs=0.06)


def test_a_specialist_goes_on_from_a_lora_and_replays_what_the_base_was_taught(tmp_path: Path) -> None:
    messages: list[str] = []
    config = specialise.FinetuneConfig(examples=8, rank=2, batch=2, replay=0.5)
    file = specialise.specialise("editor", tmp_path, 0.01, config, start="pocket:editor", log=messages.append)
    found, start = lora_file.read_lora(file), truncate(lora_file.read_lora(adapter_path("pocket:editor")), 2).updates
    for module, update in start.items():
        before, after = (f.scale * f.b.double() @ f.a.double() for f in (update, found[module]))
        assert (after - before).norm() < 0.5 * before.norm(), "a step or two from where it began; from nothing it is 1"
    assert messages[0] == "8 curated examples of editor and of replay"
    assert specialise.curated_example(specialise.REPLAY, 7, 3)[0] == corpus.corpus_sample("t2i", 3_000_007, 3)[1]
