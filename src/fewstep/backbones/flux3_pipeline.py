"""Flux3ModularPipeline with the face of a classic pipeline: made of its parts, opened and saved in one call.

A modular pipeline has no __init__ that names its parts. Saved, it forgets its scheduler and its guider, its index holds
an absolute path, and a part that does not load is left out with a warning (diffusers 0.42.1). Here a folder holds all
parts, each is loaded by its own class, and what is missing is an error.

The blocks are the stock ones, without the prompt upsampler: prompts are encoded as they are given.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from fewstep.backbones.modular_index import write_modular_index
from fewstep.backbones.published_sizes import FLUX3_SCHEDULER
from fewstep.backbones.stock import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux3AutoBlocks,
    Flux3ModularPipeline,
    Flux3Transformer2DModel,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    quiet_libraries,
)

SCHEDULER = FLUX3_SCHEDULER
UPSAMPLER = "prompt_upsampler"


class Flux3Parts(Flux3ModularPipeline):
    """The stock pipeline over parts that were loaded already. Any may be None."""

    parts: ClassVar[Mapping[str, Any]] = {
        "scheduler": FlowMatchEulerDiscreteScheduler,
        "vae": AutoencoderKLFlux2,
        "text_encoder": Qwen3VLForConditionalGeneration,
        "tokenizer": Qwen3VLProcessor,
        "transformer": Flux3Transformer2DModel,
    }

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKLFlux2,
        text_encoder: Qwen3VLForConditionalGeneration,
        tokenizer: Qwen3VLProcessor,
        transformer: Flux3Transformer2DModel,
    ):
        blocks: Any = Flux3AutoBlocks()
        blocks.sub_blocks.pop(UPSAMPLER)
        with quiet_libraries():  # diffusers calls its guiders experimental, each time that it makes one
            super().__init__(blocks=blocks)
        self.register_modules(
            scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, transformer=transformer
        )

    def register_modules(self, **parts: Any) -> None:
        """Sets parts, as the method of that name of a classic pipeline does."""
        for name, part in parts.items():
            setattr(self, name, part)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = None, **given: Any) -> "Flux3Parts":  # type: ignore[override]
        """Opens a folder. A part that is given is not loaded; None leaves it out."""
        own = {name: given.pop(name) for name in cls.parts if name in given}
        for name, kind in cls.parts.items():
            if name in own:
                continue
            if name == "scheduler" and not (Path(folder) / name).is_dir():
                own[name] = kind(**SCHEDULER)
                continue
            asked = {} if name in ("scheduler", "tokenizer") else {"dtype": dtype, **given}
            own[name] = kind.from_pretrained(Path(folder) / name, **{**asked, "local_files_only": True})
        return cls(**own)

    def save_pretrained(self, folder: str | Path, **given: Any) -> None:  # type: ignore[override]
        """Writes all parts, and an index that names them and no place."""
        held = {name: getattr(self, name) for name in self.parts if getattr(self, name) is not None}
        for name, part in held.items():
            part.save_pretrained(str(Path(folder) / name), **given)
        write_modular_index(Path(folder), "Flux3ModularPipeline", "Flux3AutoBlocks", held)
