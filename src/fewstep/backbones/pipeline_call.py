"""How a family's stock pipeline is called, by its makers and for a student, and what is known of its makers' models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fewstep.backbones.folder import read_index
from fewstep.backbones.licences import Licence
from fewstep.flow.guidance import Guidance
from fewstep.runtime.task import Task


class PipelineCall:
    """What a family of stock pipelines knows of calls without a loaded model. Most share these answers."""

    default_guidance: Guidance
    default_steps: int
    max_references: int
    reads_sample_sigmas: ClassVar[bool] = (
        False  # whether the stock class reads `sample_sigmas` from its model_index.json
    )
    time_reversed: ClassVar[bool] = False  # whether the stock transformer is told 1 - t
    single_file_reader: ClassVar[bool] = True  # whether diffusers reads ComfyUI's single files of the transformer
    own_scheduler: ClassVar[Mapping[str, Any] | None] = None  # what the stock pipeline makes where a folder holds none
    blocks: ClassVar[str | None] = None  # of a family with a modular pipeline: diffusers' class of its blocks
    left_out_blocks: ClassVar[tuple[str, ...]] = ()  # those of its blocks that a student is called without
    not_carried: ClassVar[tuple[str, ...]] = ()  # files and folders of a base that its student does not get
    student_index: ClassVar[Mapping[str, Any]] = {}  # what a student's model_index.json says beside its base's
    default_licence: ClassVar[Licence | str]  # of the makers' own weights, for folders that state none

    @classmethod
    def default_sampling(cls, index: Mapping[str, Any]) -> tuple[Guidance, int]:
        """The guidance and the number of steps that the makers sample with. index: the model_index.json."""
        return cls.default_guidance, cls.default_steps

    @classmethod
    def max_references_of(cls, index: Mapping[str, Any]) -> int:
        """How many references an edit may have; 0 if the model cannot edit. index: the model_index.json."""
        return cls.max_references

    @classmethod
    def task_pipelines(cls, pipeline: str) -> dict[Task, str]:
        """The stock class to call for each task of a model of this pipeline class."""
        return {"t2i": pipeline, "edit": pipeline}

    @classmethod
    def student_call(cls, steps: int, size: tuple[int, int], task: Task = "t2i") -> dict[str, Any]:
        """The arguments that the stock call of a student needs for a task, beside prompt, pictures and size.

        size: height and width in px.
        """
        return {"num_inference_steps": steps}

    @classmethod
    def lora_call(cls, grid: Sequence[float], size: tuple[int, int], task: Task = "t2i") -> dict[str, Any]:
        """The same for a base with a student's LoRA and scheduler. Its folder does not contain the grid, so the call
        must."""
        return cls.student_call(len(grid), size, task) | ({"sigmas": list(grid)} if cls.reads_sample_sigmas else {})

    @classmethod
    def fixed_edit_size(cls, picture: tuple[int, int]) -> tuple[int, int] | None:
        """(height, width) in px at which the stock call edits a picture of this (height, width), where the call itself
        cannot say it; None where it can."""
        return None

    @classmethod
    def respelled(cls, prompt: str) -> str:
        """The prompt as the encoder is given it. It is another only where the stock call would corrupt it."""
        return prompt

    @classmethod
    def student_files(cls, base: Path, added: Mapping[str, Any]) -> dict[str, Any]:
        """The files of a student's folder that say what its pipeline consists of: JSON content by path.

        added: what the student's index says beside its base's.

        Raises:
            ModelError: the base's index is missing.
        """
        return {"model_index.json": {**read_index(base), **added}}

    @classmethod
    def makers_licence(cls, config: Mapping[str, Any]) -> Licence:
        """The licence of the makers' own weights of this size. config: the transformer's."""
        own = cls.default_licence
        return Licence(name=own) if isinstance(own, str) else own

    @classmethod
    def distilled(cls, folder: Path) -> str | None:
        """What a folder of an already distilled model is, and which model to take as a teacher; None for any other."""
        return None
