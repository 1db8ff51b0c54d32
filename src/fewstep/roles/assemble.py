"""From plans to the cast of a run: student, critic and teachers."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.families import adapter_path, load_backbone
from fewstep.conditioning import Task
from fewstep.errors import ModelError
from fewstep.flow.guidance import Guidance
from fewstep.flow.noise import Draw
from fewstep.lora import file as lora_file
from fewstep.lora.factors import Factors, merged
from fewstep.roles.adapters import Adapters, linear_shapes
from fewstep.roles.compilation import compiled
from fewstep.roles.network import Network
from fewstep.roles.offloaded import Offloaded
from fewstep.roles.plan import CriticPlan, GuidanceByTask, LearnerPlan, StudentPlan, TeachersSpec
from fewstep.roles.recomputation import Recomputation, recompute
from fewstep.roles.teacher_plan import BASE, TASKS, teacher_plan
from fewstep.roles.teachers import Teacher, Teachers
from fewstep.roles.trust import Trust
from fewstep.roles.vetting import start


@dataclass(frozen=True)
class Sources:
    """Where specialised teachers come from. adapter(source): a LoRA's factors. model(source, dtype, device): the
    transformer of a further model."""

    adapter: Callable[[str], Mapping[str, Factors]]
    model: Callable[[str, torch.dtype, torch.device], nn.Module]


def _model(source: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return load_backbone(source, dtype=dtype, device=device, parts="transformer").transformer


FILES = Sources(lambda source: lora_file.read(adapter_path(source)), _model)


@dataclass(frozen=True)
class Cast:
    """Who takes part. Student and critic begin as the base exactly: an adapter with B = 0, or a copy; the student of a
    recipe with `init_from` as the base with that LoRA."""

    student: Network
    critic: Network
    teachers: Teachers

    @property
    def networks(self) -> tuple[Network, ...]:
        return self.student, self.critic, *(teacher.network for teacher in self.teachers.teachers.values())


def assemble(
    backbone: Backbone,
    student: StudentPlan,
    critic: CriticPlan,
    teachers: TeachersSpec,
    *,
    iterations: int,
    draw: Draw,
    precision: str = "fp32",
    gradient_checkpointing: Recomputation = "off",
    compile: bool = False,
    sources: Sources = FILES,
) -> Cast:
    """The cast over `backbone`, whose transformer becomes the frozen base (and is changed in place by adapters).

    Raises:
        RecipeError: a teacher plan that contradicts itself. AdapterError, ModelError: a teacher that does not fit.
    """
    plan = teacher_plan(teachers, student.steps)
    base = backbone.transformer.requires_grad_(False)
    begun = start(student, linear_shapes(base)) if student.init_from else {}
    # Copies are made before any adapter is put into the base.
    copies = {name: _copy(base) for name, p in (("student", student), ("critic", critic)) if p.mode == "full"}
    if student.mode == "full":
        _merge(begun, copies["student"])
    adapters = Adapters(base, autocast=precision != "fp32")

    def learner(name: str, p: LearnerPlan) -> Network:
        if p.mode == "full":
            network = Network(name, backbone, copies[name], precision=precision)
        else:
            given = begun if name == "student" else {}
            adapters.add(name, p.adapter, (*backbone.lora_targets, *given), draw)
            adapters.start_from(name, given)
            network = Network(name, backbone, base, adapters, name, precision)
        recompute(network.transformer, gradient_checkpointing)
        return network

    def specialised(name: str) -> Network:
        spec = teachers.named[name]
        if spec.adapter is not None:
            adapters.load(f"teacher-{name}", sources.adapter(spec.adapter), spec.adapter)
            return Network(name, backbone, base, adapters, f"teacher-{name}", precision)
        assert spec.model is not None
        device = backbone.device
        where = device if spec.place == "resident" else torch.device("cpu")
        other = sources.model(spec.model, next(base.parameters()).dtype, where)
        transformer = _fitting(other, base, spec.model)
        if spec.place == "offloaded":
            return Offloaded(name, backbone, transformer, precision, device)
        return Network(name, backbone, transformer, precision=precision)

    by_name = {
        BASE: Teacher(
            Network(BASE, backbone, base, adapters, None, precision), _by_task(teachers.base.guidance, backbone)
        )
    }
    for name in plan.used[1:]:
        by_name[name] = Teacher(specialised(name), _by_task(teachers.named[name].guidance, backbone))
    trust = Trust(plan.weighted, teachers.adaptive if teachers.preset == "adaptive" else None)
    cast = Cast(learner("student", student), learner("critic", critic), Teachers(plan, by_name, iterations, trust))
    for network in cast.networks if compile else ():
        compiled(network.transformer)
    return cast


def _copy(base: nn.Module) -> nn.Module:
    """fp32 masters: steps of 1e-6 are lost in bf16 weights. Tensor by tensor, without a bf16 copy on the way."""
    copied: dict[int, object] = {id(p): nn.Parameter(_master(p)) for p in base.parameters()}
    copied |= {id(b): _master(b) for b in base.buffers()}
    return copy.deepcopy(base, copied)


def _master(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(dtype, copy=True)


@torch.no_grad()
def _merge(updates: Mapping[str, Factors], transformer: nn.Module) -> None:
    for module, update in updates.items():
        weight = transformer.get_parameter(f"{module}.weight")
        weight.copy_(merged(weight, update, module))


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
