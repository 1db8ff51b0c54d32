"""Writes a student folder that the stock class opens, and samples by default on the grid the student was trained on.

The base's own scheduler would sample on another grid (`export/grids.py`).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from fewstep.backbones.embedded import is_embedded, model_folder
from fewstep.backbones.families import family_of, model_shapes
from fewstep.backbones.folder import (
    SIGMAS_FILE,
    read_index,
    read_json,
)
from fewstep.backbones.licences import inherited_licence
from fewstep.export import card, comfyui
from fewstep.export.graphs import ComfyUIBase
from fewstep.export.grids import GridSettings, grid_settings
from fewstep.export.leftovers import disown, owned
from fewstep.export.lora import (
    PLAIN_FOLDER,
    Lora,
    LoraFiles,
    write_comfyui_lora,
    write_lora,
    write_plain_lora,
)
from fewstep.export.single_file import write_single_file
from fewstep.export.weights import write_full, write_merged
from fewstep.flow.sigmas import SigmaGrid
from fewstep.lora.keys import to_diffusers_names
from fewstep.runtime import durable
from fewstep.runtime.errors import ExportError, ModelError

StudentKind = Literal["adapter", "full"]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_NOT_CARRIED = {"README.md", "model_index.json", "transformer", "scheduler", "lora", PLAIN_FOLDER, comfyui.FOLDER}

STOCK_EDIT_AREA = 1024 * 1024  # px at which the stock classes draw an edit, in its reference's shape, when none is told


@dataclass(frozen=True)
class StudentWeights:
    """
    Args:
        state: an adapter's factors in peft naming (kind "adapter"), or the transformer's whole state dict ("full").
        alpha: the adapter's alpha; its scale is alpha / rank.
    """

    state: Mapping[str, Tensor]
    kind: StudentKind
    alpha: float | None = None


@dataclass(frozen=True)
class ExportOptions:
    """
    Args:
        dtype: of the stored weights, "bf16" or "fp32". None means bf16 for a whole student and fp32 for a LoRA.
        files: the LoRA files to write; None means one for diffusers. If the LoRA is cut down, the merged weights
            contain the same update.
        single_file: whether the transformer is also written as the one file that ComfyUI loads.
    """

    dtype: str | None = None
    files: LoraFiles | None = None
    single_file: bool = False


DEFAULT_OPTIONS = ExportOptions()


def export_student(
    base: str | Path,
    weights: StudentWeights,
    grid: SigmaGrid,
    to: str | Path,
    recipe_yaml: str,
    about: card.StudentInfo,
    options: ExportOptions = DEFAULT_OPTIONS,
    warn: Callable[[str], None] = lambda text: None,
) -> Path:
    """Writes a student folder: the base pipeline with the student's transformer, its grid, a model card and the recipe.

    Args:
        base: the base pipeline's folder (stock diffusers layout, safetensors) or hub id, or "pocket".
        weights: an adapter is merged in float32, and also written as a LoRA.
        warn: takes a line if rounding the weights was large beside what was learnt.

    Raises:
        ExportError: `to` is not empty, the family cannot carry its grid, ComfyUI's names for it are not known, or the
            state is not of this base.
        AdapterError: the adapter's keys or shapes do not fit.
        ModelError: the base folder is incomplete.
    """
    source, to = _Source.of(base, grid, about), Path(to)
    base, dtype, files = source.folder, options.dtype or "bf16", options.files or LoraFiles()
    settings = source.settings
    if dtype not in DTYPES:
        raise ExportError(f"a student is stored as {' or '.join(DTYPES)}, not {dtype}")
    if weights.kind == "full" and options.files is not None:
        raise ExportError(
            "this student has weights of its own, so there is no LoRA to write; leave --lora and --svd-rank out "
            "(for ComfyUI there is --single-file)"
        )
    if options.single_file:
        comfyui.refuse_unknown(model_shapes(base).linear_shapes, family_of(base).family)
    lora = _adapter(weights, files, base) if weights.kind == "adapter" else None
    with _new_folder(to) as folder:
        _copy_base(base, folder)
        if lora is None:
            rounding = write_full(base / "transformer", folder / "transformer", weights.state, DTYPES[dtype])
        else:
            rounding = write_merged(base / "transformer", folder / "transformer", lora, DTYPES[dtype])
            _write_adapter(lora, source, files, folder, "lora")
        for file, content in family_of(base).student_files(base, settings.index).items():
            _write_json(folder / file, content)
        _write_json(folder / "scheduler" / "scheduler_config.json", settings.scheduler)
        for file, content in settings.files.items():
            _write_json(folder / file, content)
        (folder / "recipe.yaml").write_text(recipe_yaml)
        if options.single_file:
            unet = comfyui.MODEL_FILE.format(name=about.name)
            write_single_file(folder / "transformer", folder / comfyui.FOLDER / unet)
            _write_workflows(source, folder, unet=unet)
        stored = card.Stored(dtype, rounding.relative, rounding.is_large, options.single_file)
        facts = _facts(source, stored, lora, files)
        (folder / "README.md").write_text(card.student_card(facts, about))
    if rounding.is_large:
        shipped = "ship the LoRA instead (--form adapter), or" if lora is not None else "take"
        warn(
            f"the update is so small that rounding to {dtype} changes the weights {rounding.relative:.0%} as much as "
            f"it does (by norm), and pictures lose some of what was learnt: {shipped} --dtype fp32"
        )
    return to


def refuse_grid(base: str | Path, grid: SigmaGrid) -> None:
    """Refuses a grid before a student is trained that could not be exported with it.

    Raises:
        ExportError: the stock pipeline of `base` cannot sample on `grid`.
        ModelError: the base does not exist, or is of an unknown family.
    """
    grid_settings(family_of(model_folder(base)), grid)


def export_lora(
    base: str | Path,
    weights: StudentWeights,
    grid: SigmaGrid,
    to: str | Path,
    recipe_yaml: str,
    about: card.StudentInfo,
    options: ExportOptions = DEFAULT_OPTIONS,
) -> Path:
    """Writes the adapter only: a small folder with the LoRA, the scheduler and the grid it needs, card and recipe.

    It is used on the base with `load_lora_weights`, and with the arguments that the card lists at every call.

    Raises:
        ExportError, AdapterError, ModelError: as `export_student`.
    """
    source, to = _Source.of(base, grid, about), Path(to)
    dtype, files, settings = options.dtype or "fp32", options.files or LoraFiles(), source.settings
    if dtype not in DTYPES:
        raise ExportError(f"a LoRA is stored as {' or '.join(DTYPES)}, not {dtype}")
    lora = _adapter(weights, files, source.folder)
    with _new_folder(to) as folder:
        _write_adapter(lora, source, files, folder, ".", DTYPES[dtype])
        _write_json(folder / "scheduler" / "scheduler_config.json", settings.scheduler)
        _write_json(folder / SIGMAS_FILE, list(grid))
        (folder / "recipe.yaml").write_text(recipe_yaml)
        facts = _facts(source, card.Stored(dtype), lora, files)
        (folder / "README.md").write_text(card.lora_card(facts, about))
        _copy_licences(source.folder, folder)
    return to


@dataclass(frozen=True)
class _Source:
    """What a student is made from: the base's folder and name, the grid, and what its trainer knows about it."""

    folder: Path
    name: str
    grid: SigmaGrid
    about: card.StudentInfo

    @classmethod
    def of(cls, base: str | Path, grid: SigmaGrid, about: card.StudentInfo) -> "_Source":
        name = f"fewstep's {base} teacher" if is_embedded(base) else Path(base).name
        return cls(model_folder(base), name, grid, about)

    @property
    def settings(self) -> GridSettings:
        return grid_settings(family_of(self.folder), self.grid)


