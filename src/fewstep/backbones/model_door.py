"""What is refused of a model by its name and its index alone, before torch and diffusers are imported for it."""

from pathlib import Path

from fewstep.backbones.folder import folder_of, is_hub_id, read_json

BUNDLED = "pocket"


def refuse_no_model(source: str) -> None:
    """A hub id is not looked for here, since that may mean to download it.

    Raises:
        ModelError: no folder and no hub id, a run, a file, or a folder without a model_index.json that can be read.
    """
    if source == BUNDLED or (is_hub_id(source) and not Path(source).exists()):
        return
    read_json(folder_of(source) / "model_index.json")
