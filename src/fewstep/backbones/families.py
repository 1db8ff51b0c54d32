"""Which family a model belongs to, by the class its model_index.json names. A new family is an entry of KNOWN, or
another package's (docs/extending.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.embedded import POCKET, embedded_folder, model_folder
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.folder import (
    header_of,
    read_index,
    weight_files,
)
from fewstep.backbones.longcat_image import LongCatImage
from fewstep.backbones.pipeline_backbone import Parts, PipelineBackbone
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.z_image import ZImage
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.base_weight_kinds import BaseWeights
from fewstep.runtime.device import check_device
from fewstep.runtime.errors import ModelError
from fewstep.runtime.plugins import ExtensionPoint

KNOWN: tuple[type[PipelineBackbone], ...] = (QwenImage21, QwenImage, Flux2Klein, ZImage, LongCatImage, Flux3Klein)
FAMILIES: dict[str, type[PipelineBackbone]] = {name: family for family in KNOWN for name in family.pipelines}


def _problem(name: str, thing: object) -> str | None:
    if not (isinstance(thing, type) and issubclass(thing, PipelineBackbone)):
        return "is no subclass of PipelineBackbone"
    if lacking := sorted(getattr(thing, "__abstractmethods__", ())):
        return f"does not define {', '.join(lacking)}"
    if name not in getattr(thing, "pipelines", {}):
        return f"has no pipeline class {name!r} in its `pipelines`"
    if "edit_size" in vars(thing):
        return "defines edit_size; define size_of_edit in its place, which training and sampling both ask"
    taken = next((own for own in KNOWN if own.family == getattr(thing, "family", None) and own is not thing), None)
    return f"calls its family {taken.family!r}, as one of fewstep's own does" if taken else None


MODEL_FAMILIES: ExtensionPoint[type[PipelineBackbone]] = ExtensionPoint(
    "fewstep.families", "model family", _problem, FAMILIES
)


def refuse_unusable_model(source: str | Path, parts: Parts = "all") -> None:
    """Checks the files of a folder, a hub id, or an embedded model's name as `load_backbone` does. No weight is read.

    Raises:
        ModelError: as `load_backbone`.
    """
    folder = model_folder(source)
    family_of(folder).inspect(folder, parts)


@dataclass(frozen=True)
class ModelShapes:
    """What the headers of a model's files tell: its family, and the shape of every tensor of its transformer."""

    family: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def linear_shapes(self) -> dict[str, tuple[int, ...]]:
        """(out, in) of every module whose weight is a matrix, by module name."""
        matrices = {name: shape for name, shape in self.shapes.items() if len(shape) == 2}
        return {n.removesuffix(".weight"): shape for n, shape in matrices.items() if n.endswith(".weight")}


def model_shapes(source: str | Path) -> ModelShapes:
    """The shapes of a folder, a hub id, or an embedded model's name. No weight is read.

    Raises:
        ModelError: as `load_backbone`.
    """
    folder = model_folder(source)
    family = family_of(folder)
    files = weight_files(folder / "transformer", "diffusion_pytorch_model")
    shapes = {name: tuple(entry["shape"]) for file in files for name, entry in header_of(file).items()}
    return ModelShapes(family.family, shapes)


@dataclass(frozen=True)
class ModelSummary:
    """What a model's files tell about conditioning, without loading a weight.

    Args:
        fingerprint: keys the conditioning store.
        guidance: the guidance that its makers sample with.
        steps: as many as they sample with.
    """

    fingerprint: str
    guidance: Guidance
    steps: int


def model_summary(source: str | Path) -> ModelSummary:
    """The summary of a folder, a hub id, or an embedded model's name. The loaded backbone would give the same values.

    Raises:
        ModelError: as `load_backbone`.
    """
    folder = model_folder(source)
    family = family_of(folder)
    return ModelSummary(family.fingerprint_in(folder), *family.default_sampling(read_index(folder)))


