"""Several LoRA adapters over one frozen base. At most one of them is on at a time.

peft's own switch (`set_adapter`) visits all modules and sets requires_grad on the way. That is too slow for a dozen
switches in each iteration. It is also wrong here, since student and critic both learn. So all LoRA layers share ONE
list of active names. A switch changes that list in place, and requires_grad is set once, after an adapter was added.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fewstep.backbones.shape_tensor import has_shapes
from fewstep.flow.rng import NamedRNG
from fewstep.lora.factors import Factors
from fewstep.lora.keys import to_diffusers_names
from fewstep.roles.plan import AdapterPlan
from fewstep.runtime import torchvision_pair

torchvision_pair.ensure()  # peft imports transformers

from peft import LoraConfig, inject_adapter_in_model  # noqa: E402
from peft.tuners.lora import LoraLayer  # noqa: E402


class Adapters:
    """The adapters of one transformer. The base is frozen. Adapters are fp32, whatever dtype the base is stored in."""

    def __init__(self, transformer: nn.Module, device: torch.device | None = None, autocast: bool = False):
        """
        Args:
            device: where adapters are, also those of layers whose own weights wait elsewhere. By default they are
                beside the layer's weights.
            autocast: whether forwards run under autocast. If so, layers need not cast their inputs to fp32 themselves.

        The base's parameters lose requires_grad.
        """
        self.transformer, self._autocast = transformer.requires_grad_(False), autocast
        self._on_meta = has_shapes(transformer)  # then gigabytes would be drawn that nobody reads
        self._device = None if self._on_meta else device
        self._layers: dict[str, LoraLayer] = {}
        self._on: list[str] = []  # the list that all layers share
        self._learning: set[str] = set()

    def add(self, name: str, plan: AdapterPlan, targets: Sequence[str], rng: NamedRNG) -> None:
        """Adds an adapter that learns, on the modules that `targets` name.

        A is uniform in +-1 / sqrt(inputs), as in peft, but drawn by module name: so it does not depend on the order of
        modules. B is zero, so the adapter starts as the base exactly. Over a base of shapes alone nothing is drawn, and
        the adapter's weights are on the meta device.
        """
        # h = W x + (alpha / rank) B A x, B = 0 at the start    [LoRA, arXiv 2106.09685, eq. 3 and sec. 4.1]
        alpha: Any = plan.alpha  # declared int in peft, used as a float
        self._learning.add(name)
        self._inject(name, LoraConfig(r=plan.rank, lora_alpha=alpha, target_modules=list(targets)))
        if self._on_meta:
            return
        with torch.no_grad():
            for key, weight in self.parameters(name).items():
                if key.endswith("lora_A.weight"):
                    u = rng.uniform(weight.shape, f"adapter {name} {key}")
                    weight.copy_((2 * u - 1) / math.sqrt(weight.shape[1]))
                else:
                    weight.zero_()

    def load(self, name: str, factors: Mapping[str, Factors], origin: str) -> None:
        """Adds a given adapter, frozen.

        Args:
            factors: by module, as the adapter's file names them.
            origin: the file, named in errors.

        Raises:
            AdapterError: it changes modules that this base lacks, or modules of other sizes.
        """
        factors = to_diffusers_names(factors, linear_shapes(self.transformer), origin)
        ranks = {f"^{module}": f.rank for module, f in factors.items()}
        alphas: Any = {f"^{module}": f.alpha for module, f in factors.items()}
        self._inject(name, LoraConfig(target_modules=list(factors), rank_pattern=ranks, alpha_pattern=alphas))
        own = self.parameters(name)
        with torch.no_grad():
            for module, f in factors.items():
                assert math.isclose(self._layers[module].scaling[name], f.alpha / f.rank), module
                own[f"{module}.lora_A.weight"].copy_(f.a)
                own[f"{module}.lora_B.weight"].copy_(f.b)

    def start_from(self, name: str, factors: Mapping[str, Factors]) -> None:
        """Sets a learning adapter, just added, to a given update exactly.

        Factors of a lower rank fill its first rows. The other rows keep their drawn A and their zero B: they change
        nothing yet, and can learn.

        factors: by the base's module names. Each is of a module that the adapter is on, and of at most its rank.
        """
        own = self.parameters(name)
        with torch.no_grad():
            for module, f in factors.items():
                ratio = f.scale / self._layers[module].scaling[name]
                own[f"{module}.lora_A.weight"][: f.rank].copy_(f.a)
                own[f"{module}.lora_B.weight"][:, : f.rank].copy_(f.b.float() * ratio)

    @contextmanager
    def active(self, name: str | None) -> Iterator[None]:
        """Adapter `name` is on inside, and all others are off; None means the base alone. At the end the adapter that
        was on before is on again.

        Nothing of autograd's graph remembers which adapter was on. A backward that recomputes activations runs with the
        adapter that is on then, so hold this context until that backward is over.
        """
        before = self._on[:]
        self._switch([] if name is None else [name])
        try:
            yield
        finally:
            self._switch(before)

    @property
    def on(self) -> str | None:
        """The adapter that is on now."""
        return self._on[0] if self._on else None

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """<module>.lora_A.weight (rank, in) and <module>.lora_B.weight (out, rank) of one adapter, by these names."""
        return {
            f"{module}.lora_{side}.weight": half[name].get_parameter("weight")
            for module, layer in self._layers.items()
            for side, half in (("A", layer.lora_A), ("B", layer.lora_B))
            if name in half
        }

    def _switch(self, on: list[str]) -> None:
        # Whoever calls peft's own set_adapter gives each layer a list of its own. From then on a change of the shared
        # list would reach no layer: all roles would silently run with the same adapter. Fail instead.
        first = next(iter(self._layers.values()), None)
        assert first is None or first._active_adapter is self._on, "an adapter was switched from outside"
        self._on[:] = on

    def _inject(self, name: str, config: LoraConfig) -> None:
        assert not self.parameters(name), f"adapter '{name}' exists already"
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Already found a `peft_config` attribute"
            )  # several are the point
            inject_adapter_in_model(config, self.transformer, adapter_name=name, low_cpu_mem_usage=self._on_meta)
        self._settle()

    def _settle(self) -> None:
        """Restores what holds here after peft has changed the modules.

        All adapters are fp32. Those that learn have requires_grad, and nothing else has. Every layer uses the shared
        list: peft's own list would be set per layer, and a switch would have to visit all of them.
        """
        self._layers = {n: m for n, m in self.transformer.named_modules() if isinstance(m, LoraLayer)}
        self.transformer.requires_grad_(False)
        for layer in self._layers.values():
            layer._disable_adapters = False
            layer._active_adapter = self._on
            layer.cast_input_dtype_enabled = not self._autocast
            for half in (layer.lora_A, layer.lora_B):
                for name, linear in half.items():
                    linear.to(device=self._device, dtype=torch.float32).requires_grad_(name in self._learning)


def linear_shapes(transformer: nn.Module) -> dict[str, tuple[int, ...]]:
    """(out, in) of every linear layer that an adapter can change, by module name."""
    inner = (".base_layer", ".lora_")  # of layers that carry adapters already
    plain = {name: _plain(m) for name, m in transformer.named_modules() if not any(part in name for part in inner)}
    return {name: tuple(m.weight.shape) for name, m in plain.items() if isinstance(m, nn.Linear)}


def _plain(module: nn.Module | None) -> nn.Module | None:
    return module.get_base_layer() if isinstance(module, LoraLayer) else module
