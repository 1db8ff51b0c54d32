"""The models that come with the package, by the names that stand for them wherever a folder or a hub id may stand.

Without torch: refusals that cost nothing read this too.
"""

from pathlib import Path

import fewstep
from fewstep.backbones.folder import folder_of
from fewstep.flow.guidance import Guidance
from fewstep.runtime.errors import ModelError
from fewstep.runtime.task import Task

POCKET = "pocket"
HARDER = "pocket-harder"
_FOLDERS = {POCKET: "pocket/teacher", HARDER: "pocket/harder/teacher"}
EMBEDDED = tuple(_FOLDERS)
# Heights and widths in px that they were trained at; the first is what they draw by default.
TRAINED_SIZES: dict[str, tuple[tuple[int, int], ...]] = {
    POCKET: ((64, 64),),
    HARDER: ((96, 96), (128, 96), (96, 128), (128, 128)),
}
# What they are sampled with, as their recipes distil them: their captions were careless, their family's were not.
POCKET_GUIDANCE: dict[Task, Guidance] = {"t2i": Guidance(3.0), "edit": Guidance(2.5)}


def embedded_folder(name: str) -> Path:
    """The folder of an embedded model, inside the package, whether or not this installation has it."""
    return Path(fewstep.__file__).parent / _FOLDERS[name]


def is_embedded(source: str | Path) -> bool:
    """Whether this is one of their names. A folder of that name is given as ./NAME."""
    return str(source) in EMBEDDED and not isinstance(source, Path)


def model_folder(source: str | Path) -> Path:
    """The folder of a model: a folder, a hub id, or an embedded model's name.

    Raises:
        ModelError: not found, or missing from this installation.
    """
    if not is_embedded(source):
        return folder_of(source)
    folder = embedded_folder(str(source))
    if not folder.is_dir():
        raise ModelError(f"the embedded model is missing from {folder}. Install fewstep again")
    return folder