@dataclass(frozen=True)
class StockLevels:
    """Which noise levels a model's own pipeline would sample at.

    Args:
        student: the grid of a student of the given number of steps (`PipelineBackbone.student_levels`).
        time_shift: the shift in the number of steps that the makers take, which are `default_steps`.
        terminal: the scheduler's `shift_terminal`, which neither of the two follows.
    """

    student: SigmaGrid
    time_shift: float
    default_steps: int
    terminal: float | None


def stock_levels(source: str | Path, size: tuple[int, int], steps: int) -> StockLevels:
    """The levels of a model (a folder, a hub id, an embedded one's name) at a size in px (height, width). No weight is
    read.

    Raises:
        ModelError: as `load_backbone`. RecipeError: a scheduler with settings that are not supported here.
    """
    folder = model_folder(source)
    family, index = family_of(folder), read_index(folder)
    scheduler = family.scheduler_in(folder)
    return levels_of(family, index, scheduler, size, steps)


def levels_of(
    family: type[PipelineBackbone],
    index: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    size: tuple[int, int],
    steps: int,
) -> StockLevels:
    """The levels by what the model's files say: its model_index.json and its scheduler's config."""
    side, usual = family.pixels_per_token, family.default_sampling(index)[1]
    tokens = (size[0] // side) * (size[1] // side)
    return StockLevels(
        family.student_levels(index, scheduler, steps, tokens),
        family.scheduler_shift(scheduler, usual, tokens),
        usual,
        scheduler.get("shift_terminal"),
    )


def adapter_path(source: str) -> Path:
    """The path of a teacher's LoRA. pocket:NAME is one of the embedded ones; anything else is a path.

    Raises:
        ModelError: no embedded one of that name.
    """
    if not source.startswith(f"{POCKET}:"):
        return Path(source)
    folder = embedded_folder(POCKET).parent / "specialists"
    path = folder / f"{source.removeprefix(f'{POCKET}:')}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(f"{POCKET}:{file.stem}" for file in folder.glob("*.safetensors")))
        raise ModelError(f"{source} is no embedded LoRA; there are: {known or 'none in this installation'}")
    return path


def load_backbone(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    parts: Parts = "all",
    base_weights: BaseWeights = "precision",
) -> Backbone:
    """The model of a folder, a hub id, or an embedded model's name.

    Args:
        parts: which parts to load (`pipeline_backbone.LOADED`).
        base_weights: how the weights of its blocks are held.

    Raises:
        ModelError: not found, of an unknown family, incomplete, pickled, or with weights that are not its classes'.
        EnvironmentRefused: the device or the dtype is not available here.
    """
    check_device(dtype, device)
    folder = model_folder(source)
    backbone = family_of(folder).load(folder, dtype, device, parts, base_weights)
    backbone.source = str(source)  # what the user called it, not where the hub's cache put it
    return backbone


def family_of_model(source: str | Path) -> type[PipelineBackbone]:
    """The family of a folder, a hub id, or an embedded model's name.

    Raises:
        ModelError: as `load_backbone`.
    """
    return family_of(model_folder(source))


def family_of(folder: Path) -> type[PipelineBackbone]:
    """The family whose pipeline class the folder names.

    Raises:
        ModelError: none that is known here. PluginError: another package's, and it cannot be used.
    """
    name = str(read_index(folder).get("_class_name"))
    found = MODEL_FAMILIES.find(name)
    if found is None:
        known = ", ".join(sorted(MODEL_FAMILIES.names()))
        raise ModelError(f"{folder} names the class {name}; the families that fewstep knows are: {known}")
    return found


def empty_transformer(source: str | Path) -> nn.Module:
    """The transformer of a model (a folder, a hub id, an embedded one's name) on the meta device: its modules and
    shapes, no weight.

    Raises:
        ModelError: as `load_backbone`.
    """
    folder = model_folder(source)
    stock = family_of(folder).transformer_class
    with torch.device("meta"):
        made: nn.Module = stock.from_config(stock.load_config(folder / "transformer"))
    return made
