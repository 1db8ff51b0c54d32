"""Model folders with one thing wrong each: are they refused, and how long does that take?

A tiny folder of each family is saved by its stock classes. One value of a config or of model_index.json, or one entry
of a header, is replaced, removed or renamed. What passes the check is loaded, because a change may be harmless (the
name of who wrote a file). Tracebacks, and refusals that come late or take long, are printed. Exits with 1 if there was
one.

    PYTHONPATH=. python benchmarks/malformed_models.py --count 300 --seed 1
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from fewstep.backbones.families import family_of, load_backbone
from fewstep.backbones.testing import tiny_flux2_klein, tiny_qwen_image, tiny_qwen_image_21
from fewstep.runtime.errors import FewstepError

SLOW = 3.0  # s of CPU
PIPELINES: tuple[Callable[[], Any], ...] = (
    tiny_qwen_image_21.qwen_image_21_pipeline,
    tiny_qwen_image.qwen_image_edit_pipeline,
    tiny_flux2_klein.flux2_klein_pipeline,
)
CONFIGS = ("config.json", "model_index.json", "scheduler_config.json")
VALUES: tuple[Any, ...] = (
    *(None, -1, 0, 1, 3, 7, 10**6, 10**12, 1.5, float("nan"), True, False),
    *("x", "", "../..", "bfloat16", [], {}, [None], [1, 2, 3], [[1]], {"a": 1}),
)
SHAPES: tuple[Any, ...] = ([], [1], [2**40, 2], [-1], "x")
DTYPES = ("I32", "F8_E4M3", "BOOL", "F64", "U8", "F4", "XX")
OFFSETS: tuple[Any, ...] = ([0, 1], [5, 3], [0, 0], ["a", 1], None)


def keys_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from keys_of(part, (*path, key))


def change_json(folder: Path, rng: random.Random) -> str:
    file = rng.choice([path for path in sorted(folder.rglob("*.json")) if path.name in CONFIGS])
    content = json.loads(file.read_text())
    path = rng.choice(list(keys_of(content)))
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    if rng.random() < 0.2 and isinstance(holder, dict):
        del holder[path[-1]]
        said = "removed"
    else:
        holder[path[-1]] = rng.choice(VALUES)
        said = repr(holder[path[-1]])
    file.write_text(json.dumps(content))
    return f"{file.relative_to(folder)} {'.'.join(map(str, path))}: {said}"


def change_header(folder: Path, rng: random.Random) -> str:
    file = rng.choice(sorted(folder.rglob("*.safetensors")))
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = rng.choice(sorted(header.keys() - {"__metadata__"}))
    how = rng.choice(("dtype", "shape", "data_offsets", "removed", "renamed", "entry", "length"))
    choices = {"dtype": DTYPES, "shape": SHAPES, "data_offsets": OFFSETS}
    if how in choices:
        header[name][how] = rng.choice(choices[how])
    elif how == "entry":
        header[name] = rng.choice(VALUES)
    else:
        entry = header.pop(name)
        header |= {f"{name}.x": entry} if how == "renamed" else {}
    text = json.dumps(header).encode()
    start = rng.randbytes(8) if how == "length" else len(text).to_bytes(8, "little")
    file.write_bytes(start + text + content[8 + length :])
    return f"{file.relative_to(folder)} {how} of {name}"


def end_of(folder: Path) -> str:
    """How checking a folder ends, and if it passes, loading it."""
    stage = "checking"
    try:
        family_of(folder).inspect(folder)
        stage = "loading"
        load_backbone(folder, dtype=torch.float32)
        return "harmless"
    except FewstepError:
        return "refused" if stage == "checking" else "refused late"
    except Exception as error:
        return f"{stage} ends in {type(error).__name__}: {str(error)[:100]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    rng, ends, longest = random.Random(asked.seed), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as place:
        for number, pipeline in enumerate(PIPELINES):
            pipeline().save_pretrained(Path(place) / str(number))
        for _ in range(asked.count):
            folder = Path(place) / "changed"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(Path(place) / str(rng.randrange(len(PIPELINES))), folder)
            said = (change_json if rng.random() < 0.7 else change_header)(folder, rng)
            begun = time.process_time()
            end = end_of(folder)
            seconds = time.process_time() - begun
            longest = max(longest, seconds)
            expected = end in ("refused", "harmless") and seconds < SLOW
            ends[end if end in ("refused", "harmless", "refused late") else "traceback"] += 1
            if not expected:
                print(f"{said}: {end}, {seconds:.1f} s")
    print(f"{dict(ends)}; the longest took {longest:.1f} s of CPU")
    return int(bool(ends.keys() - {"refused", "harmless"}) or longest >= SLOW)


if __name__ == "__main__":
    sys.exit(main())
