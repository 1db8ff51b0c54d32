"""From the recipe's plans to the roles of a run: student, critic and teachers over one base."""

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
from fewstep.roles.block_swap import swap_blocks
from fewstep.roles.compilation import compile_blocks
from fewstep.roles.execution import Execution
from fewstep.roles.network import Network
from fewstep.roles.offloaded import OffloadedNetwork
from fewstep.roles.plan import CriticPlan, GuidanceByTask, Residency, RolePlan, StudentPlan, TeachersSpec
from fewstep.roles.roles import Roles
from fewstep.roles.targets import target_modules
from fewstep.roles.teacher_plan import BASE, TeacherPlan, teacher_plan
from fewstep.roles.teachers import Teacher, Teachers
from fewstep.roles.validation import initial_update
from fewstep.roles.weight_control import TeacherWeightControl
from fewstep.runtime.errors import ModelError
from fewstep.runtime.task import TASKS, Task


@dataclass(frozen=True)
class RolesSpec:
    """The recipe's sections on the networks. iterations: of the run; the ramp of the teachers' weights is a fraction of
    them."""

    student: StudentPlan
    critic: CriticPlan
    teachers: TeachersSpec
    iterations: int


@dataclass(frozen=True)
class TeacherLoaders:
    """How specialised teachers are loaded.

    Args:
        adapter: adapter(source) gives the factors of a LoRA.
        model: model(source, dtype, device) gives the transformer of a further model.
    """

    adapter: Callable[[str], Mapping[str, Factors]]
    model: Callable[[str, torch.dtype, torch.device], nn.Module]


def _model(source: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return load_backbone(source, dtype=dtype, device=device, parts="transformer").transformer


FILE_LOADERS = TeacherLoaders(lambda source: lora_file.read_lora(adapter_path(source)), _model)


def build_roles(
    backbone: Backbone,
    spec: RolesSpec,
    rng: NamedRNG,
    execution: Execution | None = None,
    loaders: TeacherLoaders = FILE_LOADERS,
) -> Roles:
    """The roles over `backbone`. Its transformer becomes the frozen base, and adapters are added to it in place.

    Args:
        rng: draws the first weights of adapters, by name.
        execution: precision, recomputation, compilation and placement of weights; default if not given.

    Raises:
        RecipeError: a teacher plan that contradicts itself.
        AdapterError, ModelError: a teacher that does not fit the base.
    """
    plan = teacher_plan(spec.teachers, spec.student.steps)
    networks = _NetworkBuilder(backbone, spec, rng, execution or Execution(), loaders)
    by_name = {name: Teacher(networks.teacher(name), _guidance(name, spec.teachers, backbone)) for name in plan.used}
    roles = Roles(
        networks.trained("student", spec.student),
        networks.trained("critic", spec.critic),
        Teachers(plan, by_name, spec.iterations, _weight_control(plan, spec.teachers)),
    )
    for network in roles.networks if networks.execution.compile else ():
        compile_blocks(network.transformer)
    return roles


class _NetworkBuilder:
    """Makes the base, the adapters over it, and the networks that consist of both."""

    def __init__(
        self, backbone: Backbone, spec: RolesSpec, rng: NamedRNG, execution: Execution, loaders: TeacherLoaders
    ):
        self.backbone, self.spec, self.rng, self.execution, self.loaders = backbone, spec, rng, execution, loaders
        given, placement = backbone.transformer, execution.placement
        shapes = linear_shapes(given)
        self.linears = tuple(shapes)
        init_from = initial_update(spec.student, shapes) if spec.student.init_from else {}
        self.starts: dict[str, Mapping[str, Factors]] = {"student": init_from, "critic": {}}
        trained: tuple[tuple[str, RolePlan], ...] = (("student", spec.student), ("critic", spec.critic))
        # Full copies are made first: later the base contains adapters, and a copy would contain them too.
        self.copies = {name: placement.masters(given, self.starts[name]) for name, p in trained if p.mode == "full"}
        self.bare = placement.bare(given)
        self.base = placement.base(given)
        backbone.replace_transformer(self.base)
        self.adapters = Adapters(self.base, backbone.device, autocast=execution.precision != "fp32")

    def trained(self, name: str, plan: RolePlan) -> Network:
        """The student or the critic: a full copy, or an adapter over the base."""
        if plan.mode == "full":
            network = Network(name, self.backbone, self.copies[name], precision=self.execution.precision)
        else:
            start = self.starts[name]
            chosen = target_modules(plan.adapter.targets, self.backbone, self.linears)
            self.adapters.add(name, plan.adapter, (*chosen, *start), self.rng)
            self.adapters.start_from(name, start)
            network = self._over_base(name, name)
        network.recompute_as(self.execution.recomputation_by_task)
        return network

    def teacher(self, name: str) -> Network:
        """The base with all adapters off, a LoRA over it, or a further model."""
        if name == BASE:
            return self._over_base(name, None)
        spec = self.spec.teachers.named[name]
        if spec.adapter is not None:
            adapter = f"teacher-{name}"
            self.adapters.load(adapter, self.loaders.adapter(spec.adapter), spec.adapter)
            return self._over_base(name, adapter)
        assert spec.model is not None
        return self._further_model(name, spec.model, spec.place)

    def _over_base(self, name: str, adapter: str | None) -> Network:
        return Network(name, self.backbone, self.base, self.adapters, adapter, self.execution.precision)

    def _further_model(self, name: str, source: str, place: Residency) -> Network:
        dtype, device, precision = next(self.base.parameters()).dtype, self.backbone.device, self.execution.precision

        def load(where: torch.device) -> nn.Module:
            return _fitting(self.loaders.model(source, dtype, where), self.base, source)

        if place == "offloaded":
            return OffloadedNetwork(name, self.backbone, load(torch.device("cpu")), precision, device)
        if place == "swapped":
            swapped = load(torch.device("cpu"))
            swap_blocks(swapped, None, device)
            return Network(name, self.backbone, swapped, precision=precision)
        placement = self.execution.placement
        resident = placement.frozen(placement.loaded(load, self.bare, device))
        return Network(name, self.backbone, resident, precision=precision)


def _weight_control(plan: TeacherPlan, spec: TeachersSpec) -> TeacherWeightControl:
    return TeacherWeightControl(plan.weighted, spec.adaptive if spec.preset == "adaptive" else None)


def _fitting(transformer: nn.Module, base: nn.Module, origin: str) -> nn.Module:
    theirs = {name: p.shape for name, p in transformer.named_parameters()}
    ours = {name.replace(".base_layer.", "."): p.shape for name, p in base.named_parameters() if ".lora_" not in name}
    if theirs != ours:
        raise ModelError(
            f"the teacher {origin} has other weights than the model that is distilled; teachers of one run share a "
            "family and a size"
        )
    return transformer.requires_grad_(False)


def _guidance(name: str, spec: TeachersSpec, backbone: Backbone) -> dict[Task, Guidance]:
    given: GuidanceByTask = spec.base.guidance if name == BASE else spec.named[name].guidance
    plans = given or {}
    return {task: plans[task].guidance() if task in plans else backbone.guidance_of(task) for task in TASKS}