def pipeline_index(folder: Path) -> dict[str, Any]:
    """The index of a pipeline folder.

    Raises:
        ModelError: it is missing, or of an unknown family.
    """
    family_of(folder)
    return read_index(folder)


def _facts(source: _Source, stored: card.Stored, lora: Lora | None, files: LoraFiles) -> card.ExportInfo:
    base, grid, size = source.folder, source.grid, source.about.size
    family, pipeline = family_of(base), pipeline_index(base)["_class_name"]
    classes = family.task_pipelines(pipeline)
    usage = card.Usage(
        pipeline,
        classes,
        {task: family.student_call(len(grid), size, task) for task in classes},
        {task: family.lora_call(list(grid), size, task) for task in classes},
        source.settings.scheduler["shift"],
        family.fixed_edit_size(size) is None and size[0] * size[1] != STOCK_EDIT_AREA,
        hasattr(family.pipelines[pipeline], "load_lora_weights"),
        family.blocks,
        family.left_out_blocks,
    )
    inherited = inherited_licence(base, family.makers_licence(read_json(base / "transformer" / "config.json")))
    return card.ExportInfo(source.name, usage, grid, stored, lora, inherited, files)


def _adapter(weights: StudentWeights, files: LoraFiles, base: Path) -> Lora:
    if files.for_comfyui:
        comfyui.refuse_unknown(model_shapes(base).linear_shapes, family_of(base).family)
    if "plain" in files.programs:
        comfyui.refuse_unread(model_shapes(base).linear_shapes)
    if weights.alpha is None:
        raise ExportError("an adapter is exported with its alpha: without it the update would be scaled wrongly")
    whole = Lora.of(weights.state, weights.alpha)
    return whole if files.svd_rank is None else whole.of_rank(files.svd_rank)


