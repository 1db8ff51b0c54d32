"""The families under contract. A further one is one more entry of FAMILIES: a tiny complete model of its real classes,
and how its stock pipeline is asked to keep references at the target's area."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.qwen_image_21 import QwenImage21, reference_resolution
from fewstep.backbones.stock import FlowMatchEulerDiscreteScheduler
from fewstep.backbones.toy import ToyBackbone
from fewstep.conditioning import Conditioning, stack

SIZE = (64, 96)  # height, width


@dataclass(frozen=True)
class Family:
    """`own_words(size)`: arguments of the stock call that make it treat references as `encode` does."""

    name: str
    make: Callable[[], Backbone]
    load: Callable[..., Backbone]
    own_words: Callable[[tuple[int, int]], dict[str, Any]]


FAMILIES = [
    Family(
        "qwen-image-2.1",
        QwenImage21.tiny,
        QwenImage21.load,
        lambda size: {"output_resolution": reference_resolution(size)},
    )
]
BACKBONES: list[tuple[str, Callable[[], Backbone]]] = [(f.name, f.make) for f in FAMILIES] + [("toy", ToyBackbone)]


@dataclass(frozen=True)
class Request:
    """What is asked of a model."""

    name: str
    prompts: Sequence[str]
    shapes: Sequence[tuple[int, int]] = ()  # width, height of each reference
    size: tuple[int, int] = SIZE

    @property
    def references(self) -> list[Image.Image]:
        return [picture(*shape, seed=i) for i, shape in enumerate(self.shapes)]

    def conditioning(self, backbone: Backbone) -> Conditioning:
        return stack(backbone.encode(self.prompts, self.references or None, self.size))


T2I = Request("t2i", ["a red boat"])
T2I_UNEQUAL = Request("t2i, unequal prompts", ["a cat", "a much longer prompt about a cat in the sun", ""])
EDIT = Request("edit", ["make it blue"], [(70, 50)])
EDIT_TWO = Request("edit, two references", ["put the first beside the second"], [(96, 64), (33, 80)])
EDIT_UNEQUAL = Request("edit, unequal prompts", ["darker", "as it would look at night"], [(50, 50)], (64, 64))
REQUESTS = [T2I, T2I_UNEQUAL, EDIT, EDIT_TWO, EDIT_UNEQUAL]


def picture(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Blocks of random colours: structure at the scale of a latent token, as well as noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, len(mode)), dtype=np.uint8))
    noise = rng.integers(0, 40, (height, width, len(mode)))
    return Image.fromarray(((np.asarray(small.resize((width, height))) + noise) % 256).astype(np.uint8))


@dataclass
class Step:
    """What the stock pipeline hands its scheduler: velocity, timestep (1000 t), state."""

    v_BND: Tensor
    t_B: Tensor
    z_BND: Tensor


class Recorder(FlowMatchEulerDiscreteScheduler):
    """The stock scheduler, which also notes what it is handed."""

    steps: list[Step]

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **named: Any) -> Any:
        t_B = (timestep / 1000).expand(len(sample))
        self.steps.append(Step(model_output.clone(), t_B, sample.clone()))
        return super().step(model_output, timestep, sample, **named)


@contextmanager
def recorded(pipeline: Any) -> Iterator[list[Step]]:
    """All steps of the pipeline's calls inside."""
    stock = pipeline.scheduler
    pipeline.scheduler = Recorder.from_config(stock.config)
    pipeline.scheduler.steps = []
    try:
        yield pipeline.scheduler.steps
    finally:
        pipeline.scheduler = stock


def stock_call(family: Family, backbone: Any, request: Request, seed: int = 0, **named: Any) -> tuple[list[Step], Any]:
    """The pipeline's own call: its steps, and what it returns as images."""
    height, width = request.size
    with recorded(backbone.pipeline) as steps:
        images = backbone.pipeline(
            list(request.prompts),
            height=height,
            width=width,
            generator=torch.Generator().manual_seed(seed),
            **{"num_inference_steps": 3, "image": request.references or None} | family.own_words(request.size) | named,
        ).images
    return steps, images


def noise_for(backbone: Backbone, cond: Conditioning, seed: int = 0) -> Tensor:
    return torch.randn(len(cond), *backbone.noise_shape(cond.layout), generator=torch.Generator().manual_seed(seed))
