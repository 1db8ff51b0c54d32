"""The model card: what a user must know to run a student, and under which licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from fewstep import __version__
from fewstep.backbones.licences import InheritedLicence, Licence
from fewstep.export import comfyui
from fewstep.export.lora import PLAIN_FOLDER, WEIGHT_FILE, Lora, LoraFiles
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.task import Task

WeightsKind = Literal["average", "raw"]  # the moving average of the student, or the student itself

FAILINGS = (
    "Flat areas (walls, skies) can carry slight noise that the base does not show.",
    "Small or dense text is less exact than the base's.",
    "Pictures of one prompt differ less from seed to seed than the base's.",
    "Sampled at any other noise levels than the list above, or with guidance, the pictures break.",
)


@dataclass(frozen=True)
class StudentInfo:
    """What only the one who trained the student knows.

    Args:
        tasks: the number of training samples of each task.
        measured: figure -> value as text, for the card's table.
        size: height and width in px that it was trained for.
        base_name: the hub id of the base, if it has one.
        learned_from: what it was initialised from and was taught by, beside the base.
        iteration: of the run, after which its weights were saved; None if it is of no run.
        weights: which of that iteration's weights it has.
    """

    name: str
    size: tuple[int, int]
    base_name: str | None = None
    recipe_name: str = ""
    tasks: Mapping[str, int] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    failings: tuple[str, ...] = FAILINGS
    learned_from: tuple[str, ...] = ()
    iteration: int | None = None
    weights: WeightsKind = "average"


@dataclass(frozen=True)
class Usage:
    """How stock diffusers is called.

    Args:
        classes: the stock class of each task.
        calls: the arguments of a call of each task, beside prompt, pictures and size.
        lora_calls: the same for the base with a LoRA.
        shift: that of the folder's scheduler.
        sized_edits: whether the call of an edit is given a size. Where the stock class draws at the student's area by
            itself, it gives an edit its reference's shape, and a size would squeeze it.
        blocks, left_out_blocks: of a modular pipeline, diffusers' class of its blocks, and the names of those that a
            student is called without.
        own_loras: whether the stock class loads LoRAs itself; else its transformer does.
    """

    pipeline: str
    classes: Mapping[Task, str]
    calls: Mapping[Task, Mapping[str, Any]]
    lora_calls: Mapping[Task, Mapping[str, Any]]
    shift: float
    sized_edits: bool = True
    own_loras: bool = True
    blocks: str | None = None
    left_out_blocks: tuple[str, ...] = ()

    def options(self, task: Task, size: tuple[int, int]) -> str:
        """The arguments of a task's call as Python code."""
        return _arguments({**self._size(task, size), **self.calls[task]})

    def lora_options(self, task: Task, size: tuple[int, int]) -> str:
        """The arguments of a task's call with a LoRA as Python code."""
        return _arguments({**self._size(task, size), **self.lora_calls[task]})

    def _size(self, task: Task, size: tuple[int, int]) -> dict[str, Any]:
        return {"height": size[0], "width": size[1]} if task == "t2i" or self.sized_edits else {}

    @property
    def lora_arguments(self) -> str:
        """What every call with a LoRA must say beside its size, as Python code."""
        return _arguments(self.lora_calls["t2i"])[2:]

    @property
    def guidance_argument(self) -> float | None:
        """The `guidance_scale` by which a call turns the class's own guidance off; None if none is needed."""
        return self.calls["t2i"].get("guidance_scale")

    @property
    def lora_guidance_argument(self) -> float | None:
        """The same of a call with a LoRA."""
        return self.lora_calls["t2i"].get("guidance_scale")

    @property
    def lora_loader(self) -> str:
        return "load_lora_weights" if self.own_loras else "transformer.load_lora_adapter"

    @property
    def lora_weight_name(self) -> str:
        """A further argument of the loader: a transformer's own looks for a pickle by default."""
        return "" if self.own_loras else f', weight_name="{WEIGHT_FILE}"'

    @property
    def needs_step_count(self) -> bool:
        """Whether a call must give the number of steps, because the stock class does not read the grid."""
        return "num_inference_steps" in self.calls["t2i"]

    @property
    def edits(self) -> bool:
        return "edit" in self.classes

    @property
    def separate_t2i_class(self) -> bool:
        """Whether text to image needs another class than the folder's own."""
        return self.classes["t2i"] != self.pipeline


def _arguments(call: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in call.items())


@dataclass(frozen=True)
class Stored:
    """How the weights were written.

    Args:
        rounding: the rounding error of storing the weights, relative to the norm of what was learnt.
        lossy: whether that is so much that another form should be used.
        single_file: whether ComfyUI's file of the whole transformer was written too.
    """

    dtype: str
    rounding: float = 0.0
    lossy: bool = False
    single_file: bool = False


@dataclass(frozen=True)
class ExportInfo:
    """What the export itself knows. base: the name of a base without a hub id."""

    base: str
    usage: Usage
    grid: SigmaGrid
    stored: Stored
    lora: Lora | None
    inherited: InheritedLicence
    files: LoraFiles

    @property
    def licence(self) -> Licence:
        """As the base's own card states it."""
        return self.inherited.licence if self.inherited.stated else Licence()

    @property
    def sigmas(self) -> str:
        """The noise levels as ComfyUI's ManualSigmas reads them."""
        return comfyui.manual_sigmas(self.grid.sigmas)

    @property
    def comfyui_lora(self) -> str | None:
        """The folder of the LoRA file that ComfyUI opens; None if there is none."""
        if self.lora is None or not self.files.for_comfyui:
            return None
        return comfyui.FOLDER if "comfyui" in self.files.programs else PLAIN_FOLDER

    @property
    def plain_lora(self) -> str | None:
        """The folder of the LoRA file that DiffSynth-Studio opens; None if there is none."""
        return PLAIN_FOLDER if self.lora is not None and "plain" in self.files.programs else None

    @property
    def ranks(self) -> str:
        """The LoRA's rank, and what was lost if it was cut down to that."""
        assert self.lora is not None
        ranks_text, cut = ", ".join(map(str, self.lora.ranks)), self.lora.cut
        return ranks_text if cut is None else f"{ranks_text} (cut down to {cut.words()})"


def student_card(facts: ExportInfo, about: StudentInfo) -> str:
    """README.md of a student folder."""
    return _written("student.md", facts, about)


def lora_card(facts: ExportInfo, about: StudentInfo) -> str:
    """README.md of a folder that holds the adapter alone."""
    return _written("lora.md", facts, about)


def _written(template: str, facts: ExportInfo, about: StudentInfo) -> str:
    environment = Environment(
        loader=PackageLoader("fewstep.export", "cards"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    head = _front_matter(facts, about, "lora" if template == "lora.md" else None)
    base = about.base_name or facts.base
    words = {
        "head": head,
        "base": base,
        "version": __version__,
        "lora_file": comfyui.LORA_FILE.format(name=about.name),
        "comfyui_model": comfyui.MODEL_FILE.format(name=about.name),
    }
    return environment.get_template(template).render(f=facts, u=facts.usage, a=about, **words)


def _front_matter(facts: ExportInfo, about: StudentInfo, extra: str | None) -> str:
    licence = facts.licence
    head = {
        "license": licence.id,
        "license_name": licence.name,
        "license_link": licence.link,
        "base_model": about.base_name,
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image" if set(about.tasks) == {"edit"} else "text-to-image",
        "tags": ["distillation", "few-step", "fewstep", *([extra] if extra else [])],
    }
    kept = {key: value for key, value in head.items() if value is not None}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True).strip()
