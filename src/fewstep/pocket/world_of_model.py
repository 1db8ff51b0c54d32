"""Which pocket world a model draws."""

from pathlib import Path

from fewstep.backbones.conditioning_estimate import local_file
from fewstep.pocket import vocabulary
from fewstep.pocket.harder import vocabulary as harder_vocabulary
from fewstep.pocket.world_words import TOKENIZER, tokenizer_words

VOCABULARIES = {"pocket": vocabulary.vocabulary, "harder": harder_vocabulary.vocabulary}


def world_of_model(model: str | Path) -> str | None:
    """The world whose words a model (a folder, a hub id, an embedded one's name) reads: "pocket" or "harder" of their
    teachers, and of students of these. None of any other. Nothing is downloaded for it: of a hub id that is not on this
    machine the answer is None."""
    file = local_file(model, TOKENIZER)
    words = {} if file is None else tokenizer_words(file.parents[1])
    return next((world for world, vocabulary in VOCABULARIES.items() if words == vocabulary()), None)
