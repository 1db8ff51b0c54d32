"""A model as a system to examine: each case is drawn from its own seed, as the stock pipeline would draw it alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.lora.file import read_lora
from fewstep.pocket.asked_case import AskedCase
from fewstep.pocket.exam_gallery import ExaminedSystem, Sampler
from fewstep.pocket.render import SIZE
from fewstep.roles.adapters import Adapters
from fewstep.roles.network import Network
from fewstep.roles.student_eval import StudentEval, StudentEvalBuilder
from fewstep.runtime.device import autocast
from fewstep.runtime.task import TASKS, Task
from fewstep.sample.pictures import Model, sample_pictures
from fewstep.sample.sampler import evaluations

UNGUIDED: Mapping[Task, Guidance] = dict.fromkeys(TASKS, NO_GUIDANCE)
Size = tuple[int, int]  # height and width in px
GridOfSize = Callable[[Size], SigmaGrid]


class ConditioningCache:
    """The conditioning of cases. Each case is encoded once; systems with the same text encoder share it."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self._held: dict[tuple[str, str | None], Conditioning] = {}

    def __call__(self, case: AskedCase, negative: str | None = None) -> Conditioning:
        """The conditioning of the case's prompt, or of a negative prompt beside the same references."""
        key = (case.id, negative)
        if key not in self._held:
            prompt = case.prompt if negative is None else negative
            (self._held[key],) = self.backbone.encode([prompt], list(case.references) or None, case.size)
        return self._held[key]


def sampler_of(
    backbone: Backbone,
    transformer: nn.Module,
    grid: SigmaGrid | GridOfSize,
    guidance: Mapping[Task, Guidance],
    encoded: ConditioningCache | None = None,
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Sampler:
    """A sampler of cases with the guidance of their task, on one grid, or on that of their size. inside: makes the
    context to draw in (a role, a precision)."""
    told = encoded or ConditioningCache(backbone)

    def sampler(cases: Sequence[AskedCase], seeds: Sequence[int]) -> list[Image.Image]:
        found: dict[int, Image.Image] = {}
        for task, size in ((task, size) for task in TASKS for size in sorted({case.size for case in cases})):
            members = [i for i, case in enumerate(cases) if (case.task, case.size) == (task, size)]
            conds = [told(cases[i]) for i in members]
            away = guidance[task]
            negatives = [told(cases[i], away.negative) for i in members] if away.active else None
            levels = grid if isinstance(grid, SigmaGrid) else grid(size)
            with inside():
                drawn = sample_pictures(
                    backbone, transformer, conds, [seeds[i] for i in members], levels, away, negatives
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
    sizes: Sequence[Size] = ((SIZE, SIZE),),
) -> ExaminedSystem:
    """A student at its own grid, or a teacher at `steps` with `guidance` (the model's own if None), with one of its
    adapters on if given. sizes: of all cases; a teacher's grid may depend on them."""
    grids = {size: model.sampling(steps, size=size)[0] for size in sizes}
    grid, *others = grids.values()
    one_grid = all(other == grid for other in others)
    chosen: Mapping[Task, Guidance] = guidance or dict.fromkeys(TASKS, model.sampling(steps, size=sizes[0])[1])
    backbone = model.backbone
    facts = {
        "weights": digest(module_identity(backbone.transformer)),
        "encoders": backbone.fingerprint(),
        "sigmas": list(grid) if one_grid else {f"{h} x {w}": list(levels) for (h, w), levels in grids.items()},
        "guidance": {task: [g.scale, g.keep_norm, g.negative] for task, g in chosen.items()},
        "network_calls": {task: evaluations(grid, g) for task, g in chosen.items()},
    }
    if adapter is not None:
        facts["adapter"] = adapter.fingerprint
    inside = nullcontext if adapter is None else adapter.active
    levels = grids.__getitem__
    return ExaminedSystem(sampler_of(backbone, backbone.transformer, levels, chosen, encoded, inside), facts)


def eval_of(
    backbone: Backbone, cases: Sequence[AskedCase], figures: Callable[[Sampler], Mapping[str, float]]
) -> StudentEvalBuilder:
    """Encodes the cases while `backbone` still can, and returns the examiner. Given the student's network, its grid and
    precision, the examiner returns the figures of a sampler that draws with the student as it is."""
    encoded = ConditioningCache(backbone)
    for case in cases:
        encoded(case)

    def for_student(student: Network, grid: SigmaGrid, precision: str) -> StudentEval:
        @contextmanager
        def inside() -> Iterator[None]:
            with student.active(), autocast(backbone.device, precision):
                yield

        sampler = sampler_of(backbone, student.transformer, grid, UNGUIDED, encoded, inside)
        return lambda iteration: figures(sampler)

    return for_student
