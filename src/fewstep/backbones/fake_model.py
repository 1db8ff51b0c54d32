"""Models of fake tensors: the real transformer class at its real size, where every tensor has a shape and a dtype but
no data.

A forward through such a model runs every operation of the stock code without computing values. So what it would
allocate and compute can be counted on any machine. The size comes from the model's config. For a published model that
is not on this machine it comes from the table below.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor

from fewstep.backbones.conditioning_estimate import local_file, local_index, stated_config
from fewstep.backbones.families import FAMILIES, MODEL_FAMILIES
from fewstep.backbones.folder import read_index, read_json
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.backbones.published_sizes import SCHEDULER, published_size
from fewstep.backbones.shape_tensor import UncompiledMode, places_of_masks
from fewstep.runtime.errors import ModelError


@dataclass(frozen=True)
class ModelSize:
    """What determines memory and work of a model's transformer, and its noise levels. basis: where it was read, for
    messages. scheduler: None if its config is not on this machine."""

    family: type[PipelineBackbone]
    index: Mapping[str, Any]  # of model_index.json
    config: Mapping[str, Any]
    basis: str
    scheduler: Mapping[str, Any] | None = None

    @property
    def depths(self) -> dict[str, int]:
        """The number of blocks of each kind, by its key in the config."""
        whole = self.transformer.config
        return {key: int(whole[key]) for key in ("num_layers", "num_single_layers", "n_layers") if key in whole}

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.transformer.parameters())

    @cached_property
    def transformer(self) -> Any:
        """A fake one of this size, which is made once: hundreds of modules take a second."""
        return fake_model(self).transformer


def size_of_model(model: str) -> ModelSize:
    """The size of `pocket`, a folder or a hub id. No weight is read and nothing is downloaded.

    Raises:
        ModelError: neither on this machine nor a published model whose size is known.
    """
    config = stated_config(model)
    if config is not None:
        index_content = read_index(config.parent.parent)
        family = MODEL_FAMILIES.find(str(index_content.get("_class_name")))
        if family is None:
            known = ", ".join(sorted(MODEL_FAMILIES.names()))
            raise ModelError(
                f"{local_index(model)} names the class {index_content.get('_class_name')}; fewstep knows {known}"
            )
        stated = {key: value for key, value in read_json(config).items() if not key.startswith("_")}
        levels = local_file(model, SCHEDULER)
        scheduler = family.own_scheduler if levels is None else read_json(levels)
        return ModelSize(family, index_content, stated, str(config), scheduler)
    _, index, published, scheduler = published_size(model)
    basis = f"the published size ({model} is not on this machine)"
    return ModelSize(FAMILIES[index["_class_name"]], index, published, basis, scheduler)


def fake_model(
    size: ModelSize,
    depths: Mapping[str, int] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    fake: FakeTensorMode | None = None,
) -> Any:
    """The family's backbone around a fake transformer. It accepts real tensors as inputs.

    Args:
        depths: numbers of blocks that differ from the model's.
        fake: the mode of another fake model, if both are used together: tensors of two modes cannot be mixed.
    """
    with fake or FakeTensorMode(allow_non_fake_inputs=True):
        made = size.family.random({**size.config, **(depths or {})}, dtype=dtype)
    made._index, made._scheduler = size.index, size.scheduler or {}
    made.default_guidance, made.default_steps = size.family.default_sampling(size.index)
    return made


@contextmanager
def fake_deepcopy_allowed() -> Iterator[None]:
    """Inside, fake modules can be deep-copied without torch's warning that their data pointers are invalid."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        yield


def make_parameters_fake(transformer: nn.Module, fake: FakeTensorMode) -> None:
    """Makes real parameters of a fake transformer fake, such as those of adapters that were added to it."""
    for module in transformer.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not isinstance(parameter, FakeTensor | DTensor):
                empty = fake.from_tensor(parameter.detach())
                setattr(module, name, nn.Parameter(empty, requires_grad=parameter.requires_grad))


def fake_mode(transformer: nn.Module) -> FakeTensorMode | None:
    """The mode of a fake transformer; None for a real one."""
    held = (p._local_tensor if isinstance(p, DTensor) else p for p in transformer.parameters())
    return next((tensor.fake_mode for tensor in held if isinstance(tensor, FakeTensor)), None)


class RealMaskIndexing(UncompiledMode):
    """Allows fake tensors to be indexed by a real boolean mask, as shapes alone do by themselves."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.index.Tensor and isinstance(args[0], FakeTensor):
            args = args[0], places_of_masks(args[1])
        return func(*args, **(kwargs or {}))


def mimic_gpu_autocast(transformer: nn.Module) -> None:
    """Makes norms behave as under CUDA's autocast, on a machine without CUDA. There they take and return float32, under
    the CPU's autocast bfloat16.

    Powers and sums differ as well, but these transformers compute them in float32 anyway.
    """
    for module in transformer.modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm):
            module.register_forward_pre_hook(_in_float32)


def _in_float32(module: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(x.float() for x in given) if torch.is_autocast_enabled("cpu") else given
