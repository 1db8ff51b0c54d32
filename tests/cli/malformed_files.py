"""Cases, LoRA files, model folders and galleries with one thing wrong in each, the same ones for each seed."""

import io
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image
from pyarrow import parquet

import fewstep
from tests.cli.attempts import Attempt
from tests.data.made_files import packed, png, write
from tests.data.malformed import malformed, place_of, told_and_used

PACKAGE, GALLERIES = Path(fewstep.__file__).parent, Path(__file__).parents[1] / "compatibility/fixtures/galleries"
EDITOR = PACKAGE / "pocket/specialists/editor.safetensors"
CHECK = ("cases", "check")
LATE = pa.array([2**60, 0], pa.timestamp("ms"))  # beyond what Python can hold


# ---- cases


def _saved(mode: str = "RGB", size: tuple[int, int] = (40, 30), kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format=kind, **options)
    return file.getvalue()


def _turned(kind: int, value: bytes) -> bytes:
    """A JPEG whose EXIF tells its orientation as another kind of value: 2 is text, 5 a fraction, 11 a float."""
    entry = struct.pack("<HHI", 0x0112, kind, 4 if kind == 2 else 1) + (value if len(value) == 4 else b"\x1a\0\0\0")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0" + (b"" if len(value) == 4 else value)
    return _saved(kind="JPEG", exif=exif)


def _bomb() -> bytes:
    whole = bytearray(_saved())
    whole[16:24] = struct.pack(">II", 60_000, 60_000)
    return bytes(whole)


PICTURES: dict[str, Callable[[], bytes]] = {
    "torn": lambda: png()[:-30],
    "a header alone": lambda: png()[:33],
    "empty": lambda: b"",
    "text": lambda: b"hello",
    "16 bits a channel": lambda: _saved("I;16"),
    "floats": lambda: _saved("F", kind="TIFF"),
    "a strip": lambda: _saved(size=(2000, 3)),
    "turned by a word": lambda: _turned(2, b"left"),
    "turned by a float": lambda: _turned(11, struct.pack("<f", 6.5)),
    "turned by a fraction": lambda: _turned(5, struct.pack("<II", 1, 0)),
    "60,000 by 60,000": _bomb,
    "an HTML page": lambda: b"<!doctype html><html></html>",
}
ROWS: dict[str, str] = {
    "no prompt": "{}",
    "a prompt that is a number": '{"prompt": 3}',
    "a prompt that is a list": '{"prompt": ["a"]}',
    "an empty prompt": '{"prompt": "  "}',
    "a prompt of 20,000 characters": json.dumps({"prompt": "a" * 20_000}),
    "half of a letter": r'{"prompt": "\ud800"}',
    "a NUL": r'{"prompt": "a", "id": "a b"}' "\0",
    "NaN": '{"prompt": "a", "height": NaN}',
    "a height that is true": '{"prompt": "a", "height": true, "width": true}',
    "a height of text": '{"prompt": "a", "height": "tall", "width": 64}',
    "a height of 10**30": '{"prompt": "a", "height": 1000000000000000000000000000000, "width": 64}',
    "a height without width": '{"prompt": "a", "height": 64}',
    "a negative height": '{"prompt": "a", "height": -64, "width": 64}',
    "an unknown task": '{"prompt": "a", "task": "video"}',
    "an edit without picture": '{"prompt": "a", "task": "edit"}',
    "a picture that is not there": '{"prompt": "a", "reference_images": ["gone.png"]}',
    "a picture that is a number": '{"prompt": "a", "reference_images": [3]}',
    "an address": '{"prompt": "a", "reference_images": ["https://x.y/a.png"]}',
    "a name of 300 bytes": json.dumps({"prompt": "a", "reference_images": ["é" * 150 + ".png"]}),
    "a key misspelt": '{"promt": "a"}',
    "a role misspelt": '{"prompt": "a", "refrence_images": ["ok.png"]}',
    "a picture of no role": '{"prompt": "a", "depth_map": "ok.png"}',
    "two captions": '{"prompt": "a", "caption": "b", "text": "c"}',
    "brackets, 100,000 deep": "[" * 100_000,
    "a number of 5,000 digits": '{"prompt": "a", "seed": ' + "9" * 5000 + "}",
    "a list": '["a"]',
    "text": '"a"',
    "cut short": '{"prompt": "a',
    "a category that is a list": '{"prompt": "a", "category": ["a"]}',
    "numbered from three": '{"prompt": "a", "control_3": "ok.png"}',
}


