"""Small runs for the tests of this folder: the tiny real transformer, or a Gaussian world behind the same contract."""

from collections.abc import Callable
from functools import cache

import torch
from PIL import Image

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.conditioning import Conditioning, Task, stack
from fewstep.encode.loader import Batch
from fewstep.flow.noise import Draw

SIZE = (32, 32)
CATEGORIES = ("landscape", "portrait", "sign")
NEGATIVES = ("", "a blurred picture")
PROMPTS = ("a red boat", "a man with a hat", "a sign that says AB", "snow")


@cache
def _pristine() -> QwenImage21:
    return QwenImage21.tiny()


@cache
def _encoded(prompts: tuple[str, ...], edit: bool) -> Conditioning:
    reference = [Image.new("RGB", (32, 32), (200, 40, 40))] if edit else None
    return stack(_pristine().encode(list(prompts), reference, SIZE))


def tiny(dtype: torch.dtype = torch.float32) -> QwenImage21:
    """A fresh transformer each time: adapters change the one they are put into."""
    transformer = type(_pristine().transformer).from_config(_pristine().transformer.config)
    transformer.load_state_dict(_pristine().transformer.state_dict())
    with torch.no_grad():  # its output layer is far from idle, as a trained one's
        transformer.proj_out.weight.mul_(3)
    if dtype != torch.float32:
        transformer.to(dtype)
    return QwenImage21(transformer, {"shift": 1.0})


def batch(i: int = 0, size: int = 2, task: Task | None = None) -> Batch:
    """Batch i of a run that takes T2I and edits in turn."""
    task = task or ("t2i", "edit")[i % 2]
    prompts = tuple(PROMPTS[(i + b) % len(PROMPTS)] for b in range(size))
    samples = tuple(range(i * size, (i + 1) * size))
    negatives = {prompt: _encoded((prompt,) * size, task == "edit") for prompt in NEGATIVES}
    categories = tuple(CATEGORIES[s % 3] for s in samples)
    return Batch(i, task, _encoded(prompts, task == "edit"), negatives, samples, categories, prompts)


def toy_batches(backbone: Backbone, size: int, side: int = 64) -> Callable[[int], Batch]:
    """Batches of a toy world: two prompts in turn, T2I only, pictures of `side` px."""
    conds = [backbone.encode([prompt], None, (side, side))[0] for prompt in ("one", "two")]

    def batch(i: int) -> Batch:
        samples = tuple(range(i * size, (i + 1) * size))
        cond = stack([conds[s % 2] for s in samples])
        return Batch(i, "t2i", cond, {}, samples, tuple(CATEGORIES[s % 2] for s in samples), ("case",) * size)

    return batch


def normal(*shape: int, name: str = "z") -> torch.Tensor:
    return Draw(7).normal(shape, name)
