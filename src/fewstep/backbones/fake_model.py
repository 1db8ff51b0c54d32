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
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor

from fewstep.backbones.conditioning_estimate import CONFIG, local_file, local_index
from fewstep.backbones.families import FAMILIES, MODEL_FAMILIES
from fewstep.backbones.flux3_pipeline import SCHEDULER as FLUX3_SCHEDULER
from fewstep.backbones.folder import read_index, read_json
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.backbones.shape_tensor import UncompiledMode, places_of_masks
from fewstep.runtime.errors import ModelError

KLEIN = {  # black-forest-labs/FLUX.2-klein-4B; the stock class has another size by default
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
SCHEDULER = "scheduler/scheduler_config.json"
# Their scheduler_config.json, as far as it decides noise levels.
QWEN_SCHEDULER = {
    "use_dynamic_shifting": True,
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "shift_terminal": 0.02,
}
KLEIN_SCHEDULER = {"use_dynamic_shifting": True, "shift": 3.0, "base_shift": 0.5, "max_shift": 1.15}
Z_IMAGE_SCHEDULER = {"use_dynamic_shifting": False, "shift": 6.0}
KLEIN_9B = {**KLEIN, "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288}
LONGCAT = {"num_layers": 10, "num_single_layers": 20}  # meituan-longcat/LongCat-Image: 12.54 GB in bf16
EDITING = {"zero_cond_t": True}  # Qwen-Image-Edit-2511
# Part of a name, its model_index.json as far as it matters, its config, its scheduler's; None where that was not read.
PUBLISHED: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any] | None], ...] = (
    ("flux.2-klein-4b", {"_class_name": "Flux2KleinPipeline"}, KLEIN, KLEIN_SCHEDULER),
    ("flux.2-klein-base-4b", {"_class_name": "Flux2KleinPipeline"}, KLEIN, KLEIN_SCHEDULER),
    ("flux.2-klein-9b", {"_class_name": "Flux2KleinPipeline"}, KLEIN_9B, KLEIN_SCHEDULER),
    ("flux.2-klein-base-9b", {"_class_name": "Flux2KleinPipeline"}, KLEIN_9B, KLEIN_SCHEDULER),
    ("flux-3-image-klein-base", {"_class_name": "Flux3ModularPipeline"}, {}, FLUX3_SCHEDULER),
    ("z-image", {"_class_name": "ZImagePipeline"}, {}, Z_IMAGE_SCHEDULER),
    ("longcat-image-edit", {"_class_name": "LongCatImageEditPipeline"}, LONGCAT, None),
    ("longcat-image", {"_class_name": "LongCatImagePipeline"}, LONGCAT, None),
    ("qwen-image-2.1", {"_class_name": "QwenImage21Pipeline"}, {}, QWEN_SCHEDULER),
    ("qwen-image-edit-2511", {"_class_name": "QwenImageEditPlusPipeline"}, EDITING, QWEN_SCHEDULER),
    ("qwen-image-edit", {"_class_name": "QwenImageEditPlusPipeline"}, {}, QWEN_SCHEDULER),
    ("qwen-image", {"_class_name": "QwenImagePipeline"}, {}, QWEN_SCHEDULER),
)


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
    index, config = local_index(model), local_file(model, CONFIG)
    if config is not None and (index is not None or Path(model).expanduser().is_dir()):
        index_content = read_index(config.parent.parent)
        family = MODEL_FAMILIES.find(str(index_content.get("_class_name")))
        if family is None:
            known = ", ".join(sorted(MODEL_FAMILIES.names()))
            raise ModelError(f"{index} names the class {index_content.get('_class_name')}; fewstep knows {known}")
        stated = {key: value for key, value in read_json(config).items() if not key.startswith("_")}
        levels = local_file(model, SCHEDULER)
        scheduler = family.own_scheduler if levels is None else read_json(levels)
        return ModelSize(family, index_content, stated, str(config), scheduler)
    for part, published_index, published, levels_content in PUBLISHED:
        if part in model.lower():
            basis = f"the published size ({model} is not on this machine)"
            family = FAMILIES[published_index["_class_name"]]
            return ModelSize(family, published_index, published, basis, levels_content)
    raise ModelError(
        f"{model} is not on this machine, and of another size than the published models whose size is known "
        f"({', '.join(entry[0] for entry in PUBLISHED)}). Give a folder with its model_index.json and {CONFIG}"
    )


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
