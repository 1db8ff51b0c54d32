"""The families under contract. A further one is one more entry of FAMILIES: a tiny complete model of its real classes,
and how its stock pipeline is asked for what the contract is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.edit_sizes import reference_resolution
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.longcat_image import LongCatImage
from fewstep.backbones.packing import packed
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.stock import (
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    Flux3TextEncoderStep,
    LongCatImagePipeline,
    QwenImagePipeline,
    pipeline_longcat_image_edit,
)
from fewstep.backbones.testing.toy import ToyBackbone
from fewstep.backbones.z_image import ZImage

SIZE = (64, 96)  # height, width


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

    def within(self, backbone: Backbone) -> Request:
        """The same with as many references as the model takes; without any it is text to image."""
        return replace(self, shapes=self.shapes[: backbone.max_references])

    def conditioning(self, backbone: Backbone) -> Conditioning:
        return stack(backbone.encode(self.prompts, self.references or None, self.size))


T2I = Request("t2i", ["a red boat"])
LONG = "a much longer prompt about a cat in the sun, on a wall of old bricks by the sea"  # more than a window of 80
T2I_UNEQUAL = Request("t2i, unequal prompts", ["a cat", LONG, ""])
EDIT = Request("edit", ["make it blue"], [(90, 70)])
EDIT_TWO = Request("edit, two references", ["put the first beside the second"], [(96, 64), (66, 160)])
EDIT_UNEQUAL = Request(
    "edit, unequal prompts",
    ["darker", "as it would look at night, with lamps in the windows and the moon above the sea"],
    [(70, 70)],
    (64, 64),
)
REQUESTS = [T2I, T2I_UNEQUAL, EDIT, EDIT_TWO, EDIT_UNEQUAL]


def picture(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Blocks of random colours: structure at the scale of a latent token, as well as noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, len(mode)), dtype=np.uint8))
    noise = rng.integers(0, 40, (height, width, len(mode)))
    return Image.fromarray(((np.asarray(small.resize((width, height))) + noise) % 256).astype(np.uint8))


@dataclass
class Step:
    """What the stock pipeline hands its scheduler - velocity, time, state - and the state it gets back."""

    v_BND: Tensor
    t_B: Tensor
    z_BND: Tensor
    after_BND: Tensor


class Recorder(FlowMatchEulerDiscreteScheduler):
    """The stock scheduler, which also notes what it is handed."""

    steps: list[Step]

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **named: Any) -> Any:
        t_B = (timestep / 1000).expand(len(sample))
        before = sample.clone()
        answer = super().step(model_output, timestep, sample, **named)
        self.steps.append(Step(model_output.clone(), t_B, before, answer[0].clone()))
        return answer


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


def called_apart(family: Family, request: Request) -> bool:
    """Whether the stock pipeline takes these prompts only one by one, or answers rightly only so."""
    return len(request.prompts) > 1 and (family.shifts_padded or (family.one_by_one and bool(request.shapes)))


def stock_call(family: Family, backbone: Any, request: Request, seed: int = 0, **named: Any) -> tuple[list[Step], Any]:
    """The pipeline's own call: its steps, and what it returns as images. Calls of one prompt each are put together."""
    if not called_apart(family, request):
        return _one_call(family, backbone, request.prompts, request, seed, named)
    calls = [
        _one_call(family, backbone, [prompt], request, seed, _of_prompt(named, n, len(request.prompts)))
        for n, prompt in enumerate(request.prompts)
    ]
    steps = [
        Step(*map(torch.cat, zip(*(vars(step).values() for step in same), strict=True)))
        for same in zip(*(c[0] for c in calls), strict=True)
    ]
    return steps, [image for _, images in calls for image in images]


def _of_prompt(named: dict[str, Any], n: int, prompts: int) -> dict[str, Any]:
    """Prompt n's part of arguments that hold one value for each prompt."""
    return {
        key: [value[n]] if isinstance(value, list) and len(value) == prompts else value for key, value in named.items()
    }


def _one_call(
    family: Family, backbone: Any, prompts: Sequence[str], request: Request, seed: int, named: dict[str, Any]
) -> tuple[list[Step], Any]:
    height, width = request.size
    images = named.pop("image", request.references)
    pipeline = family.pipeline(backbone, bool(images))
    pipeline.set_progress_bar_config(disable=True)
    given = [family.given(image) for image in images]
    pictures = {"image": given if family.lists_pictures else given[0]} if images else {}
    sized = {} if images and family.edits_at else {"height": height, "width": width}
    words = family.words(request.size) if images or family.drawn_words is None else family.drawn_words
    with recorded(pipeline) as steps, family.edits_at(request.size) if family.edits_at else nullcontext():
        drawn = pipeline(
            prompt=list(prompts),
            generator=torch.Generator().manual_seed(seed),
            **{"num_inference_steps": 3} | sized | pictures | words | named,
        ).images
    if steps and steps[0].z_BND.dim() == 4:
        steps = [Step(packed(s.v_BND, 2), s.t_B, packed(s.z_BND, 2), packed(s.after_BND, 2)) for s in steps]
    return steps, drawn


