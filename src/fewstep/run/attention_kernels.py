"""Which attention kernel the networks of a run will use, told at its start.

The model's transformer is made of shapes, one block of each kind deep, and asked for a velocity of the longest
sequences of each task: with texts of one length, and, where the cases' prompts differ, with texts of unequal lengths.
What attention it calls is recorded, and torch is asked what would compute it (`backbones/attention_kernel.py`). No
weight is loaded. All networks of a run, adapters, copies and further teachers, make the same calls, with a gradient or
without.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any, Literal

import torch

from fewstep.backbones.attention_kernel import AttentionCall, Kernel, backend_fault, kernel_of, recorded_attention
from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.fake_model import ModelSize, fake_model, size_of_model
from fewstep.backbones.shape_tensor import make_shapes
from fewstep.data.composition import Composition
from fewstep.data.mixture import used_tasks
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.shapes import shapes_of
from fewstep.run.budget.zero_batch import zero_batch
from fewstep.run.recipe import Recipe
from fewstep.runtime.device import PRECISIONS, autocast
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.task import Task

SAMPLES = 2  # of a batch that is asked for: one beside a longer one
WORTH_TELLING = 0.1  # ours: of the largest call's work
MaskKind = Literal["none", "model", "padding"]
MASKED = {
    "model": "some under a mask of the model's own",
    "padding": "masked where texts of a batch have unequal lengths",
}
VARIABLE = "DIFFUSERS_ATTN_BACKEND"
CPU = torch.device("cpu")
CAPTIONS, MEGAPIXEL = (10, 1100), (64, 64)  # letters of a short and a long caption; latent tokens of 1024 x 1024 px


@dataclass(frozen=True)
class TaskCall:
    """A call in batches of a task. mask: "none", of the "model" itself, or for the "padding" beside a longer text."""

    task: Task
    call: AttentionCall
    mask: MaskKind


@dataclass(frozen=True)
class KernelUse:
    """One kernel, and what it computes.

    Args:
        masks: those of its calls.
        keys: the most keys of a call.
        work: queries times keys, in the call in which that is most.
    """

    kernel: Kernel
    tasks: tuple[Task, ...]
    masks: tuple[MaskKind, ...]
    heads: int
    channels: int
    keys: int
    work: int
    dtype: str

    def words(self) -> str:
        return f"attention of {' and '.join(self.tasks)}: {self.details()}"

    def details(self) -> str:
        """The kernel and what it computes, without the tasks."""
        masks = "".join(f"; {MASKED[mask]}" for mask in self.masks if mask in MASKED)
        size = f"{self.heads} heads of {self.channels}, up to {self.keys:,} keys, {self.dtype}"
        return f"{self.kernel.name} ({size}{masks})"

    def record(self) -> dict[str, Any]:
        """For the run's folder."""
        return {**vars(self), "kernel": self.kernel.name}

    def warning(self) -> str | None:
        """What is slow in this, and what would help; None if nothing is."""
        tasks, why = " and ".join(self.tasks), f" ({self.kernel.refused})" if self.kernel.refused else ""
        if self.kernel.slow:
            remedy = "set run.precision: bf16" if self.dtype == "float32" else "look for a newer torch or another GPU"
            return (
                f"no fast kernel computes the attention of {tasks} on this GPU{why}: plain products are slow, and take "
                f"memory by the square of the length; {remedy}"
            )
        if self.masks == ("padding",) and self.kernel.refused:
            return (
                f"attention of {tasks} is {MASKED['padding']}, which torch's flash kernel refuses{why}: there it is "
                f"computed by {self.kernel.name}. Prompts of one length need no mask, nor does a batch of one sample"
            )
        return None


def kernel_warnings(uses: Sequence[KernelUse]) -> list[str]:
    """The warnings of those that are a part of the work worth telling."""
    most = max((use.work for use in uses), default=0)
    told = [use.warning() for use in uses if use.work >= WORTH_TELLING * most]
    return [warning for warning in told if warning is not None]


def tell_attention(
    recipe: Recipe, composition: Composition, device: torch.device, world: int, reporter: Reporter
) -> list[dict[str, Any]]:
    """Tells the reporter which kernels a run will use, and warns of slow ones. Returns the same for the run's folder.

    world: the number of ranks.

    Raises:
        EnvironmentRefused: as `kernels_of_run`.
    """
    try:
        uses = kernels_of_run(recipe, composition, device, world)
    except EnvironmentRefused:
        raise
    except Exception as error:  # a family of another package, whose forward cannot run on shapes
        reporter.say(
            f"which attention kernel this run uses is not known here: {type(error).__name__}: {error}", "warning"
        )
        return []
    for use in uses:
        reporter.say(use.words())
    for told in kernel_warnings(uses):
        reporter.say(told, "warning")
    return [use.record() for use in uses]


def kernels_of_model(source: str, device: torch.device, precision: str) -> list[KernelUse]:
    """The kernels of a model on a device, for text to image at 1024 x 1024 px and a long caption."""
    estimate = estimate_conditioning(source)
    most = estimate.most_text(MEGAPIXEL, ())
    short, long = (min(most, estimate.text_length("x" * letters, 0)) for letters in CAPTIONS)
    shape = BatchShape("t2i", MEGAPIXEL, long, estimate.text_width, padded=short != long)
    return kernel_uses(attention_calls(size_of_model(source), [shape], SAMPLES, precision), device)


