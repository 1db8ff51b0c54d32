"""Which world a pocket pipeline was made for: its tokenizer has each phrase of that world as one word."""

import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from fewstep.runtime.errors import ModelError

TOKENIZER = "processor/tokenizer.json"
MOST_BYTES = 1_000_000  # of a tokenizer file; those of large models have more


def tokenizer_words(pipeline: Path) -> dict[str, int]:
    """The words of a pocket pipeline's tokenizer with their ids; none if it cannot be read, or is a large model's."""
    file = pipeline / TOKENIZER
    with suppress(OSError, ValueError, KeyError, TypeError):
        if not is_large_tokenizer(file):
            return dict(json.loads(file.read_bytes())["model"]["vocab"])
    return {}


def is_large_tokenizer(file: Path) -> bool:
    """Whether it is one of a large model, which is not read here."""
    return file.is_file() and file.stat().st_size >= MOST_BYTES


def refuse_other_world(pipeline: Path, words: Collection[str], world: str) -> None:
    """What is no pipeline folder is left to who opens it.

    Raises:
        ModelError: the pipeline lacks words of this world, so it would read its prompts as bytes; or it has none that
            can be read.
    """
    if not (pipeline / "model_index.json").is_file():
        return
    found = tokenizer_words(pipeline)
    if not found and (pipeline / TOKENIZER).is_file() and not is_large_tokenizer(pipeline / TOKENIZER):
        raise ModelError(f"{pipeline / TOKENIZER} cannot be read; copy or export the folder again")
    if not found.keys() >= set(words):
        raise ModelError(
            f"{pipeline}: its words are not those of the {world} world; choose the --world that it was made for, or "
            f"give a model of the {world} world"
        )