def noise_for(backbone: Backbone, cond: Conditioning, seed: int = 0) -> Tensor:
    return torch.randn(len(cond), *backbone.noise_shape(cond.layout), generator=torch.Generator().manual_seed(seed))


# ---- the families


@dataclass(frozen=True)
class Family:
    """words(size): arguments of the stock call that make it treat references as `encode` does, and draw unguided.
    guided(scale, negatives): those that guide it. pipeline(backbone, edits): the stock pipeline of a task. encoded:
    what the stock pipeline makes of a request's prompts, (L, C) each. given: a picture as the stock call takes it.
    drawn_words: those of a text-to-image call, where they differ. lists_pictures: whether it takes a list of pictures.
    edits_at(size): where a call of an edit has no size, makes it draw at this one. references: how many it takes.
    one_by_one: whether it takes a batch of edits one at a time. shifts_padded: whether it answers otherwise for a text
    that it pads, so that only the text alone shows what is right. cache(on): arguments that turn its cache on or off,
    where the family has a prefix. one_length: whether every text has the same length, so that nothing is padded.
    """

    name: str
    make: Callable[[], Any]
    load: Callable[..., Any]
    encoded: Callable[[Any, Request], list[Tensor]]
    guided: Callable[[float, list[str]], dict[str, Any]]
    words: Callable[[tuple[int, int]], dict[str, Any]] = lambda size: {}
    pipeline: Callable[[Any, bool], Any] = lambda backbone, edits: backbone.pipeline
    given: Callable[[Image.Image], Image.Image] = lambda image: image
    one_by_one: bool = False
    cache: Callable[[bool], dict[str, Any]] | None = None
    negative: str = "blurry, grey"
    one_length: bool = False
    shifts_padded: bool = False
    references: int = 4
    drawn_words: dict[str, Any] | None = None
    lists_pictures: bool = True
    edits_at: Callable[[tuple[int, int]], AbstractContextManager[None]] | None = None


def _text_of_21(backbone: Any, asked: Request) -> list[Tensor]:
    resized = [backbone._resized(image, asked.size) for image in asked.references]
    embeds, mask, slots = backbone.pipeline.encode_prompt(list(asked.prompts), image=resized or None)
    mask = torch.ones_like(slots) if mask is None else mask.bool()
    return [embeds[row][mask[row] & ~slots[row]] for row in range(len(asked.prompts))]


def _text_of_20b(backbone: Any, asked: Request) -> list[Tensor]:
    pipeline = _of_task(backbone, bool(asked.shapes))
    if asked.shapes:
        seen = [backbone._seen(pipeline, image) for image in asked.references]
        return [pipeline.encode_prompt([prompt], image=seen)[0][0] for prompt in asked.prompts]
    embeds, mask = pipeline.encode_prompt(list(asked.prompts))
    return [e if mask is None else e[mask[row].bool()] for row, e in enumerate(embeds)]


def _of_task(backbone: Any, edits: bool) -> Any:
    """An edit model's parts make a text-to-image pipeline too. Without a dtype, `from_pipe` casts them to float32."""
    if edits:
        return backbone.pipeline
    return QwenImagePipeline.from_pipe(backbone.pipeline, dtype=backbone.pipeline.dtype)


def _longcat_of_task(backbone: Any, edits: bool) -> Any:
    if edits:
        return backbone.pipeline
    return LongCatImagePipeline.from_pipe(backbone.pipeline, dtype=backbone.pipeline.dtype)


