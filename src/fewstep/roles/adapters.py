"""Several LoRA adapters over one frozen base, one of them on at a time, or none.

peft's own switch walks all modules and sets requires_grad as it goes: too slow for a dozen switches an iteration, and
wrong for us, since student and critic both learn. Here all LoRA layers share ONE list of active names, so a switch is a
change of that list, and requires_grad is settled once.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fewstep.flow.rng import NamedRNG
from fewstep.lora.factors import Factors
from fewstep.lora.keys import to_diffusers_names
from fewstep.roles.plan import AdapterPlan
from fewstep.runtime import torchvision_pair

torchvision_pair.ensure()  # peft imports transformers

from peft import LoraConfig, inject_adapter_in_model  # noqa: E402
from peft.tuners.lora import LoraLayer  # noqa: E402


class Adapters:
    """The adapters of one transformer. The base is frozen, adapters are fp32 whatever the base is stored in."""

    def __init__(self, transformer: nn.Module, autocast: bool = False):
        """autocast: forwards run under it, so that layers need not take their inputs up to fp32 on their own."""
        self.transformer, self._autocast = transformer.requires_grad_(False), autocast
        self._layers: dict[str, LoraLayer] = {}
        self._on: list[str] = []  # the list that all layers share
        self._learning: set[str] = set()

    def add(self, name: str, plan: AdapterPlan, targets: Sequence[str], rng: NamedRNG) -> None:
        """A new adapter that learns. A is uniform in +-1 / sqrt(inputs) as peft's, but drawn by module name; B is zero,
        so it starts as the base exactly."""
        alpha: Any = plan.alpha  # declared int in peft, used as a number
        self._learning.add(name)
        self._inject(name, LoraConfig(r=plan.rank, lora_alpha=alpha, target_modules=list(targets)))
        with torch.no_grad():
            for key, weight in self.parameters(name).items():
                if key.endswith("lora_A.weight"):
                    u = rng.uniform(weight.shape, f"adapter {name} {key}")
                    weight.copy_((2 * u - 1) / math.sqrt(weight.shape[1]))
                else:
                    weight.zero_()

    def load(self, name: str, factors: Mapping[str, Factors], origin: str) -> None:
        """A given adapter, frozen; modules as its file names them. `origin` is named in errors.

        Raises:
            AdapterError: it changes modules that this base lacks, or of other sizes.
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
        """A learning adapter, just added, becomes this update exactly. Factors of a lower rank fill its first rows;
        the others keep their drawn A and zero B, so they change nothing yet and can learn.

        factors: by the base's module names, each of a module that the adapter is on, of at most its rank.
        """
        own = self.parameters(name)
        with torch.no_grad():
            for module, f in factors.items():
                ratio = f.scale / self._layers[module].scaling[name]
                own[f"{module}.lora_A.weight"][: f.rank].copy_(f.a)
                own[f"{module}.lora_B.weight"][:, : f.rank].copy_(f.b.float() * ratio)

    @contextmanager
    def active(self, name: str | None) -> Iterator[None]:
        """Adapter `name` on and all others off; None: the bare base. What was on comes back at the end."""
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
        """<module>.lora_A.weight and <module>.lora_B.weight of one adapter."""
        return {
            f"{module}.lora_{side}.weight": half[name].get_parameter("weight")
            for module, layer in self._layers.items()
            for side, half in (("A", layer.lora_A), ("B", layer.lora_B))
            if name in half
        }

    def _switch(self, on: list[str]) -> None:
        # A foreign set_adapter gives layers lists of their own: the roles would silently stop switching.
        first = next(iter(self._layers.values()), None)
        assert first is None or first._active_adapter is self._on, "an adapter was switched from outside"
        self._on[:] = on

    def _inject(self, name: str, config: LoraConfig) -> None:
        assert not self.parameters(name), f"adapter '{name}' exists already"
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Already found a `peft_config` attribute"
            )  # several are the point
            inject_adapter_in_model(config, self.transformer, adapter_name=name)
        self._settle()

    def _settle(self) -> None:
        """After peft has been at the modules: all adapters fp32, those that learn with requires_grad, all else without,
        and every layer on the shared list."""
        self._layers = {n: m for n, m in self.transformer.named_modules() if isinstance(m, LoraLayer)}
        self.transformer.requires_grad_(False)
        for layer in self._layers.values():
            layer._disable_adapters = False
            layer._active_adapter = self._on
            layer.cast_input_dtype_enabled = not self._autocast
            for half in (layer.lora_A, layer.lora_B):
                for name, linear in half.items():
                    linear.float().requires_grad_(name in self._learning)


def linear_shapes(transformer: nn.Module) -> dict[str, tuple[int, ...]]:
    """(out, in) of everything that an adapter can change."""
    inner = (".base_layer", ".lora_")  # of layers that carry adapters already
    plain = {name: _plain(m) for name, m in transformer.named_modules() if not any(part in name for part in inner)}
    return {name: tuple(m.weight.shape) for name, m in plain.items() if isinstance(m, nn.Linear)}


def _plain(module: nn.Module | None) -> nn.Module | None:
    return module.get_base_layer() if isinstance(module, LoraLayer) else module
