"""What all families of stock diffusers pipelines share: checking folders, loading, releasing parts, fingerprints.

A family adds what is specific to it: the forward, the layout of a sequence, how pictures become references. All
conventions are those of the stock pipeline, and contract tests compare each family with its pipeline's own call.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones import attention
from fewstep.backbones.backbone import Backbone
from fewstep.backbones.base_weights import hold_base_as
from fewstep.backbones.components import (
    component_class,
    preprocessors,
    refuse_absent_components,
    refuse_incomplete_preprocessor,
    refuse_unusable_scheduler,
)
from fewstep.backbones.finite import refuse_not_finite
from fewstep.backbones.folder import (
    folder_of,
    read_index,
    read_json,
    weight_files,
)
from fewstep.backbones.identity import (
    config_identity,
    digest,
    files_identity,
    module_identity,
    part_identity,
)
from fewstep.backbones.layout import TokenGrid
from fewstep.backbones.meta_copy import meta_copy
from fewstep.backbones.pipeline_call import PipelineCall
from fewstep.backbones.pipeline_times import PipelineTimes
from fewstep.backbones.projected_text import SAMPLED, projection_identity, read_projection
from fewstep.backbones.weight_check import refuse_unfit_weights
from fewstep.runtime.base_weight_kinds import BaseWeights
from fewstep.runtime.device import check_device
from fewstep.runtime.errors import ModelError

Parts = Literal["all", "encoder", "decoder", "transformer"]

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"  # names of weight files
STEMS = {"text_encoder": TRANSFORMERS, "vae": DIFFUSERS, "transformer": DIFFUSERS}
# The parts with weights that each of Parts loads; "transformer" is that module alone, without a stock pipeline.
LOADED: Mapping[Parts, tuple[str, ...]] = {
    "all": ("text_encoder", "vae", "transformer"),
    "encoder": ("text_encoder", "vae"),
    "decoder": ("vae", "transformer"),
    "transformer": ("transformer",),
}

attention.install()


class PipelineBackbone(PipelineCall, PipelineTimes, Backbone):
    """A family whose work is done by stock diffusers classes.

    `pipeline` is None if only the transformer was loaded. `folder` is None if the model was made in memory. All modules
    are frozen and in eval mode. Whoever trains a module sets requires_grad on what it trains.
    """

    pipelines: ClassVar[Mapping[str, Any]]  # stock class by the name that a model_index.json gives it
    transformer_class: ClassVar[Any]
    encoding_version: ClassVar[
        int
    ]  # raise when template or image preparation change: stored conditionings are void then

    def __init__(
        self,
        transformer: Any,
        scheduler: Mapping[str, Any],
        index: Mapping[str, Any] | None = None,
        pipeline: Any = None,
        source: str = "memory",
        folder: Path | None = None,
    ):
        """
        Args:
            transformer: None for a model that only encodes and decodes. Its config is then read from `folder`.
            scheduler: the config of the stock scheduler.
            index: the content of model_index.json.
        """
        self._transformer = transformer
        if transformer is not None:
            self._config: Mapping[str, Any] = transformer.config
        else:
            assert folder is not None
            self._config = self._config_in(folder)
        self.pipeline = pipeline
        self.source = source
        self.latent_channels = self._config["in_channels"]
        self.folder = folder
        self._scheduler = scheduler
        self._index: Mapping[str, Any] = index or {}
        self._fingerprint: str | None = None  # kept once the text encoder is gone
        self._projection: Tensor | None = None  # of texts, once it was read
        for module in (transformer, *((pipeline.text_encoder, pipeline.vae) if pipeline else ())):
            if module is not None:
                module.eval().requires_grad_(False)

    # ---- making one

    @classmethod
    def load(
        cls,
        source: str | Path,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        parts: Parts = "all",
        base_weights: BaseWeights = "precision",
    ) -> Self:
        """Loads a model from a folder or a hub id. Weights must be safetensors.

        Args:
            parts: all; encoder: text encoder, processor and VAE; decoder: transformer and VAE; transformer.
            base_weights: round the transformer's blocks so, before anything is moved to the device.

        Raises:
            ModelError: the folder is incomplete or its weights are pickled. This is checked before any weight is read.
            EnvironmentRefused: the device or the dtype is not available here.
        """
        device = check_device(dtype, device)
        folder = folder_of(source)
        index = cls.inspect(folder, parts)
        how = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
        if parts != "transformer":
            left_out = dict.fromkeys(set(STEMS) - set(LOADED[parts]))
            pipeline = cls.pipelines[index["_class_name"]].from_pretrained(folder, **left_out, **how)
            hold_base_as(pipeline.transformer, base_weights)
            return cls.from_pipeline(pipeline.to(device), str(source), folder)
        transformer = cls.transformer_class.from_pretrained(folder / "transformer", **how)
        hold_base_as(transformer, base_weights)
        transformer.to(device)
        return cls(transformer, cls.scheduler_in(folder), index, None, str(source), folder)

    @classmethod
    def inspect(cls, folder: Path, parts: Parts = "all") -> dict[str, Any]:
        """The folder's index, after checking that every file needed for loading is there and complete, and
        that its tensors are those of the stock classes. Of weights only headers are read.

        Raises:
            ModelError: another family; a file that is missing, incomplete or pickled; or weights that are not the
                model's. The message names it.
        """
        index = read_index(folder)
        name = str(index.get("_class_name"))
        if name not in cls.pipelines:
            raise ModelError(f"{folder} names the class {name}; {cls.family} is {' or '.join(sorted(cls.pipelines))}")
        refuse_unusable_scheduler(folder, cls.scheduler_in(folder), cls.pipelines[name])
        if parts != "transformer":  # a stock pipeline is not made without its vocabularies
            own = {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]} if cls.own_scheduler else {}
            refuse_absent_components(folder, own | index, cls.pipelines[name])
            for part in preprocessors(cls.pipelines[name]):
                refuse_incomplete_preprocessor(folder / part)
        cls._config_in(folder)
        for part in LOADED[parts]:
            read_json(folder / part / "config.json")
            weight_files(folder / part, STEMS[part])
        for part in LOADED[parts]:  # after all are known to be there, which takes less
            refuse_unfit_weights(folder / part, STEMS[part], component_class(folder, index, part, cls.pipelines[name]))
        return index

    @classmethod
    def _config_in(cls, folder: Path) -> dict[str, Any]:
        """The transformer's config in a model folder, with the stock class's defaults for what the file leaves out.

        Raises:
            ModelError: it is missing or cannot be read.
        """
        defaults = signature(cls.transformer_class.__init__).parameters.items()
        return {name: p.default for name, p in defaults} | read_json(folder / "transformer" / "config.json")

    @classmethod
    def scheduler_in(cls, folder: Path) -> dict[str, Any]:
        """The config of the scheduler in a model folder.

        Raises:
            ModelError: it is missing or cannot be read.
        """
        return read_json(folder / "scheduler" / "scheduler_config.json")

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "memory", folder: Path | None = None) -> Self:
        """A model around a stock pipeline, whose modules are used without copying."""
        pipeline.set_progress_bar_config(disable=True)
        index = dict(pipeline.config) | {"_class_name": type(pipeline).__name__}
        return cls(pipeline.transformer, pipeline.scheduler.config, index, pipeline, source, folder)

    @classmethod
    def random(
        cls,
        config: Mapping[str, Any],
        scheduler: Mapping[str, Any] | None = None,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> Self:
        """A model with random weights, to measure memory and speed. config: of its transformer; {} means the defaults
        of the stock class."""
        defaults = torch.get_default_dtype()
        torch.set_default_dtype(dtype)  # made in its dtype at once: float32 first would take twice the memory
        try:
            with check_device(dtype, device):
                transformer = cls.transformer_class.from_config(dict(config))
        finally:
            torch.set_default_dtype(defaults)
        return cls(transformer, scheduler or {}, source="random")

    # ---- noise levels and times

    def sampling_shift(self, steps: int, target: TokenGrid) -> float:
        return self.scheduler_shift(self._scheduler, steps, target[0] * target[1])

    def told_times(self, t_B: Tensor) -> Tensor:
        dtype = self._dtype(self.transformer)
        return t_B if dtype == torch.float32 else self._told(t_B, dtype)  # fp32 is exact to its last bit or two

    # ---- its parts

    @property
    def transformer(self) -> Any:  # type: ignore[override]  # of the contract it is an attribute; nobody sets this one
        """The transformer.

        Raises:
            ModelError: it was not loaded.
        """
        if self._transformer is None:
            raise ModelError(
                f"{self.source} was loaded to encode, without its transformer; load it with parts='all' or 'decoder'"
            )
        return self._transformer

    def decode(self, x0_BND: Tensor, target: TokenGrid) -> list[Image.Image]:
        """Pictures of packed clean latents, with the channels of the pipeline's output.

        Raises:
            PictureError: pixels that are not finite.
        """
        processor = self._require_pipeline("decode latents").image_processor
        return processor.postprocess(self._finite(x0_BND, target), output_type="pil")

    def pixels(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        processor = self._require_pipeline("decode latents").image_processor
        return torch.from_numpy(processor.postprocess(self._finite(x0_BND, target), output_type="np")).float()

    def _finite(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        decoded = self._decoded(x0_BND, target)
        refuse_not_finite(decoded, "pixels")
        return decoded

    @abstractmethod
    def _decoded(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        """The VAE's output (B, channels, H, W) in [-1, 1]."""

    @contextmanager
    def vae_on_device(self) -> Iterator[None]:
        if self.pipeline is None:
            yield
            return
        vae = self.pipeline.vae
        home = vae.device
        vae.to(self.device)
        try:
            yield
        finally:
            vae.to(home)

    def release_encoder(self) -> None:
        """Drops the text encoder and moves the VAE to the CPU. The fingerprint is kept, as it may need the encoder."""
        if self.pipeline is None:
            return
        self._fingerprint = self.fingerprint()
        self.pipeline.register_modules(text_encoder=None)
        self.pipeline.vae.to("cpu")

    def meta_copy(self) -> Self:
        twin = copy.copy(self)
        twin.pipeline, twin._transformer = None, meta_copy(self.transformer)
        return twin

    def replace_transformer(self, transformer: nn.Module) -> None:
        self._transformer = transformer
        if self.pipeline is not None:
            self.pipeline.register_modules(transformer=transformer)

    def modules(self) -> dict[str, nn.Module]:
        held = {part: getattr(self.pipeline, part, None) for part in STEMS}
        return {part: module for part, module in held.items() if module is not None} or super().modules()

    def _require_pipeline(self, purpose: str) -> Any:
        """The stock pipeline.

        Raises:
            ModelError: only the transformer was loaded.
        """
        if self.pipeline is None:
            raise ModelError(f"to {purpose}, load {self.source} with parts='all'; only its transformer was loaded")
        return self.pipeline

    def _require_encoder(self) -> Any:
        """The stock pipeline with its text encoder.

        Raises:
            ModelError: it was not loaded, or was released.
        """
        pipeline = self._require_pipeline("encode prompts")
        if pipeline.text_encoder is None:
            raise ModelError(
                f"the text encoder of {self.source} was released, or not loaded; to encode prompts, load the model "
                "with parts='encoder'"
            )
        return pipeline

    def fingerprint(self) -> str:
        """The fingerprint of text encoder, processor and VAE.

        It is read from the folder if there is one. So a run that loads only the transformer finds its store as well.
        A model without a folder is identified by its modules.
        """
        if self._fingerprint is not None:
            return self._fingerprint
        if self.folder is not None:
            return self.fingerprint_in(self.folder)
        pipeline = self._require_pipeline("name what conditionings depend on")
        modules = module_identity(pipeline.text_encoder) + module_identity(pipeline.vae)
        vae = config_identity(dict(pipeline.vae.config))
        told = digest([self._stamp(), *self._preprocessor_identity(pipeline), vae, *modules])
        return digest([told.encode(), projection_identity(self._text_projection())]) if self.encoded_layers else told

    @classmethod
    def fingerprint_in(cls, folder: Path) -> str:
        """The fingerprint of the model in a folder, without loading a weight.

        Raises:
            ModelError: a file of text encoder, processor or VAE is missing or incomplete.
        """
        parts = part_identity(folder / "text_encoder", TRANSFORMERS) + part_identity(folder / "vae", DIFFUSERS)
        for part in preprocessors(cls.pipelines[read_index(folder)["_class_name"]]):
            parts += files_identity(folder / part)
        told = digest([cls._stamp(), *parts])
        return digest([told.encode(), cls.encoded_identity(folder)]) if cls.encoded_layers else told

    @classmethod
    def encoded_identity(cls, folder: Path) -> bytes:
        """The identity of `encoded_layers`, which all models of one run share: what they answered is in the store.

        Raises:
            ModelError: their weights are missing.
        """
        return projection_identity(read_projection(folder, SAMPLED)) if cls.encoded_layers else b""

    def _projected(self, states_BLC: Tensor) -> Tensor:
        """What the layer of `encoded_layers` answers to hidden states of the text encoder, in the layer's dtype."""
        weight = self._text_projection().to(states_BLC.device)
        return nn.functional.linear(states_BLC.to(weight.dtype), weight)

    def _text_projection(self) -> Tensor:
        """That layer's weight. It is read from the folder: encoding needs no transformer."""
        if self.folder is None:
            weight: Tensor = untyped(self.transformer).context_embedder.weight.detach()
            return weight
        if self._projection is None:
            self._projection = read_projection(self.folder).to(self._require_encoder().text_encoder.dtype)
        return self._projection

    @classmethod
    def _stamp(cls) -> bytes:
        return f"{cls.family}/{cls.encoding_version}".encode()

    @abstractmethod
    def _preprocessor_identity(self, pipeline: Any) -> list[bytes]:
        """The identity of what a pipeline in memory tokenises text and prepares pictures with."""


def untyped(transformer: nn.Module) -> Any:
    """The same module, typed as Any, for attributes that the type nn.Module does not have."""
    return transformer
