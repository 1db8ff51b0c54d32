"""From plans to the cast of a run: student, critic and teachers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.families import adapter_path, load_backbone
from fewstep.flow.guidance import Guidance
from fewstep.flow.rng import NamedRNG
from fewstep.lora import file as lora_file
from fewstep.lora.factors import Factors
from fewstep.roles.adapters import Adapters, linear_shapes
from fewstep.roles.compilation import compile_blocks
from fewstep.roles.network import Network
from fewstep.roles.offloaded import OffloadedNetwork
from fewstep.roles.plan import (
    CriticPlan,
    GuidanceByTask,
    RolePlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.recomputation import Recomputation, recompute
from fewstep.roles.sharding import REPLICATED, Placement
from fewstep.roles.teacher_plan import (
    BASE,
    teacher_plan,
)
from fewstep.roles.teachers import Teacher, Teachers
from fewstep.roles.validation import initial_update
from fewstep.roles.weight_control import TeacherWeightControl
from fewstep.runtime.errors import ModelError
from fewstep.runtime.task import TASKS, Task


@dataclass(frozen=True)
class TeacherLoaders:
    """Where specialised teachers come from. adapter(source): a LoRA's factors. model(source, dtype, device): the
    transformer of a further model."""

    adapter: Callable[[str], Mapping[str, Factors]]
    model: Callable[[str, torch.dtype, torch.device], nn.Module]


def _model(source: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return load_backbone(source, dtype=dtype, device=device, parts="transformer").transformer


FILE_LOADERS = TeacherLoaders(lambda source: lora_file.read_lora(adapter_path(source)), _model)


@dataclass(frozen=True)
class Roles:
    """Who takes part. Student and critic begin as the base exactly: an adapter with B = 0, or a copy; the student of a
    recipe with `init_from` as the base with that LoRA."""

    student: Network
    critic: Network
    teachers: Teachers

    @property
    def networks(self) -> tuple[Network, ...]:
        return self.student, self.critic, *(teacher.network for teacher in self.teachers.teachers.values())

    @property
    def is_sharded(self) -> bool:
        """Whether all ranks must run together whatever one of them looks at."""
        return any(network.is_sharded for network in self.networks)


def build_roles(
    backbone: Backbone,
    student: StudentPlan,
    critic: CriticPlan,
    teachers: TeachersSpec,
    *,
    iterations: int,
    rng: NamedRNG,
    precision: str = "fp32",
    gradient_checkpointing: Recomputation = "off",
    compile: bool = False,
    loaders: TeacherLoaders = FILE_LOADERS,
    placement: Placement = REPLICATED,
) -> Roles:
    """The cast over `backbone`, whose transformer becomes the frozen base (and is changed in place by adapters).

    Args:
        lay: how the weights of base, copies and resident teachers lie on the ranks. Adapters are whole on each.

    Raises:
        RecipeError: a teacher plan that contradicts itself. AdapterError, ModelError: a teacher that does not fit.
    """
    plan = teacher_plan(teachers, student.steps)
    given = backbone.transformer
    begun = initial_update(student, linear_shapes(given)) if student.init_from else {}
    # Copies are made before any adapter is put into the base.
    changed: dict[str, Mapping[str, Factors]] = {"student": begun, "critic": {}}
    trained: tuple[tuple[str, RolePlan], ...] = (("student", student), ("critic", critic))
    copies = {name: placement.masters(given, changed[name]) for name, p in trained if p.mode == "full"}
    bare = placement.bare(given)
    base = placement.frozen(given)
    backbone.replace_transformer(base)
    adapters = Adapters(base, autocast=precision != "fp32")

    def trained_network(name: str, p: RolePlan) -> Network:
        if p.mode == "full":
            network = Network(name, backbone, copies[name], precision=precision)
        else:
            adapters.add(name, p.adapter, (*backbone.lora_targets, *changed[name]), rng)
            adapters.start_from(name, changed[name])
            network = Network(name, backbone, base, adapters, name, precision)
        recompute(network.transformer, gradient_checkpointing)
        return network

    def specialised(name: str) -> Network:
        spec = teachers.named[name]
        if spec.adapter is not None:
            adapters.load(f"teacher-{name}", loaders.adapter(spec.adapter), spec.adapter)
            return Network(name, backbone, base, adapters, f"teacher-{name}", precision)
        model, dtype = spec.model, next(base.parameters()).dtype
        assert model is not None

        def load(where: torch.device) -> nn.Module:
            return _fitting(loaders.model(model, dtype, where), base, model)

        if spec.place == "offloaded":
            return OffloadedNetwork(name, backbone, load(torch.device("cpu")), precision, backbone.device)
        return Network(
            name, backbone, placement.frozen(placement.loaded(load, bare, backbone.device)), precision=precision
        )

    by_name = {
        BASE: Teacher(
            Network(BASE, backbone, base, adapters, None, precision), _by_task(teachers.base.guidance, backbone)
        )
    }
    for name in plan.used[1:]:
        by_name[name] = Teacher(specialised(name), _by_task(teachers.named[name].guidance, backbone))
    trust = TeacherWeightControl(plan.weighted, teachers.adaptive if teachers.preset == "adaptive" else None)
    roles = Roles(
        trained_network("student", student),
        trained_network("critic", critic),
        Teachers(plan, by_name, iterations, trust),
    )
    for network in roles.networks if compile else ():
        compile_blocks(network.transformer)
    return roles


def _fitting(transformer: nn.Module, base: nn.Module, origin: str) -> nn.Module:
    theirs = {name: p.shape for name, p in transformer.named_parameters()}
    ours = {name.replace(".base_layer.", "."): p.shape for name, p in base.named_parameters() if ".lora_" not in name}
    if theirs != ours:
        raise ModelError(
            f"the teacher {origin} has other weights than the model that is distilled; teachers of one run share a "
            "family and a size"
        )
    return transformer.requires_grad_(False)


def _by_task(given: GuidanceByTask, backbone: Backbone) -> dict[Task, Guidance]:
    plans = given or {}
    return {task: plans[task].guidance() if task in plans else backbone.default_guidance for task in TASKS}
