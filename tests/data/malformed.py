"""Small case inputs with something wrong in many of them, the same ones for each seed: lines, tables, archives,
folders. Every picture in them is known by its content."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewstep.data.cases import Case
from fewstep.data.sources import entries_of
from fewstep.runtime.errors import CaseError
from tests.data.made_files import packed, png, write

KEYS = (
    *("prompt", "text", "caption", "instruction", "edit_prompt"),
    *("image", "target_image", "target", "file_name", "image_path", "output", "image_2", "images"),
    *("reference_images", "control", "control_1", "control_2", "control_0", "input_image", "input_image_2", "input"),
    *("source", "cond_image", "conditioning_image", "mask", "depth_map", "contrl", "score", "id", "task", "height"),
)
PICTURE_KEYS = KEYS[5:-4]
DEBRIS: tuple[Any, ...] = (
    *(None, "", " ", 0, -1, 1.5, True, [], {}, [None], "\0", "\udcff", "é" * 300, "x" * 5000, "gone.png", "../up.png"),
    *("https://x.y/a.png", "data:image/png;base64," + "iVBORw0KGgo" * 9, {"path": "gone.png", "bytes": None}, 10**400),
)
TORN = (
    "",
    "{",
    "[" * 100_000,
    '{"prompt": "a", "seed": ' + "9" * 5000 + "}",
    "null",
    '"a.png"',
    '{"prompt": NaN}',
    "\0",
)


class Pictures:
    """Pictures written by the maker, each with a colour of its own."""

    def __init__(self, rng: random.Random):
        self.rng, self.bytes = rng, {}  # by name

    def new(self, name: str) -> bytes:
        colour = f"#{len(self.bytes) + 1:03x}{self.rng.randrange(4096):03x}"
        self.bytes[name] = png(colour, (20, 20))
        return self.bytes[name]


def record(rng: random.Random, folder: Path, pictures: Pictures) -> dict[str, Any]:
    made: dict[str, Any] = {"prompt": "make it night"} if rng.random() < 0.8 else {}
    for key in rng.sample(PICTURE_KEYS, rng.randrange(4)):
        name = f"p{len(pictures.bytes)}.png"
        write(folder / name, pictures.new(name))
        made[key] = [name] if rng.random() < 0.2 else name
    if rng.random() < 0.4:
        key = rng.choice(KEYS)
        made[key] = made[key] if key in made and key in PICTURE_KEYS else rng.choice(DEBRIS)
    return made


def lines(rng: random.Random, folder: Path, pictures: Pictures) -> Path:
    rows = [json.dumps(record(rng, folder, pictures)) for _ in range(2)]
    rows += [rng.choice(TORN)] if rng.random() < 0.3 else []
    data = "\n".join(rows).encode()
    return write(folder / "c.jsonl", data + b"\xff\n" if rng.random() < 0.1 else data)


def table(rng: random.Random, folder: Path, pictures: Pictures) -> Path:
    made = record(rng, folder, pictures)
    cells = ["|".join(v) if isinstance(v, list) and v and isinstance(v[0], str) else str(v) for v in made.values()]
    text = ",".join(made) + "\n" + ",".join(cells) + "\n" + rng.choice(["", '"torn', "a,b,c,d,e,f,g\n", "\0\n"])
    return write(folder / "c.csv", text.encode("utf-8", "surrogateescape"))


def archive(rng: random.Random, folder: Path, pictures: Pictures) -> Path:
    members = {"a.txt": b"make it night"} if rng.random() < 0.8 else {"a.json": rng.choice(TORN[1:]).encode()}
    for role in rng.sample([f".{key}" for key in PICTURE_KEYS] + ["", ".b.c"], rng.randrange(4)):
        name = f"a{role}.{rng.choice(('png', 'PNG', 'jpg', 'gif'))}"
        members[name] = pictures.new(name)
    path = packed(folder / "c.tar", members)
    if rng.random() < 0.2:
        path.write_bytes(path.read_bytes()[: rng.randrange(1, 4000)])
    return path


def pairs(rng: random.Random, folder: Path, pictures: Pictures) -> Path:
    (folder / "set").mkdir()
    for stem in ("a", "b"):
        write(folder / "set" / f"{stem}.txt", rng.choice([b"make it night", b"", b"\xff", b"a\0b"]))
        for role in rng.sample([f".{key}" for key in PICTURE_KEYS] + ["", "_source", "_mask"], rng.randrange(4)):
            name = f"{stem}{role}.{rng.choice(('png', 'JPG', 'gif'))}"
            name = rng.choice([name, f"control/{name}", f"mask/{name}", name])
            write(folder / "set" / name, pictures.new(name))
    return folder / "set"


MAKERS: tuple[Callable[[random.Random, Path, Pictures], Path], ...] = (lines, table, archive, pairs)


def malformed(seed: int, folder: Path) -> tuple[Path, dict[str, bytes]]:
    """A path to a set of cases, and every picture that belongs to it."""
    rng = random.Random(seed)
    pictures = Pictures(rng)
    return MAKERS[seed % len(MAKERS)](rng, folder, pictures), pictures.bytes


# ---- what became of it


def told_and_used(path: Path, folder: Path) -> tuple[str, set[bytes], bool]:
    """All messages, the content of all pictures in use, and whether the whole input was refused."""
    messages, used, whole = [], set(), False
    try:
        for entry in entries_of(str(path), folder, thorough=True):
            if isinstance(entry, Case):
                used |= {
                    picture.read_bytes() for picture in (*entry.references, *([entry.target] if entry.target else []))
                }
            else:
                messages.append(str(entry))
    except CaseError as error:
        messages.append(str(error))
        whole = True
    return "\n".join(messages), used, whole


def place_of(name: str, path: Path) -> list[str]:
    """Words one of which names the picture: itself, or the line, row or sample that is refused with it."""
    if path.suffix == ".tar":
        return [f"{path}:a", f"{path}:'a."]
    if path.is_dir():
        return [name, f"{path / name.partition('.')[0]}.txt", f"{path / Path(name).name[0]}.txt"]
    text = path.read_bytes().decode("utf-8", "replace").split("\n")
    line = next(i for i, row in enumerate(text, start=1) if name in row)
    return [name, f"{path}:{line}: "]
