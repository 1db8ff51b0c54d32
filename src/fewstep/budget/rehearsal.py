"""One iteration of a recipe, run to be counted: the real roles, the real objective and the real blocks.

On a hollow backbone (`backbones/hollow.py`) no number is computed; on a real one the same is measured. AdamW's moments
are there from the beginning, as they are from the second iteration on.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.hollow import copied_freely, emptied, fake_mode
from fewstep.backbones.int8 import to_int8
from fewstep.budget.company import Unfilled
from fewstep.budget.ledger import CONDITIONING, Ledger, Phase
from fewstep.conditioning import Conditioning, Layout, Task
from fewstep.encode.loader import Batch
from fewstep.flow.noise import Draw
from fewstep.parallel import ALONE, Ranks
from fewstep.recipe import Recipe
from fewstep.roles.assemble import Cast, Sources, assemble
from fewstep.roles.offloaded import Offloaded
from fewstep.roles.sharding import WHOLE, Lay, lay_of
from fewstep.train.average import Average
from fewstep.train.distill import Method
from fewstep.train.health import Health
from fewstep.train.learner import Learner
from fewstep.train.terms import terms_of
from fewstep.train.watch import Clock


@dataclass(frozen=True)
class Told:
    """What a batch is told, in numbers. text: positions of its longest prompt. references: grids of latent tokens.
    padded: whether prompts are of unequal length, which takes a mask."""

    task: Task
    target: tuple[int, int]
    text: int
    text_width: int
    references: tuple[tuple[int, int], ...] = ()
    padded: bool = False

    @property
    def tokens(self) -> int:
        return self.text + sum(rows * columns for rows, columns in (self.target, *self.references))

    def batch(self, samples: int, channels: int, negatives: tuple[str, ...], dtype: torch.dtype) -> Batch:
        """Zeros in these shapes. Unconditional branches are as long: a negative prompt is shorter as a rule."""
        cond = self._conditioning(samples, channels, dtype)
        names = ("case",) * samples
        return Batch(
            0, self.task, cond, {text: self._conditioning(samples, channels, dtype) for text in negatives},
            tuple(range(samples)), names, names,
        )  # fmt: skip

    def _conditioning(self, samples: int, channels: int, dtype: torch.dtype) -> Conditioning:
        slots = (min(self.text, 8),) * len(self.references)
        layout = Layout(self.task, self.target, self.references, slots)
        mask_BL = torch.ones(samples, self.text, dtype=torch.bool)
        if self.padded and samples > 1:
            mask_BL[-1, -1] = False  # in the last part, where the gradients of those before it are there too
        text_BLC = torch.zeros(samples, self.text, self.text_width, dtype=torch.bfloat16)
        tokens = layout.reference_tokens
        references = torch.zeros(samples, tokens, channels, dtype=dtype) if tokens else None
        return Conditioning(text_BLC, mask_BL, layout, references)


@dataclass(frozen=True)
class Rehearsed:
    """calls: forwards by role, both guidance branches of a batch as one where they are one."""

    phases: tuple[Phase, ...]
    calls: Mapping[str, int]


def rehearse(
    backbone: Backbone,
    recipe: Recipe,
    batch: Batch,
    sources: Sources,
    parts: int = 1,
    ranks: Ranks = ALONE,
) -> Rehearsed:
    """One iteration at the student's last step, where specialised teachers weigh most, after all ramps. parts: of the
    batch, one after another."""
    lay = lay_of(recipe.run.sharding, ranks, batch.cond.text_BLC.device, recipe.run.precision)
    cast_ = assembled(backbone, recipe, sources, lay)
    learners = Learner(cast_.student, recipe.student, ranks), Learner(cast_.critic, recipe.critic, ranks)
    average = Average(cast_.student, recipe.student.ema)
    for learner in learners:
        _prime(learner)
    ledger, draw = Ledger(), Draw(recipe.run.seed)
    _note(ledger, cast_, learners, average, batch)
    terms = terms_of(recipe.objective, cast_, recipe.student.grid, draw)
    method = Method(
        cast_, recipe.student, _once(recipe.critic), recipe.objective, draw, *learners, average,
        cast(Clock, ledger), Health(recipe.teachers.watch), terms,
    )  # fmt: skip
    calls = _counting(cast_, ledger)
    fake = fake_mode(backbone.transformer)
    with ledger, nullcontext() if fake is None else Unfilled(fake):
        method.iterate(recipe.run.iterations - 1, recipe.student.steps - 1, *batch.parts(parts))
    return Rehearsed(tuple(ledger.phases), dict(calls))


def _counting(cast_: Cast, ledger: Ledger) -> Counter[str]:
    """Filled as the cast's transformers are called."""
    calls: Counter[str] = Counter()
    hooked: set[int] = set()
    for network in cast_.networks:
        if id(network.transformer) in hooked:
            continue
        hooked.add(id(network.transformer))
        adapters, name = network.adapters, network.name

        def count(*_: object, adapters: Any = adapters, name: str = name) -> None:
            ledger.call()
            calls[name if adapters is None else adapters.on or "base"] += 1

        network.transformer.register_forward_pre_hook(count)
    return calls


