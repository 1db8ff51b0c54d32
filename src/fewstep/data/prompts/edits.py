"""Edit instructions from the shipped grammar, in the paper's six categories, about pictures that are at hand.

What is known of a picture decides what may be asked of it: its text is rewritten, its boat removed, its sitter dressed.
For perceptual edits the picture is worn first (`worn.py`): the worn copy is the reference, the picture the target.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from PIL import Image

from fewstep import durable
from fewstep.data.cases import Case
from fewstep.data.pictures import open_picture
from fewstep.data.prompts import grammar
from fewstep.data.prompts.shown import Shown
from fewstep.data.prompts.sieve import Sieve
from fewstep.data.prompts.wording import spoken
from fewstep.data.prompts.worn import WORN, wear
from fewstep.errors import CaseError
from fewstep.pocket.world import draw_by_lot

CATEGORIES = ("scene", "perceptual", "object", "text", "identity", "style")
FILES = ("shared", "writing", "edits")
TRIES = 100


@dataclass(frozen=True)
class Wear:
    """A kind of damage for one edit; `seed` fixes its details."""

    kind: str
    strength: float
    seed: int


def build(
    category: str,
    pictures: Sequence[Shown],
    count: int,
    seed: int,
    worn: Path | None,
    avoid: Sequence[str] = (),
    seen: Callable[[int], object] = lambda count: None,
) -> list[Case]:
    """`count` edits of one category, spread evenly over the pictures that fit it. `worn`: the folder for worn copies;
    None asks perceptual edits of the pictures as they are.

    Raises:
        CaseError: no picture fits, or the pictures have nothing left to ask of them.
    """
    cases = []
    sieve = Sieve(avoid)
    in_turn = turn(category, pictures, seed)
    for index in range(count):
        shown = in_turn[index % len(in_turn)]
        wearing = wear_of(shown, seed, index) if category == "perceptual" and worn is not None else None
        prompt = _new(category, shown, seed, index, sieve, wearing)
        cases.append(case_of(category, shown, prompt, f"{category}-{seed}-{index:06d}", _source(seed), wearing, worn))
        seen(len(cases))
    return cases


def turn(category: str, pictures: Sequence[Shown], seed: int) -> list[Shown]:
    """The pictures that fit a category, in the order in which they take their turns.

    Raises:
        CaseError: none fits.
    """
    return sorted(fitting(category, pictures), key=lambda shown: draw_by_lot(category, seed, shown.name).random())


def fitting(category: str, pictures: Sequence[Shown]) -> list[Shown]:
    """The pictures that a category can be asked of: people for identity; for text, those with text where there are any.

    Raises:
        CaseError: none fits.
    """
    if category == "identity":
        found = [shown for shown in pictures if shown.facts.whom]
        if not found:
            raise CaseError(
                f"identity edits need people, and of {len(pictures):,} pictures none is known to show one. Give them "
                "captions (x.txt beside x.png) or say --shows portrait; or leave out this category"
            )
        return found
    written = [shown for shown in pictures if shown.facts.texts] if category == "text" else []
    return written or list(pictures)


def draw(category: str, shown: Shown, seed: int, index: int, attempt: int = 0, wearing: Wear | None = None) -> str:
    """One instruction, by lot."""
    rng = draw_by_lot("edits", category, seed, index, attempt, shown.name)
    said, tags = shown.facts.bound(rng)
    if category == "perceptual":
        tags |= {wearing.kind if wearing else "plain"}
    return spoken(_grammar().speak(category, rng, tags, **said).text)


def wear_of(shown: Shown, seed: int, index: int) -> Wear:
    """How this edit's picture is worn, by lot."""
    rng = draw_by_lot("wear", seed, index, shown.name)
    kinds = list(WORN)
    return Wear(kinds[int(rng.random() * len(kinds))], rng.random(), int(rng.random() * 2**31))


def case_of(
    category: str, shown: Shown, prompt: str, name: str, source: str, wearing: Wear | None, folder: Path | None
) -> Case:
    """The edit; its worn copy is written where it is not there yet."""
    if wearing is None or folder is None:
        return Case(name, "edit", prompt, category, (shown.path,), source=source)
    return Case(name, "edit", prompt, category, (worn_copy(shown, wearing, folder),), target=shown.path, source=source)


def worn_copy(shown: Shown, wearing: Wear, folder: Path) -> Path:
    """The PNG file of the worn picture, whole or absent. Its name says picture, kind and strength."""
    told = f"{shown.name} {wearing.kind} {wearing.strength} {wearing.seed}".encode()
    path = folder / f"{wearing.kind}-{hashlib.blake2b(told, digest_size=8).hexdigest()}.png"
    if not path.exists():
        durable.make_folder(folder)
        picture = wear(open_picture(shown.path, str(shown.path)), wearing.kind, wearing.strength, wearing.seed)
        durable.replace_by(path, partial(_save, picture))
    return path


@cache
def mark() -> str:
    """A short hash of the grammar's files."""
    files = [(grammar.FOLDER / f"{name}.grammar").read_bytes() for name in (*FILES, "things")]
    return hashlib.blake2b(b"\0".join(files), digest_size=3).hexdigest()


@cache
def _grammar() -> grammar.Grammar:
    return grammar.load(*FILES)


def _source(seed: int) -> str:
    return f"fewstep edit grammar {mark()}, seed {seed}"


def _new(category: str, shown: Shown, seed: int, index: int, sieve: Sieve, wearing: Wear | None) -> str:
    """An instruction that this picture has not had."""
    about = f"{shown.name} {wearing}" if wearing else shown.name
    draws: Iterator[str] = (draw(category, shown, seed, index, attempt, wearing) for attempt in range(TRIES))
    prompt = next((text for text in draws if sieve.admits(text, about)), None)
    if prompt is None:
        raise CaseError(
            f"after {index:,} {category} edits, {shown.path} has none left that is new; ask for fewer, or give more "
            "pictures"
        )
    return prompt


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