def _write_adapter(
    lora: Lora, source: _Source, files: LoraFiles, folder: Path, place: str, dtype: torch.dtype = torch.float32
) -> None:
    """Writes the LoRA for each program: that of diffusers into `place`, the others into folders of their own; and
    ComfyUI's noise levels and graphs."""
    shapes = model_shapes(source.folder).linear_shapes
    to_diffusers_names(lora.updates, shapes, "the adapter")  # refuses what the base does not have
    if "diffusers" in files.programs:
        write_lora(lora, folder / place, dtype)
    file = comfyui.LORA_FILE.format(name=source.about.name)
    if "comfyui" in files.programs:
        write_comfyui_lora(lora, folder / comfyui.FOLDER / file, shapes, dtype)
    if "plain" in files.programs:
        write_plain_lora(lora, folder / PLAIN_FOLDER / file, dtype)
    if files.for_comfyui:
        _write_workflows(source, folder, lora=file)


def _write_workflows(source: _Source, folder: Path, **weights: str) -> None:
    """Writes ComfyUI's graphs. weights: the file name of `lora` or `unet`."""
    base, size = source.folder, source.about.size
    pipeline = pipeline_index(base)["_class_name"]
    settings = ComfyUIBase(pipeline, bool(read_json(base / "transformer" / "config.json").get("zero_cond_t")))
    tasks = family_of(base).task_pipelines(pipeline)
    comfyui.write_workflows(folder / comfyui.FOLDER, settings, tasks, source.grid.sigmas, size, **weights)


@contextmanager
def _new_folder(to: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `to` at the end. So there is a complete student or none."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ExportError(f"{to} is not an empty folder, and nothing is overwritten; give another place")
    beside = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        with owned(beside):
            yield beside
            disown(beside)
            if to.exists():
                to.rmdir()
            os.replace(beside, to)
    except (OSError, SafetensorError) as error:
        raise durable.refusal(to, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _copy_base(base: Path, folder: Path) -> None:
    """Copies what distillation does not change: VAE, text encoder, processor, licence, the transformer's config."""
    not_carried = _NOT_CARRIED | set(family_of(base).not_carried)
    skip = shutil.ignore_patterns(".git", ".cache", "*.tmp", "*.bin", "*.ckpt", "__pycache__")
    for part in sorted(base.iterdir()):
        if part.name in not_carried or part.name.startswith("."):
            continue
        if part.is_dir():
            shutil.copytree(part, folder / part.name, ignore=skip)
        elif part.suffix not in (".safetensors", ".bin", ".ckpt", ".py"):
            shutil.copy2(part, folder / part.name)
    (folder / "transformer").mkdir()
    try:
        shutil.copy2(base / "transformer" / "config.json", folder / "transformer" / "config.json")
    except FileNotFoundError as error:
        raise ModelError(f"{base} has no transformer/config.json; it is not a whole pipeline folder") from error


def _copy_licences(base: Path, folder: Path) -> None:
    for path in base.iterdir():
        if path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")):
            shutil.copy2(path, folder / path.name)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