def kernels_of_run(recipe: Recipe, composition: Composition, device: torch.device, world: int) -> list[KernelUse]:
    """The kernels of a run on a device, for the longest sequences of each task.

    Args:
        world: the number of ranks.

    Raises:
        EnvironmentRefused: a backend was chosen for diffusers that cannot compute what the run needs.
    """
    estimate, shapes = estimate_conditioning(recipe.model), list[BatchShape]()
    for task in used_tasks(recipe.mixture):
        kinds = shapes_of(recipe, task, composition, estimate)
        longest = max(kinds, key=lambda shape: shape.tokens)
        shapes.append(replace(longest, padded=any(kind.padded for kind in kinds)))
    samples = -(-recipe.run.batch // world)
    calls = attention_calls(size_of_model(recipe.model), shapes, samples, recipe.run.precision)
    refuse_unusable_backend(calls, device)
    return kernel_uses(calls, device)


def attention_calls(size: ModelSize, shapes: Iterable[BatchShape], samples: int, precision: str) -> list[TaskCall]:
    """The different attention calls of a model in batches of these shapes, one of each task. None asks for a gradient.

    Args:
        samples: of a batch on one GPU.
    """
    backbone = fake_model(size, dict.fromkeys(size.depths, 1), PRECISIONS[precision])
    make_shapes(backbone.transformer)
    found: list[TaskCall] = []
    for shape in shapes:
        whole = replace(shape, padded=False)
        cond = zero_batch(whole, min(samples, SAMPLES), backbone.latent_channels, (), torch.bfloat16).cond
        calls = velocity_calls(backbone, backbone.transformer, cond, precision)
        found += [TaskCall(shape.task, call, "none" if call.mask is None else "model") for call in dict.fromkeys(calls)]
        if shape.padded and samples > 1:
            more = velocity_calls(backbone, backbone.transformer, _unequal(cond), precision)
            new = [call for call in dict.fromkeys(more) if call not in calls]
            found += [TaskCall(shape.task, call, "none" if call.mask is None else "padding") for call in new]
    return found


def _unequal(cond: Conditioning) -> Conditioning:
    """The same with the last text half as long."""
    mask_BL = cond.mask_BL.clone()
    mask_BL[-1, mask_BL.shape[1] // 2 :] = False
    return replace(cond, mask_BL=mask_BL, _lengths_B=None)


@torch.no_grad()
def velocity_calls(backbone: Any, transformer: Any, cond: Conditioning, precision: str) -> list[AttentionCall]:
    """Those of a velocity; and of a family that keeps a prefix, those of the prefix and of a velocity upon it."""
    z_BND = torch.zeros(len(cond), *backbone.noise_shape(cond.layout))
    t_B = torch.full((len(cond),), 0.5)
    with autocast(CPU, precision), recorded_attention() as calls:
        backbone.velocity(transformer, z_BND, t_B, cond)
        if (prefix := backbone.prefix(transformer, cond)) is not None:
            backbone.velocity(transformer, z_BND, t_B, cond, prefix)
    return calls


def refuse_unusable_backend(calls: Iterable[TaskCall], device: torch.device) -> None:
    """
    Raises:
        EnvironmentRefused: as `kernels_of_run`.
    """
    for one in calls:
        if (fault := backend_fault(replace(one.call, grad=True), device)) is not None:
            masked = {"none": "", "model": ", which is masked", "padding": f", {MASKED['padding']}"}[one.mask]
            raise EnvironmentRefused(
                f"{VARIABLE} chooses {one.call.backend}, which cannot compute the attention of {one.task} on "
                f"{device}{masked} ({fault}). Unset it: torch then chooses a kernel for each call"
            )


def kernel_uses(calls: Iterable[TaskCall], device: torch.device) -> list[KernelUse]:
    """The calls by kernel, with a gradient and without; most work first. Calls without queries (of a prefix alone)
    compute nothing."""
    groups: dict[tuple[Any, ...], list[TaskCall]] = {}
    for one in (each for each in calls if each.call.query[1]):
        _, _, heads, channels = one.call.query
        for grad in (True, False):
            kernel = kernel_of(replace(one.call, grad=grad), device)
            key = kernel, heads, channels, str(one.call.dtype).removeprefix("torch.")
            groups.setdefault(key, []).append(one)
    return sorted(starmap(_use, groups.items()), key=lambda use: -use.work)


def _use(alike: tuple[Any, ...], made: Sequence[TaskCall]) -> KernelUse:
    kernel, heads, channels, dtype = alike
    tasks, masks = tuple(dict.fromkeys(one.task for one in made)), tuple(sorted({one.mask for one in made}))
    keys, work = (max(each) for each in zip(*((one.call.key[1], one.call.work) for one in made), strict=True))
    return KernelUse(kernel, tasks, masks, heads, channels, keys, work, dtype)