def case_row(rng: random.Random, folder: Path) -> Attempt:
    what = rng.choice(list(ROWS))
    write(folder / "ok.png", png())
    write(folder / "c.jsonl", '{"prompt": "a boat"}\n' + ROWS[what] + "\n")
    told = () if what in ("two captions", "numbered from three") else ("c.jsonl:2",)
    return Attempt("cases", f"a row: {what}", (*CHECK, "c.jsonl"), refused=bool(told), told=told)


def case_picture(rng: random.Random, folder: Path) -> Attempt:
    """In a row, a table, an archive or a folder."""
    what, way = rng.choice(list(PICTURES)), rng.choice(("jsonl", "csv", "tar", "folder"))
    data, name = PICTURES[what](), rng.choice(("a.png", "é.jpg", "a b.webp"))
    stem, ending = name.rsplit(".", 1)
    if way == "tar":
        members = {f"{stem}.txt": b"make it night", f"{stem}.source.{ending}": data}
        source = packed(folder / "c.tar", members).name
    elif way == "folder":
        write(folder / "set" / f"{stem}.txt", "make it night")
        write(folder / "set/control" / name, data)
        write(folder / "set" / name, png())
        source = "set"
    else:
        write(folder / name, data)
        row = json.dumps({"prompt": "make it night", "reference_images": [name]})
        source = f"c.{way}"
        write(folder / source, row if way == "jsonl" else f"prompt,reference_images\nmake it night,{name}\n")
    return Attempt("cases", f"a picture in a {way}: {what}", (*CHECK, source), told=(name, stem, "c."))


def case_file(rng: random.Random, folder: Path) -> Attempt:
    files: dict[str, tuple[str, bytes]] = {
        "no UTF-8": ("c.jsonl", b'{"prompt": "\xff"}\n'),
        "UTF-16": ("c.jsonl", '{"prompt": "a"}\n'.encode("utf-16")),
        "an empty file": ("c.jsonl", b""),
        "empty lines": ("c.jsonl", b"\n\n\n"),
        "text without no UTF-8": ("c.txt", b"a boat\n\xff\n"),
        "a table without its names": ("c.csv", b""),
        "a table of unequal rows": ("c.csv", b"prompt,category\na,b,c,d\n"),
        "a table that is torn": ("c.csv", b'prompt,category\n"a,b\n'),
        "a table with a NUL": ("c.csv", b"prompt\na\0b\n"),
        "a table with a name twice": ("c.csv", b"prompt,prompt\na,b\n"),
        "a cell of 200,000 letters": ("c.csv", b"prompt\n" + b"a" * 200_000 + b"\n"),
        "no parquet": ("c.parquet", b"PAR1" + b"\0" * 40 + b"PAR1"),
        "a torn archive": ("c.tar", packed(folder / "whole", {"a.txt": b"a", "a.png": png()}).read_bytes()[:700]),
        "no archive": ("c.tar", b"hello"),
        "no zip": ("c.tar.gz", b"\x1f\x8bhello"),
        "an unknown ending": ("c.xyz", b"a boat\n"),
        "a picture as cases": ("c.png", png()),
    }
    what = rng.choice(list(files))
    name, data = files[what]
    write(folder / name, data)
    command = rng.choice([(*CHECK, name), ("cases", "convert", name, "--to", "out.jsonl")])
    return Attempt("cases", f"{command[1]}: {what}", command)


def case_table(rng: random.Random, folder: Path) -> Attempt:
    """Parquet of columns that no prompt or picture can be."""
    columns: dict[str, dict[str, pa.Array]] = {
        "prompts that are numbers": {"prompt": pa.array([1, 2])},
        "prompts that are lists": {"prompt": pa.array([["a"], ["b"]])},
        "prompts that are bytes": {"prompt": pa.array([b"\xff", b"a"])},
        "prompts of a time that is none": {"prompt": LATE},
        "no prompts": {"prompt": pa.array([None, None], pa.string())},
        "no columns": {},
        "heights of a time that is none": {
            "height": LATE,
            "width": pa.array([1, 1]),
        },
        "pictures that are numbers": {"reference_images": pa.array([1, 2])},
        "pictures that are no pictures": {"image": pa.array([b"hello", b""])},
        "pictures in structs of nothing": {"reference_images": pa.array([{"a": 1}, {"a": 2}])},
        "pictures, torn": {"reference_images": pa.array([{"bytes": png()[:-30], "path": "a.png"}] * 2)},
        "lists of lists of lists": {"reference_images": pa.array([[[["a.png"]]], [[[]]]])},
        "ids that are decimals": {"task": pa.array([1.5, 2.5])},
    }
    what = rng.choice(list(columns))
    made = columns[what]
    if not what.startswith(("prompts", "no ")):
        made = {"prompt": pa.array(["a boat", "make it night"])} | made
    parquet.write_table(pa.table(made), folder / "c.parquet")
    return Attempt("cases", f"parquet: {what}", (*CHECK, "c.parquet"))


