"""Edit instructions from the shipped grammar, in the paper's six categories, for pictures at hand.

What is known of a picture decides which edits are possible: its text is rewritten, its boat removed, its sitter
dressed. For perceptual edits the picture is degraded first (`degradations.py`): the degraded copy is the reference, the
picture itself the target.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from PIL import Image

from fewstep.data.cases import Case
from fewstep.data.pictures import open_picture
from fewstep.data.prompts import grammar
from fewstep.data.prompts.dedup import PromptDedup
from fewstep.data.prompts.degradations import DEGRADATIONS, degrade
from fewstep.data.prompts.edit_source import EditSource
from fewstep.data.prompts.wording import finished_text
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError
from fewstep.runtime.seeded import seeded_random
from fewstep.runtime.task import PAPER_CATEGORIES

CATEGORIES = PAPER_CATEGORIES["edit"]
FILES = ("shared", "writing", "edits")
TRIES = 100


@dataclass(frozen=True)
class Degradation:
    """A kind of damage for one edit; `seed` fixes its details."""

    kind: str
    strength: float
    seed: int


def edits_from_grammar(
    category: str,
    pictures: Sequence[EditSource],
    count: int,
    seed: int,
    degraded_folder: Path | None,
    avoid: Sequence[str] = (),
    on_progress: Callable[[int], object] = lambda count: None,
) -> list[Case]:
    """`count` edits of one category, spread evenly over the pictures that fit it. `degraded_folder`: the folder for
    degraded copies; with None, perceptual edits refer to the pictures as they are.

    Raises:
        CaseError: no picture fits, or the pictures have no new edits left.
    """
    cases = []
    dedup = PromptDedup(avoid)
    in_turn = in_drawn_order(category, pictures, seed)
    for index in range(count):
        shown = in_turn[index % len(in_turn)]
        degradation = (
            degradation_of(shown, seed, index) if category == "perceptual" and degraded_folder is not None else None
        )
        prompt = _new(category, shown, seed, index, dedup, degradation)
        cases.append(
            make_edit_case(
                category, shown, prompt, f"{category}-{seed}-{index:06d}", _source(seed), degradation, degraded_folder
            )
        )
        on_progress(len(cases))
    return cases


def in_drawn_order(category: str, pictures: Sequence[EditSource], seed: int) -> list[EditSource]:
    """The pictures that fit a category, in the order in which they take their turns.

    Raises:
        CaseError: none fits.
    """
    return sorted(
        fitting_sources(category, pictures), key=lambda shown: seeded_random(category, seed, shown.name).random()
    )


def fitting_sources(category: str, pictures: Sequence[EditSource]) -> list[EditSource]:
    """The pictures that fit a category: people for identity; for text, those with text if there are any.

    Raises:
        CaseError: none fits.
    """
    if category == "identity":
        found = [shown for shown in pictures if shown.prompt_tags.whom]
        if not found:
            raise CaseError(
                f"identity edits need people, and of {len(pictures):,} pictures none is known to show one. Give them "
                "captions (x.txt beside x.png) or say --shows portrait; or leave out this category"
            )
        return found
    written = [shown for shown in pictures if shown.prompt_tags.texts] if category == "text" else []
    return written or list(pictures)


def draw_edit(
    category: str, shown: EditSource, seed: int, index: int, attempt: int = 0, degradation: Degradation | None = None
) -> str:
    """One instruction, drawn at random."""
    rng = seeded_random("edits", category, seed, index, attempt, shown.name)
    said, tags = shown.prompt_tags.draw_slots(rng)
    if category == "perceptual":
        tags |= {degradation.kind if degradation else "plain"}
    return finished_text(_grammar().expand(category, rng, tags, **said).text)


def degradation_of(shown: EditSource, seed: int, index: int) -> Degradation:
    """How this edit's picture is degraded, drawn at random."""
    rng = seeded_random("wear", seed, index, shown.name)
    kinds = list(DEGRADATIONS)
    return Degradation(kinds[int(rng.random() * len(kinds))], rng.random(), int(rng.random() * 2**31))


def make_edit_case(
    category: str,
    shown: EditSource,
    prompt: str,
    name: str,
    source: str,
    degradation: Degradation | None,
    folder: Path | None,
) -> Case:
    """The edit. Its degraded copy is written if it does not exist yet."""
    if degradation is None or folder is None:
        return Case(name, "edit", prompt, category, (shown.path,), source=source)
    return Case(
        name, "edit", prompt, category, (degraded_copy(shown, degradation, folder),), target=shown.path, source=source
    )


def degraded_copy(shown: EditSource, degradation: Degradation, folder: Path) -> Path:
    """The PNG file of the degraded picture, whole or absent. Its name states picture, kind and strength."""
    told = f"{shown.name} {degradation.kind} {degradation.strength} {degradation.seed}".encode()
    path = folder / f"{degradation.kind}-{hashlib.blake2b(told, digest_size=8).hexdigest()}.png"
    if not path.exists():
        durable.make_folder(folder)
        picture = degrade(
            open_picture(shown.path, str(shown.path)), degradation.kind, degradation.strength, degradation.seed
        )
        durable.replace_atomically(path, partial(_save, picture))
    return path


@cache
def edit_grammar_hash() -> str:
    """A short hash of the grammar's files."""
    files = [(grammar.FOLDER / f"{name}.grammar").read_bytes() for name in (*FILES, "things")]
    return hashlib.blake2b(b"\0".join(files), digest_size=3).hexdigest()


@cache
def _grammar() -> grammar.Grammar:
    return grammar.load_grammar(*FILES)


def _source(seed: int) -> str:
    return f"fewstep edit grammar {edit_grammar_hash()}, seed {seed}"


def _new(
    category: str, shown: EditSource, seed: int, index: int, dedup: PromptDedup, degradation: Degradation | None
) -> str:
    """An instruction that this picture has not had."""
    about = f"{shown.name} {degradation}" if degradation else shown.name
    draws: Iterator[str] = (draw_edit(category, shown, seed, index, attempt, degradation) for attempt in range(TRIES))
    prompt = next((text for text in draws if dedup.admits(text, about)), None)
    if prompt is None:
        raise CaseError(
            f"after {index:,} {category} edits, {shown.path} has none left that is new; ask for fewer, or give more "
            "pictures"
        )
    return prompt


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
