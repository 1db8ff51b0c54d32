"""Small runs for the tests of this folder: the tiny real transformer, or a Gaussian world behind the same contract."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from PIL import Image

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import (
    Conditioning,
    stack,
)
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.plan import (
    AdapterPlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.runtime.task import Task
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.settings import DMDSettings

SIZE = (32, 32)
CATEGORIES = ("landscape", "portrait", "sign")
ALL_EXTRA_LOSSES = {
    "first_step_anchor": {"teacher_steps": 2},
    "segment_guidance": {},
    "decoupled_guidance": True,
    "preservation": 1.0,
}
GUIDED = {task: {"scale": 2.5, "keep_norm": True} for task in ("t2i", "edit")}
CPU = torch.device("cpu")
NEGATIVES = ("", "a blurred picture")
PROMPTS = ("a red boat", "a man with a hat", "a sign that says AB", "snow")


@cache
def _pristine() -> QwenImage21:
    return QwenImage21.tiny()


@cache
def _encoded(prompts: tuple[str, ...], edit: bool) -> Conditioning:
    reference = [Image.new("RGB", (32, 32), (200, 40, 40))] if edit else None
    return stack(_pristine().encode(list(prompts), reference, SIZE))


def tiny(dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> QwenImage21:
    """A fresh transformer each time: adapters change the one they are put into."""
    transformer = type(_pristine().transformer).from_config(_pristine().transformer.config)
    transformer.load_state_dict(_pristine().transformer.state_dict())
    with torch.no_grad():  # its output layer is far from idle, as a trained one's
        transformer.proj_out.weight.mul_(3)
    return QwenImage21(transformer.to(device, dtype), {"shift": 1.0})


def tiny_dmd_step(
    extra_losses: dict[str, Any] | None = None,
    student: dict[str, Any] | None = None,
    device: torch.device = CPU,
    precision: str = "fp32",
    **critic: Any,
) -> DMDStep:
    """Adapters over a guided tiny base, no two roles alike."""
    small, rng = AdapterPlan(rank=4, alpha=8.0), NamedRNG(0)
    plans = StudentPlan(adapter=small, ema=0.9, **(student or {})), CriticPlan(adapter=small, **critic)
    spec = TeachersSpec.model_validate({"base": {"guidance": GUIDED}})
    objective = ObjectivePlan.model_validate(extra_losses or {})
    roles = build_roles(tiny(device=device), RolesSpec(*plans, spec, 5), rng, Execution(precision=precision))
    with torch.no_grad():  # B = 0 has no gradient for A, and all roles agree
        for role in (roles.student, roles.critic):
            for name, weight in role.named_parameters().items():
                weight += 0.05 * rng.normal(weight.shape, f"{role.name} {name}").to(device)
    return build_dmd_step(roles, DMDSettings(*plans, objective), rng)


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
    return NamedRNG(7).normal(shape, name)
