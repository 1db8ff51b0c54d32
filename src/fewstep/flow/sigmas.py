"""SigmaGrid: the ONE grid of rollout, sampler and export.

A grid holds the noise levels at which a network is evaluated. They decrease strictly; the closing 0 is implied.
There are three ways to make one: a number of steps and a static shift, an explicit list, or the settings of a
pipeline's own scheduler at a resolution. The arithmetic follows diffusers' FlowMatchEulerDiscreteScheduler, and tests
compare the two.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewstep.runtime.errors import RecipeError


def shifted(sigma: float, shift: float) -> float:
    """The noise level s moved towards noise by the shift a > 0. a = 1 leaves it as it is."""
    # s' = a s / (1 + (a - 1) s)    [timestep shift of SD3, arXiv 2403.03206, eq. 23]
    return shift * sigma / (1 - sigma + shift * sigma)  # in this form sigma 1 stays 1 to the last bit


def dynamic_shift(tokens: int, config: Mapping[str, Any]) -> float:
    """The shift e^mu of a target of so many latent tokens, as the Qwen-Image pipelines compute it (`calculate_shift`).

    config: the scheduler's configuration. What it leaves out has diffusers' default.
    """
    # mu = base + (tokens - base_length) (top - base) / (max_length - base_length), linear in the tokens
    base_length, max_length = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (top - base) / (max_length - base_length)
    return math.exp(base + slope * (tokens - base_length))


def scheduler_shift(config: Mapping[str, Any], tokens: int, mu: float | None = None) -> float:
    """The shift that FlowMatchEulerDiscreteScheduler with `config` applies to every noise level: its own static one,
    or the dynamic one of a target of so many latent tokens.

    Args:
        mu: the logarithm of the dynamic shift, for pipelines that do not follow the scheduler's own rule for it.

    Raises:
        RecipeError: a scheduler with settings that are not supported here.
    """
    for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas"):
        if config.get(key):
            raise RecipeError(f"schedulers with {key} are not supported; give the grid as a list of sigmas")
    if config.get("time_shift_type", "exponential") != "exponential":
        raise RecipeError("schedulers with a linear time shift are not supported; give the grid as a list")
    if not config.get("use_dynamic_shifting", False):
        return float(config.get("shift", 1.0))
    # e^mu / (e^mu + 1 / s - 1) = e^mu s / (1 + (e^mu - 1) s)    [diffusers, FlowMatchEulerDiscreteScheduler]
    return dynamic_shift(tokens, config) if mu is None else math.exp(mu)


@dataclass(frozen=True)
class SigmaGrid:
    """Noise levels, strictly decreasing in (0, 1]. `grid[k]` is that of student step k; k = 0 is the noisiest.

    Raises:
        RecipeError: no level at all, a level outside (0, 1], or levels that do not decrease.
    """

    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.sigmas:
            raise RecipeError("a sigma grid needs at least one step")
        if not all(math.isfinite(s) and 0 < s <= 1 for s in self.sigmas):
            raise RecipeError(f"sigmas lie in (0, 1] and the closing 0 is implied; got {list(self.sigmas)}")
        if any(a <= b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False)):
            raise RecipeError(f"sigmas must decrease from step to step; got {list(self.sigmas)}")

    @classmethod
    def of(cls, sigmas: Sequence[float]) -> "SigmaGrid":
        """The grid of an explicit list, for example a released student's `sample_sigmas`."""
        return cls(tuple(float(s) for s in sigmas))

    @classmethod
    def static(cls, steps: int, shift: float = 1.0) -> "SigmaGrid":
        """1, 1 - 1/n, .., 1/n, each shifted. Four steps and shift 3 give 1, 0.9, 0.75, 0.5 (Qwen-Image-Lightning)."""
        if steps < 1:
            raise RecipeError(f"a sampler takes at least one step, not {steps}")
        if not (math.isfinite(shift) and shift > 0):
            raise RecipeError(f"a shift is a positive number (1 is none), not {shift}")
        return cls(tuple(shifted(1 - i / steps, shift) for i in range(steps)))

    @classmethod
    def of_scheduler(cls, config: Mapping[str, Any], steps: int, tokens: int, mu: float | None = None) -> "SigmaGrid":
        """The grid that FlowMatchEulerDiscreteScheduler with `config` makes for `steps` steps and `tokens` latent
        tokens.

        Args:
            mu: the logarithm of the dynamic shift, for pipelines that do not follow the scheduler's own rule for it.

        Raises:
            RecipeError: a scheduler with settings that are not supported here.
        """
        sigmas = cls.static(steps, scheduler_shift(config, tokens, mu)).sigmas
        terminal = config.get("shift_terminal")
        return cls(_stretched(sigmas, terminal) if terminal else sigmas)

    def __len__(self) -> int:
        return len(self.sigmas)

    def __iter__(self) -> Iterator[float]:
        return iter(self.sigmas)

    def __getitem__(self, k: int) -> float:
        return self.sigmas[k]

    def after(self, k: int) -> float:
        """The noise level that step k leads to. It is 0 for the last step."""
        return self.sigmas[k + 1] if k + 1 < len(self.sigmas) else 0.0


def _stretched(sigmas: Sequence[float], terminal: float) -> tuple[float, ...]:
    """The levels stretched so that the last one becomes `terminal` (the scheduler's `shift_terminal`)."""
    if 1 - sigmas[-1] <= 0:
        raise RecipeError("shift_terminal has no meaning for a grid of one step; give the grid as a list of sigmas")
    # s' = 1 - (1 - s) (1 - terminal) / (1 - s_last)    [diffusers, FlowMatchEulerDiscreteScheduler]
    scale = (1 - sigmas[-1]) / (1 - terminal)
    return tuple(1 - (1 - s) / scale for s in sigmas)
