"""From trained weights to a student folder that the stock class opens and samples right by default.

"Right" is the grid the student was trained on (`grids.py`): the base's own scheduler would walk another one.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fewstep import durable
from fewstep.backbones.families import POCKET, family_of, pocket_folder
from fewstep.backbones.folder import SIGMAS_FILE, folder_of, read_json
from fewstep.errors import ExportError, ModelError
from fewstep.export import card
from fewstep.export.grids import carried
from fewstep.export.lora import Lora, write_lora
from fewstep.export.weights import write_full, write_merged
from fewstep.flow.sigmas import SigmaGrid

Kind = Literal["adapter", "full"]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_NOT_CARRIED = {"README.md", "model_index.json", "transformer", "scheduler", "lora", ".git", ".gitattributes", ".cache"}


def export_student(
    base: str | Path,
    state: Mapping[str, Tensor],
    kind: Kind,
    grid: SigmaGrid,
    to: str | Path,
    recipe_yaml: str,
    *,
    about: card.About,
    alpha: float | None = None,
    dtype: str = "bf16",
) -> Path:
    """The student folder: the base pipeline with the student's transformer, its grid, a model card and the recipe.

    Args:
        base: the base pipeline's folder (stock diffusers layout, safetensors) or hub id, or "pocket".
        state: an adapter's factors in peft naming (kind "adapter", merged in float32 and also written to lora/), or
            the transformer's whole state dict (kind "full").
        alpha: the adapter's alpha; its scale is alpha / rank.
        dtype: of the stored transformer, "bf16" or "fp32".

    Raises:
        ExportError: `to` is not empty, the family cannot carry its grid, or the state is not of this base.
        AdapterError: the adapter's keys or shapes do not fit.
        ModelError: the base folder is incomplete.
    """
    name, base, to = _named(base), folder_of(pocket_folder() if base == POCKET else base), Path(to)
    index, told = pipeline_index(base), carried(family_of(base), grid)
    if dtype not in DTYPES:
        raise ExportError(f"a student is stored as {' or '.join(DTYPES)}, not {dtype}")
    lora = _adapter(state, alpha) if kind == "adapter" else None
    with _appearing(to) as folder:
        _carry(base, folder)
        if lora is None:
            write_full(base / "transformer", folder / "transformer", state, DTYPES[dtype])
            rounding = 0.0
        else:
            rounding = write_merged(base / "transformer", folder / "transformer", lora, DTYPES[dtype]).relative
            write_lora(lora, folder / "lora")
        _write_json(folder / "model_index.json", index | told.index)
        _write_json(folder / "scheduler" / "scheduler_config.json", told.scheduler)
        for file, content in told.files.items():
            _write_json(folder / file, content)
        (folder / "recipe.yaml").write_text(recipe_yaml)
        facts = _facts(base, name, grid, about, dtype, lora, rounding)
        (folder / "README.md").write_text(card.student_card(facts, about))
    return to


def refuse_grid(base: str | Path, grid: SigmaGrid) -> None:
    """Asked before a student is trained that could not be shipped.

    Raises:
        ExportError: a student of `base` cannot carry `grid`.
        ModelError: the base is not there, or of no family of ours.
    """
    carried(family_of(folder_of(pocket_folder() if base == POCKET else base)), grid)


def export_lora(
    base: str | Path,
    state: Mapping[str, Tensor],
    grid: SigmaGrid,
    to: str | Path,
    recipe_yaml: str,
    *,
    about: card.About,
    alpha: float | None = None,
) -> Path:
    """Only the adapter: a small folder with the LoRA file, the scheduler and the grid it needs, card and recipe. It is
    run on the base with `load_lora_weights`, and `sigmas=` at every call."""
    name, base, to = _named(base), folder_of(pocket_folder() if base == POCKET else base), Path(to)
    told = carried(family_of(base), grid)
    lora = _adapter(state, alpha)
    with _appearing(to) as folder:
        write_lora(lora, folder)
        _write_json(folder / "scheduler" / "scheduler_config.json", told.scheduler)
        _write_json(folder / SIGMAS_FILE, list(grid))
        (folder / "recipe.yaml").write_text(recipe_yaml)
        facts = _facts(base, name, grid, about, "fp32", lora, 0.0)
        (folder / "README.md").write_text(card.lora_card(facts, about))
        _copy_licences(base, folder)
    return to


def _named(base: str | Path) -> str:
    return "fewstep's pocket teacher" if base == POCKET else Path(base).name


def pipeline_index(folder: Path) -> dict[str, Any]:
    """model_index.json of a pipeline folder.

    Raises:
        ModelError: missing, or of no family of ours.
    """
    family_of(folder)
    return read_json(folder / "model_index.json")


def _facts(
    base: Path, name: str, grid: SigmaGrid, about: card.About, dtype: str, lora: Lora | None, rounding: float
) -> card.Facts:
    family, pipeline = family_of(base), pipeline_index(base)["_class_name"]
    scheduler = carried(family, grid).scheduler
    usage = card.Usage(
        pipeline, family.classes_of(pipeline), family.student_call(len(grid), about.size), scheduler["shift"]
    )
    return card.Facts(name, usage, grid, dtype, lora, rounding, card.licence_of(base))


def _adapter(state: Mapping[str, Tensor], alpha: float | None) -> Lora:
    if alpha is None:
        raise ExportError("an adapter is exported with its alpha: without it the update would be scaled wrongly")
    return Lora.of(state, alpha)


@contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    """A folder that is written beside `to` and renamed onto it: there is a whole student or none."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ExportError(f"{to} is not an empty folder, and nothing is overwritten; give another place")
    beside = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        yield beside
        if to.exists():
            to.rmdir()
        os.replace(beside, to)
    except OSError as error:
        raise durable.refusal(to, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _carry(base: Path, folder: Path) -> None:
    """Everything that distillation leaves as it is: VAE, text encoder, processor, licence, the transformer's config."""
    skip = shutil.ignore_patterns(".git", ".cache", "*.tmp", "*.bin", "*.ckpt", "__pycache__")
    for part in sorted(base.iterdir()):
        if part.name in _NOT_CARRIED or part.name.startswith("."):
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
