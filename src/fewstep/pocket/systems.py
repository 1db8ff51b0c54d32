"""A model as a system to examine: each case is drawn from its own seed, as the stock pipeline would draw it alone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import nn

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.families import adapter_path
from fewstep.backbones.identity import digest, module_identity
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.lora.file import read_lora
from fewstep.pocket.cases import PocketCase
from fewstep.pocket.exam import ExaminedSystem, Sampler
from fewstep.pocket.render import SIZE
from fewstep.roles.adapters import Adapters
from fewstep.runtime.task import TASKS, Task
from fewstep.sample.pictures import Model, sample_pictures
from fewstep.sample.sampler import evaluations


class ConditioningCache:
    """The conditioning of cases. Each case is encoded once; systems with the same text encoder share it."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self._held: dict[tuple[str, str | None], Conditioning] = {}

    def __call__(self, case: PocketCase, negative: str | None = None) -> Conditioning:
        """The conditioning of the case's prompt, or of a negative prompt beside the same references."""
        key = (case.id, negative)
        if key not in self._held:
            prompt = case.prompt if negative is None else negative
            (self._held[key],) = self.backbone.encode([prompt], list(case.references) or None, (SIZE, SIZE))
        return self._held[key]


def sampler_of(
    backbone: Backbone,
    transformer: nn.Module,
    grid: SigmaGrid,
    guidance: Mapping[Task, Guidance],
    encoded: ConditioningCache | None = None,
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Sampler:
    """A sampler of cases on one grid, with the guidance of their task. inside: makes the context to draw in (a role, a
    precision)."""
    told = encoded or ConditioningCache(backbone)

    def sampler(cases: Sequence[PocketCase], seeds: Sequence[int]) -> list[Image.Image]:
        found: dict[int, Image.Image] = {}
        for task in TASKS:
            members = [i for i, case in enumerate(cases) if case.task == task]
            conds = [told(cases[i]) for i in members]
            away = guidance[task]
            negatives = [told(cases[i], away.negative) for i in members] if away.active else None
            with inside():
                drawn = sample_pictures(
                    backbone, transformer, conds, [seeds[i] for i in members], grid, away, negatives
                )
            found |= dict(zip(members, drawn, strict=True))
        return [found[i] for i in range(len(cases))]

    return sampler


@dataclass(frozen=True)
class Adapter:
    """A LoRA over a model, off until it is switched on. name: used in figures."""

    name: str
    fingerprint: str
    active: Callable[[], AbstractContextManager[Any]]


def adapter_over(model: Model, source: str) -> Adapter:
    """The LoRA file `source` (or an embedded one, pocket:NAME), put over the model's transformer in place.

    Raises:
        AdapterError, ModelError: it cannot be read, or was trained on another base.
    """
    file = adapter_path(source)
    adapters = Adapters(model.backbone.transformer)
    adapters.load("examined", read_lora(file), source)
    return Adapter(source, digest([file.read_bytes()]), lambda: adapters.active("examined"))


def system_of(
    model: Model,
    steps: int | None = None,
    guidance: Mapping[Task, Guidance] | None = None,
    encoded: ConditioningCache | None = None,
    adapter: Adapter | None = None,
) -> ExaminedSystem:
    """A student at its own grid, or a teacher at `steps` with `guidance` (the model's own if None), with one of its
    adapters on if given."""
    grid, own = model.sampling(steps, size=(SIZE, SIZE))
    chosen: Mapping[Task, Guidance] = guidance or dict.fromkeys(TASKS, own)
    backbone = model.backbone
    facts = {
        "weights": digest(module_identity(backbone.transformer)),
        "encoders": backbone.fingerprint(),
        "sigmas": list(grid),
        "guidance": {task: [g.scale, g.keep_norm, g.negative] for task, g in chosen.items()},
        "network_calls": {task: evaluations(grid, g) for task, g in chosen.items()},
    }
    if adapter is not None:
        facts["adapter"] = adapter.fingerprint
    inside = nullcontext if adapter is None else adapter.active
    return ExaminedSystem(sampler_of(backbone, backbone.transformer, grid, chosen, encoded, inside), facts)