def assembled(backbone: Backbone, recipe: Recipe, sources: Sources, lay: Lay = WHOLE) -> Cast:
    """The cast of a run over a backbone in the run's precision."""
    if recipe.run.base_weights == "int8":
        to_int8(backbone.transformer)
    fake = fake_mode(backbone.transformer)
    with copied_freely():
        made = assemble(
            backbone,
            recipe.student.model_copy(update={"init_from": None}),  # changes values, not sizes
            recipe.critic,
            recipe.teachers,
            iterations=recipe.run.iterations,
            draw=Draw(recipe.run.seed),
            precision=recipe.run.precision,
            gradient_checkpointing=recipe.run.gradient_checkpointing,
            sources=sources,
            lay=lay,
        )
    if fake is not None:
        for network in made.networks:
            emptied(network.transformer, fake)
    return made


def _once(critic: Any) -> Any:
    """One update is like the next."""
    return critic.model_copy(update={"updates": 1})


def _prime(learner: Learner) -> None:
    for parameter in learner.parts.values():
        learner.optimiser.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


def _note(ledger: Ledger, cast_: Cast, learners: tuple[Learner, Learner], average: Average, batch: Batch) -> None:
    """Who owns what is there before the iteration, and whose the gradients will be."""
    for name, teacher in cast_.teachers.teachers.items():
        network = teacher.network
        if isinstance(network, Offloaded):
            _visiting(ledger, network, f"weights of teacher {name}")
        elif network.adapters is None:
            ledger.note(_tensors(network.transformer), f"weights of teacher {name}")
        elif network.adapter is not None:
            ledger.note(network.adapters.parameters(network.adapter).values(), f"weights of teacher {name}")
    for learner in learners:
        name = learner.network.name
        ledger.note(learner.named.values(), f"weights of the {name}")
        for state in learner.optimiser.state.values():
            ledger.note(state.values(), f"optimiser of the {name}")
        for parameter in learner.named.values():
            parameter.register_post_accumulate_grad_hook(_naming(ledger, f"gradients of the {name}"))
    ledger.note(average.mean.values(), "averaged student")
    for learner in learners:
        if learner.network.adapters is None:
            ledger.note(_tables(learner.network.transformer), f"weights of the {learner.network.name}")
    base = cast_.teachers.teachers["base"].network.transformer
    own = {id(p) for one in (*learners,) for p in one.named.values()}
    frozen = [p for name, p in base.named_parameters() if id(p) not in own and ".lora_" not in name]
    ledger.note([*frozen, *_tables(base)], "weights of the base")
    ledger.note(_conditionings(batch), CONDITIONING)


def _visiting(ledger: Ledger, network: Offloaded, purpose: str) -> None:
    """Its home is the CPU's memory, which is not told; its visits are."""
    visit = network.active

    @contextmanager
    def active() -> Iterator[None]:
        with visit():
            ledger.note(_tensors(network.transformer), purpose)
            yield

    network.active = active  # type: ignore[method-assign]


def _naming(ledger: Ledger, purpose: str) -> Any:
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None:
            ledger.note([parameter.grad], purpose)

    return hook


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *_tables(module)]


def _tables(module: nn.Module) -> list[Tensor]:
    """Buffers, and tensors that modules keep as plain attributes or in lists: rotary tables."""
    kept = [value for one in module.modules() for value in vars(one).values()]
    kept += [entry for value in kept if isinstance(value, list | tuple) for entry in value]
    return [*module.buffers(), *(value for value in kept if isinstance(value, Tensor))]


def _conditionings(batch: Batch) -> list[Tensor]:
    every: list[Conditioning] = [batch.cond, *cast(Mapping[str, Conditioning], batch.negatives).values()]
    return [t for c in every for t in (c.text_BLC, c.mask_BL, c.references_BRD) if t is not None]
