"""Recipes with one thing wrong in each, the same ones for each seed."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewstep.run.recipe import describe
from fewstep.runtime import strict_yaml
from tests.cli.attempts import Attempt

PLAIN = [note for note in describe() if "<" not in note.key and "[]" not in note.key]
NUMBERS = [note for note in PLAIN if note.type in ("whole number", "number")]
TEXTS = [note for note in PLAIN if note.type == "text"]
SWITCHES = [note for note in PLAIN if note.type == "true | false"]
CHOICES = [note for note in PLAIN if re.fullmatch(r"[a-z0-9-]+( \| [a-z0-9-]+)+", note.type) and note not in SWITCHES]
CHOICES = [note for note in CHOICES if note.type.split()[0] not in ("text", "number", "section", "list", "whole")]
# Below names and entries of lists, as the pocket's recipe has them.
INNER: dict[str, str] = {
    "data.t2i.0.weight": "number",
    "data.edit.0.weight": "number",
    "data.t2i.0.source": "text",
    "tasks": "section",
    "teachers.base.guidance.t2i.scale": "number",
    "teachers.base.guidance.edit.scale": "number",
    "teachers.base.guidance.t2i.negative": "text",
    "teachers.named.editor.adapter": "text",
    "teachers.named.editor.tasks": "list",  # an empty one would never teach
    "teachers.named.editor.categories": "list",
    "teachers.named.editor.guidance": "section",
    "student.betas": "list",
    "student.sigmas": "list",
    "size": "list",
    "teachers.rows": "list",
    "objective.first_step_anchor.tasks": "list",
}
SECTIONS = ("run", "tasks", "data", "teachers", "student", "critic", "objective", "teachers.watch", "student.adapter")
NO_NUMBERS: tuple[Any, ...] = (
    True,
    False,
    "many",
    float("nan"),
    float("inf"),
    10**30,
    -(10**30),
    [],
    [3],
    {},
    {"a": 1},
)
NO_TEXTS: tuple[Any, ...] = (True, 3, 1.5, [], ["a"], {}, {"a": "b"})
NO_SECTIONS: tuple[Any, ...] = (True, 3, "a", ["a"], [[]])
# What YAML can do that a recipe cannot mean. Names of the second kind may be read or refused.
TEXT_OF: dict[str, str | bytes] = {
    "a tag": "run: !!python/object/apply:os.getcwd []",
    "a tag of its own": "run: {iterations: !mine 3}",
    "a binary": "name: !!binary aGVsbG8=",
    "a set": "teachers: !!set {a, b}",
    "an ordered map": "run: !!omap [iterations: 3]",
    "a key twice": "run: {batch: 4}\nrun: {batch: 5}",
    "a key twice inside": "run: {batch: 4, batch: 5}",
    "a list as key": "? [a, b]\n: 3",
    "a map as key": "? {a: b}\n: 3",
    "a number as key": "3: 4",
    "nothing as key": "null: 4",
    "brackets, 100,000 deep": "run: " + "[" * 100_000,
    "brackets, 2,000 deep and closed": "run: " + "[" * 2_000 + "]" * 2_000,
    "braces, 3,000 deep and closed": "run: " + "{a: " * 3_000 + "1" + "}" * 3_000,
    "an alias of itself": "run: &a [*a]",
    "an alias of its map": "run: &a {b: *a}",
    "aliases of aliases": "\n".join(
        ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
        + ["run: *a8"]
    ),
    "an alias of nothing": "run: *nothing",
    "a merge of no map": "run: {<<: 3}",
    "a number of 5,000 digits": "run: {iterations: " + "9" * 5_000 + "}",
    "an exponent of 9 digits": "run: {iterations: 1e999999999}",
    "a control character": "name: a\x07b",
    "a tab": "run:\n\titerations: 3",
    "no UTF-8": b"name: \xff\xfe\n",
    "UTF-16": "name: a\n".encode("utf-16"),
    "half of a letter": 'name: "\\ud800"',
    "two documents": "run: {batch: 4}\n---\nrun: {batch: 5}",
    "a list": "- run\n- batch",
    "text": "pocket",
    "nothing": "",
    "an open bracket": "run: {batch: 4",
    "an extended recipe that is none": "extends: nosuch",
    "an extended number": "extends: 3",
    "an extended list": "extends: [pocket]",
    "an extended folder": "extends: .",
    "itself extended": "extends: recipe.yaml",
}


def attempt(rng: random.Random, folder: Path) -> Attempt:
    """A recipe that has to be refused, and the command that shows it."""
    return rng.choice(MAKERS)(rng, folder)


def _written(folder: Path, text: str | bytes, what: str) -> Attempt:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    (folder / "recipe.yaml").write_bytes(data)
    return Attempt("recipe", what, ("recipe", "show", "recipe.yaml"))


def _text(value: Any) -> str:
    """A value as YAML on one line."""
    return json.dumps(value).replace("NaN", ".nan").replace("Infinity", ".inf")


def _changed(rng: random.Random, folder: Path, key: str, value: Any, what: str) -> Attempt:
    """In a file, or at the command line."""
    if rng.random() < 0.4:
        return Attempt("recipe", f"--set {what}", ("recipe", "show", "pocket", "--set", f"{key}={_text(value)}"))
    made: Any = value
    for part in reversed(key.split(".")):
        made = {part: made}
    return _written(folder, "extends: pocket\n" + strict_yaml.dump_yaml(made), what)


def no_number(rng: random.Random, folder: Path) -> Attempt:
    note, value = rng.choice(NUMBERS), rng.choice(NO_NUMBERS)
    return _changed(rng, folder, note.key, value, f"{note.key}: {value!r:.30}")


def no_text(rng: random.Random, folder: Path) -> Attempt:
    note, value = rng.choice(TEXTS), rng.choice(NO_TEXTS)
    return _changed(rng, folder, note.key, value, f"{note.key}: {value!r:.30}")


def no_section(rng: random.Random, folder: Path) -> Attempt:
    key, value = rng.choice(SECTIONS), rng.choice(NO_SECTIONS)
    return _changed(rng, folder, key, value, f"{key}: {value!r:.30}")


def no_switch(rng: random.Random, folder: Path) -> Attempt:
    note, value = rng.choice(SWITCHES), rng.choice([3, -1, "maybe", 0.5, [], {}, [True]])
    return _changed(rng, folder, note.key, value, f"{note.key}: {value!r:.30}")


def no_choice(rng: random.Random, folder: Path) -> Attempt:
    note, value = rng.choice(CHOICES), rng.choice(["nosuch", "", 3, [], {}, ["full"]])
    return _changed(rng, folder, note.key, value, f"{note.key}: {value!r:.30}")


def no_inner(rng: random.Random, folder: Path) -> Attempt:
    """At the command line, which reaches into the lists of the pocket's recipe."""
    key, kind = rng.choice(list(INNER.items()))
    wrong: dict[str, tuple[Any, ...]] = {
        "number": (True, "many", float("nan"), 10**30, -1, {}, [3]),
        "text": NO_TEXTS,
        "list": (3, True, "a", [], [True], [[1]], [{}], [float("nan")], {"a": 1}, [10**30]),
        "section": (3, True, "a", [3], ["t2i"]),
    }
    value = rng.choice(wrong[kind])
    words = ("recipe", "show", "pocket", "--set", f"{key}={_text(value)}")
    return Attempt("recipe", f"--set {key}: {value!r:.30}", words)


def no_key(rng: random.Random, folder: Path) -> Attempt:
    """A letter too many, too few, or another one."""
    key = rng.choice(PLAIN).key
    at = rng.randrange(key.rfind(".") + 1, len(key))
    wrong = rng.choice(
        [key[:at] + key[at + 1 :], key[:at] + rng.choice("qxz") + key[at:], key[:at] + "Q" + key[at + 1 :]]
    )
    if not all(wrong.split(".")) or wrong in {note.key for note in describe()}:
        wrong = f"{key}_"
    return _changed(rng, folder, wrong, rng.choice([1, "a", None]), f"the key {wrong}")


def no_yaml(rng: random.Random, folder: Path) -> Attempt:
    what = rng.choice(list(TEXT_OF))
    text, begun = (
        TEXT_OF[what],
        "" if what in ("a list", "text", "nothing") or "extend" in what else "extends: pocket\n",
    )
    return _written(folder, text if isinstance(text, bytes) else begun + text, what)


MAKERS: tuple[Callable[[random.Random, Path], Attempt], ...] = (
    *(no_number, no_text, no_section, no_key, no_yaml),
    *(no_switch, no_choice, no_inner),
)
