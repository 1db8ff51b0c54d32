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
        if file.stat().st_size < MOST_BYTES:
            return dict(json.loads(file.read_bytes())["model"]["vocab"])
    return {}


def refuse_other_world(pipeline: Path, words: Collection[str], world: str) -> None:
    """What is no pipeline folder is left to who opens it.

    Raises:
        ModelError: the pipeline lacks words of this world, so it would read its prompts as bytes.
    """
    if (pipeline / "model_index.json").is_file() and not tokenizer_words(pipeline).keys() >= set(words):
        raise ModelError(
            f"{pipeline}: its words are not those of the {world} world; choose the --world that it was made for, or "
            f"give a model of the {world} world"
        )