def _text_of_longcat(backbone: Any, asked: Request) -> list[Tensor]:
    pipeline = _longcat_of_task(backbone, bool(asked.shapes))
    if not asked.shapes:
        return list(pipeline.encode_prompt(list(asked.prompts))[0])
    (height, width), resize = asked.size, pipeline.image_processor.resize
    seen = resize(resize(asked.references[0], height, width), height // 2, width // 2)
    return [pipeline.encode_prompt([prompt], seen)[0][0] for prompt in asked.prompts]


@contextmanager
def _edits_at(size: tuple[int, int]) -> Iterator[None]:
    """LongCat-Image-Edit draws a megapixel in the reference's shape. Here its own rule answers with another size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_longcat_image_edit, "calculate_dimensions", lambda area, ratio: size[::-1])
        yield


@dataclass
class ModularCall:
    """A modular pipeline, called as the contract calls a classic one: with a list of one prompt, and with the scale of
    guidance, which is its guider's."""

    modular: Any

    @property
    def scheduler(self) -> Any:
        return self.modular.scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        self.modular.scheduler = scheduler

    def set_progress_bar_config(self, **named: Any) -> None:
        self.modular.set_progress_bar_config(**named)

    def __call__(self, prompt: str | list[str], guidance_scale: float, **named: Any) -> Any:
        (one,) = [prompt] if isinstance(prompt, str) else prompt
        negatives = named.pop("negative_prompt", None)
        if guidance_scale != 1:
            named["negative_prompt"] = negatives[0]
        self.modular.guider = ClassifierFreeGuidance(guidance_scale=guidance_scale)
        return self.modular(prompt=one, **named)


def _text_of_klein(backbone: Any, asked: Request) -> list[Tensor]:
    """The three hidden states that the pipeline encodes, as the first layer of the transformer answers to them."""
    pipeline = backbone.pipeline
    with torch.no_grad():
        return list(pipeline.transformer.context_embedder(pipeline.encode_prompt(list(asked.prompts))[0]))


def _text_of_flux3(backbone: Any, asked: Request) -> list[Tensor]:
    """The eight hidden states that the pipeline encodes, as the first layer of the transformer answers to them."""
    pipeline = backbone.pipeline
    encode = Flux3TextEncoderStep._get_qwen3_vl_prompt_embeds
    with torch.no_grad():
        texts = [encode(pipeline.text_encoder, pipeline.tokenizer, prompt) for prompt in asked.prompts]
        return [pipeline.transformer.context_embedder(text)[0] for text in texts]


def _true_guidance(scale: float, negatives: list[str]) -> dict[str, Any]:
    return {"true_cfg_scale": scale, "negative_prompt": negatives}


FAMILIES = [
    Family(
        "qwen-image-2.1",
        QwenImage21.tiny,
        QwenImage21.load,
        _text_of_21,
        _true_guidance,
        words=lambda size: {"output_resolution": reference_resolution(size)},
        cache=lambda on: {"use_kv_cache": on},
        shifts_padded=True,
    ),
    Family(
        "qwen-image",
        QwenImage.tiny,
        QwenImage.load,
        _text_of_20b,
        _true_guidance,
        pipeline=_of_task,
        given=lambda image: image.convert("RGB"),
        one_by_one=True,
    ),
    Family(
        "flux2-klein",
        Flux2Klein.tiny,
        Flux2Klein.load,
        _text_of_klein,
        lambda scale, negatives: {"guidance_scale": scale},
        words=lambda size: {"guidance_scale": 1.0},
        negative="",  # the pipeline knows no other
        one_length=True,
    ),
    Family(
        "z-image",
        ZImage.tiny,
        ZImage.load,
        lambda backbone, asked: backbone.pipeline.encode_prompt(list(asked.prompts))[0],
        lambda scale, negatives: {"guidance_scale": scale - 1, "negative_prompt": list(negatives)},
        words=lambda size: {"guidance_scale": 0.0},
        references=0,
    ),
    Family(
        "longcat-image",
        LongCatImage.tiny,
        LongCatImage.load,
        _text_of_longcat,
        lambda scale, negatives: {"guidance_scale": scale, "negative_prompt": negatives},
        words=lambda size: {"guidance_scale": 1.0},
        drawn_words={"guidance_scale": 1.0, "enable_prompt_rewrite": False},
        pipeline=_longcat_of_task,
        given=lambda image: image.convert("RGB"),
        lists_pictures=False,
        one_by_one=True,
        one_length=True,
        references=1,
        edits_at=_edits_at,
    ),
    Family(
        "flux3-klein",
        Flux3Klein.tiny,
        Flux3Klein.load,
        _text_of_flux3,
        lambda scale, negatives: {"guidance_scale": scale, "negative_prompt": negatives},
        words=lambda size: {"guidance_scale": 1.0},
        pipeline=lambda backbone, edits: ModularCall(backbone.pipeline),
        one_by_one=True,
        shifts_padded=True,
        references=10,
    ),
]
BACKBONES: list[tuple[str, Callable[[], Backbone]]] = [(f.name, f.make) for f in FAMILIES] + [("toy", ToyBackbone)]