def case_name(rng: random.Random, folder: Path) -> Attempt:
    """Files whose names are no UTF-8, or as long as a disk allows: read, or named in one line."""
    stem = rng.choice([b"\xff\xfe", b"a" * 250, "é".encode("latin-1"), b"a\nb", b"-a", b" ", b"[a]"])
    place = os.fsencode(folder / "set")
    os.mkdir(place)
    for ending, data in ((b".png", png()), (b".txt", b"a boat")):
        with open(os.path.join(place, stem + ending), "wb") as file:
            file.write(data)
    return Attempt("cases", f"a folder with {stem!r:.20}", (*CHECK, "set"), refused=False)


def case_set(rng: random.Random, folder: Path) -> Attempt:
    """Lines, tables, archives and folders whose pictures are known: each is in use, or named."""
    path, pictures = malformed(rng.randrange(10**9), folder)

    def lost() -> str:
        messages, used, whole = told_and_used(path, folder / "unpacked")
        named = [name for name in pictures if whole or any(place in messages for place in place_of(name, path))]
        return ", ".join(name for name, data in pictures.items() if data not in used and name not in named)

    return Attempt("cases", f"a set of {path.name}", (*CHECK, path.name), refused=False, lost=lost)


# ---- LoRA files


def _tensors(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _with_header(header: Any, body: bytes) -> bytes:
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(told).to_bytes(8, "little") + told + body


def _first(header: Mapping[str, Any], part: str = "lora_A") -> str:
    return next(name for name in sorted(header) if part in name)


def lora_bytes(rng: random.Random) -> tuple[str, bytes]:
    """The pocket's editor, with one thing wrong."""
    header, body = _tensors(EDITOR)
    name = _first(header, rng.choice(("lora_A", "lora_B")))
    start, end = header[name]["data_offsets"]
    lame = {key: value for key, value in header.items() if key != name}
    changes: dict[str, bytes] = {
        "empty": b"",
        "seven bytes": b"\1\0\0\0\0\0\0",
        "a header of 2**60 bytes": (2**60).to_bytes(8, "little") + b"{}",
        "a header that is cut": _with_header(header, body)[:300],
        "a body that is cut": _with_header(header, body)[:-1000],
        "a header that is no JSON": _with_header(b"{nope", body),
        "a header that is a list": _with_header([1], body),
        "a header of no tensors": _with_header({}, b""),
        "a header, 100,000 deep": _with_header(b"[" * 100_000, body),
        "a half missing": _with_header(lame, body),
        "an unknown dtype": _with_header(header | {name: header[name] | {"dtype": "Q9"}}, body),
        "whole numbers": _with_header(header | {name: header[name] | {"dtype": "I16"}}, body),
        "a shape that is too large": _with_header(header | {name: header[name] | {"shape": [10**9, 10**9]}}, body),
        "a negative shape": _with_header(header | {name: header[name] | {"shape": [-1, 4]}}, body),
        "offsets beyond the end": _with_header(header | {name: header[name] | {"data_offsets": [0, 2**50]}}, body),
        "offsets backwards": _with_header(header | {name: header[name] | {"data_offsets": [end, start]}}, body),
        "names of nothing known": _with_header({f"x{i}": header[key] for i, key in enumerate(header)}, body),
        "not a number": _with_header(header, body[:start] + b"\xff" * (end - start) + body[end:]),
        "a pickle": b"\x80\x02}q\0.",
        "an HTML page": b"<!doctype html><html></html>",
    }
    what = rng.choice(list(changes))
    return what, changes[what]


def lora(rng: random.Random, folder: Path) -> Attempt:
    """The cases are missing too, which is noticed after the LoRA: a refusal that names them has accepted it."""
    what, data = lora_bytes(rng)
    write(folder / "l.safetensors", data)
    key = rng.choice(("student.init_from", "teachers.named.editor.adapter"))
    words = ("distill", "pocket", "--set", f"{key}=l.safetensors", "--set", "data.t2i=[{source: gone.jsonl}]")
    device = ("--set", "run.device=cpu", "--out", "out/run")
    return Attempt("lora", f"{key}: {what}", (*words, *device), told=("l.safetensors",))


# ---- model folders


def _broken_json(rng: random.Random, path: Path) -> str:
    what = rng.choice(("no JSON", "a list", "empty", "no UTF-8", "100,000 deep", "missing", "a folder"))
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what != "missing":
        texts = {
            "no JSON": b"{nope",
            "a list": b"[]",
            "empty": b"",
            "no UTF-8": b"\xff\xfe",
            "100,000 deep": b"[" * 10**5,
        }
        path.write_bytes(texts[what])
    return what


def _broken_weights(rng: random.Random, path: Path) -> str:
    header, body = _tensors(path)
    name = _first(header, ".weight")
    changes: dict[str, Callable[[], bytes]] = {
        "cut": lambda: path.read_bytes()[:-1000],
        "empty": lambda: b"",
        "a header that is no JSON": lambda: _with_header(b"{nope", body),
        "a tensor missing": lambda: _with_header({k: v for k, v in header.items() if k != name}, body),
        "a tensor renamed": lambda: _with_header({("x." if k == name else "") + k: v for k, v in header.items()}, body),
        "a tensor misshapen": lambda: _with_header(
            header | {name: header[name] | {"shape": [1, *header[name]["shape"]]}}, body
        ),
        "a pickle": lambda: b"\x80\x02}q\0.",
    }
    what = rng.choice(list(changes))
    data = changes[what]()
    path.unlink()
    path.write_bytes(data)
    return what


JSON_OF = ("model_index.json", "transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json")
WEIGHTS_OF = ("transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")


def model(rng: random.Random, folder: Path) -> Attempt:
    shutil.copytree(PACKAGE / "pocket/teacher", folder / "model", copy_function=shutil.copy)
    if rng.random() < 0.5:
        name = rng.choice((*JSON_OF, "text_encoder/config.json", "processor/tokenizer.json"))
        what = _broken_json(rng, folder / "model" / name)
    else:
        name = f"{rng.choice(WEIGHTS_OF)}.safetensors"
        what = _broken_weights(rng, folder / "model" / name)
    words = rng.choice(
        [("doctor", "model"), ("sample", "model", "-p", "a boat", "--steps", "1", "--size", "32x32", "--out", "o.png")]
    )
    return Attempt("model", f"{words[0]}: {name}: {what}", words)


# ---- galleries, verdicts, suites


def _lines(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the first record of a .jsonl file."""
    rows = path.read_text().splitlines()
    changed = change(json.loads(rows[0]))
    path.write_text("\n".join([changed if isinstance(changed, str) else json.dumps(changed), *rows[1:]]) + "\n")


ROW_CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "cut short": lambda row: json.dumps(row)[:40],
    "a list": lambda row: [row],
    "nothing of it": lambda row: {},
    "its case a number": lambda row: row | {"case": 3},
    "its seed text": lambda row: row | {"seed": "one"},
    "100,000 deep": lambda row: "[" * 100_000,
    "a number of 5,000 digits": lambda row: '{"case": ' + "9" * 5000 + "}",
}
MANIFEST_CHANGES = ROW_CHANGES | {
    "a file above": lambda row: row | {"file": "../../../secret.png"},
    "an absolute file": lambda row: row | {"file": "/etc/hostname"},
    "a file of no text": lambda row: row | {"file": 3},
    "an unknown status": lambda row: row | {"status": "painted"},
}
VERDICT_CHANGES = ROW_CHANGES | {
    "a score of 99": lambda row: row | {"score": 99.0},
    "a score of text": lambda row: row | {"score": "good"},
    "a score of NaN": lambda row: json.dumps(row | {"score": float("nan")}),
    "a score of true": lambda row: row | {"score": True},
    "an unknown status": lambda row: row | {"status": "fine"},
}


def gallery(rng: random.Random, folder: Path) -> Attempt:
    shutil.copytree(GALLERIES / "six", folder / "g")
    shutil.copytree(GALLERIES / "two", folder / "h")
    part = rng.choice(("manifest", "verdicts", "gallery", "suite"))
    words: tuple[str, ...] = ("bench", "measure", "g", "--metrics", "sanity", "--workers", "1")
    if part in ("verdicts", "gallery"):  # rank and compare do not look at the others
        words = rng.choice([("bench", "rank", "g", "h", "--judge", "probe"), ("bench", "compare", "g", "h")])
    if part == "manifest":
        what = rng.choice(list(MANIFEST_CHANGES))
        _lines(folder / "g/manifest.jsonl", MANIFEST_CHANGES[what])
    elif part == "verdicts":
        what = rng.choice(list(VERDICT_CHANGES))
        _lines(folder / "g/verdicts/probe.jsonl", VERDICT_CHANGES[what])
    else:
        file = folder / "g" / ("gallery.json" if part == "gallery" else "suite/suite.json")
        what = _broken_json(rng, file)
    needed = part != "suite" or what not in ("missing", "a folder")  # not by this metric
    return Attempt("gallery", f"{words[1]}: {part}: {what}", words, refused=needed)


MAKERS = {
    "cases": (case_row, case_picture, case_file, case_table, case_name, case_set),
    "lora": (lora,),
    "model": (model,),
    "gallery": (gallery,),
}
