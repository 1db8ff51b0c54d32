"""Which world a pocket pipeline was made for: its tokenizer has each phrase of that world as one word."""

import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from fewstep.runtime.errors import ModelError


def tokenizer_words(pipeline: Path) -> set[str]:
    """The words of a pocket pipeline's tokenizer; none if it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return {*json.loads((pipeline / "processor" / "tokenizer.json").read_bytes())["model"]["vocab"]}
    return set()


def refuse_other_world(pipeline: Path, words: Collection[str], world: str) -> None:
    """What is no pipeline folder is left to who opens it.

    Raises:
        ModelError: the pipeline lacks words of this world, so it would read its prompts as bytes.
    """
    if (pipeline / "model_index.json").is_file() and not tokenizer_words(pipeline).issuperset(words):
        raise ModelError(
            f"{pipeline}: its words are not those of the {world} world; choose the --world that it was made for, or "
            f"give a model of the {world} world"
        )
