"""Which pocket world a model draws."""

from pathlib import Path

from fewstep.backbones.conditioning_estimate import local_file
from fewstep.pocket.known_world import KnownWorld
from fewstep.pocket.known_worlds import WORLDS
from fewstep.pocket.world_words import TOKENIZER, tokenizer_words


def world_of_model(model: str | Path) -> KnownWorld | None:
    """The world whose words a model (a folder, a hub id, an embedded one's name) reads: that of a pocket teacher, or of
    a student of one. None of any other. Nothing is downloaded for it: of a hub id that is not on this machine the
    answer is None."""
    file = local_file(model, TOKENIZER)
    words = {} if file is None else tokenizer_words(file.parents[1])
    return next((world for world in WORLDS.values() if words == world.vocabulary()), None)
