"""What is refused of a model by its small files alone, before torch and diffusers are imported for it."""

from pathlib import Path

from fewstep.backbones.embedded import is_embedded
from fewstep.backbones.folder import folder_of, header_of, is_hub_id, read_index, read_json
from fewstep.runtime.errors import ModelError


def refuse_no_model(source: str, whole: bool = False) -> None:
    """A hub id is not looked for here, since that may mean to download it.

    Args:
        whole: all of its parts will be loaded: their configs and the headers of their weights are read, where they are
            there. What is missing is told by whoever knows the family.

    Raises:
        ModelError: no folder and no hub id, a run, a file, or a folder whose files cannot be read.
    """
    if is_embedded(source) or (is_hub_id(source) and not Path(source).exists()):
        return
    folder = folder_of(source)
    index = read_index(folder)
    for part in [folder / name for name in index if whole and (folder / name).is_dir()]:
        if (part / "config.json").is_file():
            read_json(part / "config.json")
        for file in sorted(part.glob("*.safetensors")):
            _refuse_no_header(file)


def _refuse_no_header(file: Path) -> None:
    try:
        header_of(file)
    except RecursionError as error:
        raise ModelError(f"{file} is not a whole safetensors file (its header). Copy or download it again") from error
