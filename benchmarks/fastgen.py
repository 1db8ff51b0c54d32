"""Seconds per student update against NVIDIA Model-Optimizer fastgen, and the same gradient from the same draws.

One tiny QwenImageTransformer2DModel (the stock class) for both sides, full copies, same batch, guidance, grid, p(t),
clipping, AdamW and average; one student update after `--critic` updates of the critic. Both sides take turns in one
process. A round is four student updates, since an update's cost depends on the step that is drawn: ours takes each of
the K = 4 once in four, theirs draws one anew for each update of either network.

  theirs, simulated   `backward_simulation: true`: each update rolls the student out anew, up to the step drawn for it
  theirs, real        `backward_simulation: false`, as its Qwen-Image recipe has it: the student starts from noised REAL
                      latents and never sees its own states; no rollout at all, and pictures are needed to train
  ours                one rollout for the whole iteration
  ours, forward once  with `student.forward_once`
  ours, critic 2      one rollout, at the ratio that our recipes ship
  ours, adapters      student and critic as LoRA over one frozen base (--adapters), as our recipes ship; theirs stay
                      full copies, the only kind that it has

With --compile, ours and theirs run beside themselves with compiled blocks (`run.compile`; its loop is the caller's, who
can compile as well).

Needs the extra `peers` (pip install 'fewstep[peers]').
With --precision bf16 both sides run as real runs do: learnt weights fp32 masters under autocast, the teacher in bf16.

python benchmarks/fastgen.py [--rounds 5] [--batch 2] [--critic 5] [--precision fp32] [--compile] [--adapters]
    [--gradient]
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewstep.backbones import attention
from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.layout import Layout
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.stock import QwenImageTransformer2DModel
from fewstep.encode.batch import Batch
from fewstep.flow import path
from fewstep.flow.rng import NamedRNG
from fewstep.objective.dmd import dmd_loss
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.compilation import compile_blocks
from fewstep.roles.execution import Execution
from fewstep.roles.plan import CriticPlan, StudentPlan, TeachersSpec
from fewstep.roles.step_index import StepIndex
from fewstep.runtime.allocator import keep_freed_memory
from fewstep.runtime.device import PRECISIONS
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.settings import DMDSettings

CONFIG = {
    "in_channels": 64, "out_channels": 16, "num_layers": 4, "num_attention_heads": 6, "attention_head_dim": 64,
    "joint_attention_dim": 512, "axes_dims_rope": (16, 24, 24),
}  # fmt: skip
SIDE = 12  # rows and columns of the target's tokens, each 2 x 2 latents of 16 channels
WORDS, NEGATIVE_WORDS = 24, 8  # text positions of the prompts and of the negative prompt
STEPS, SCALE, NEGATIVE, DECAY, CLIP = 4, 4.0, " ", 0.98, 1.0
RATES, BETAS = {"student": 2e-6, "critic": 2e-6}, (0.0, 0.999)
RNG = NamedRNG(0)


def transformer(seed: int = 0) -> nn.Module:
    """Random weights, from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QwenImageTransformer2DModel(**CONFIG).eval()


def batch_of(size: int) -> Batch:
    """Prompts of one length, a shorter negative prompt, text drawn at random."""
    layout = Layout("t2i", (SIDE, SIDE))

    def told(words: int, name: str) -> Conditioning:
        text_BLC = RNG.normal((size, words, CONFIG["joint_attention_dim"]), name)
        return Conditioning(text_BLC, torch.ones(size, words, dtype=torch.bool), layout)

    cond, negatives = told(WORDS, "text"), {NEGATIVE: told(NEGATIVE_WORDS, "negative")}
    return Batch(0, "t2i", cond, negatives, tuple(range(size)), ("any",) * size, ("case",) * size)


def ours(
    updates: int,
    base: nn.Module | None = None,
    compile: bool = False,
    once: bool = False,
    precision: str = "fp32",
    adapters: bool = False,
) -> DMDStep:
    """Full copies of one base, or adapters over it, guided as theirs. once: `student.forward_once`."""
    base = base if base is not None else transformer().to(PRECISIONS[precision])
    backbone = QwenImage(base, {"shift": 1.0})
    mode: Literal["adapter", "full"] = "adapter" if adapters else "full"
    student = StudentPlan(
        mode=mode, steps=STEPS, shift=1.0, learning_rate=RATES["student"], ema=DECAY, clip=CLIP, forward_once=once
    )
    critic = CriticPlan(mode=mode, learning_rate=RATES["critic"], updates=updates, clip=CLIP)
    guidance = {"t2i": {"scale": SCALE, "negative": NEGATIVE}}
    teachers = TeachersSpec.model_validate({"base": {"guidance": guidance}})
    roles = build_roles(
        backbone, RolesSpec(student, critic, teachers, 1000), RNG, Execution(precision=precision, compile=compile)
    )
    return build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan()), RNG)


class Older(nn.Module):
    """The stock transformer as diffusers before 0.39 took its arguments: `txt_seq_lens`, which the mask replaced."""

    def __init__(self, stock: nn.Module):
        super().__init__()
        self.stock = stock

    def forward(self, *, txt_seq_lens: list[int] | None = None, **given: Any) -> Any:
        return self.stock(**given)


def fastgen() -> tuple[Any, Any]:
    """Its configuration and its Qwen-Image pipeline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it names the versions of other packages that it was tested with
        from modelopt.torch.fastgen import DMDConfig
        from modelopt.torch.fastgen.plugins.qwen_image import QwenImageDMDPipeline
    return DMDConfig, QwenImageDMDPipeline


class Theirs:
    """The training loop that its pipeline leaves to the caller."""

    def __init__(self, updates: int, simulated: bool, batch: Batch, compile: bool = False, precision: str = "fp32"):
        config, pipeline = fastgen()
        grid = [1.0 - k / STEPS for k in range(STEPS)]
        student, teacher, critic = (Older(transformer()) for _ in range(3))
        teacher.requires_grad_(False).to(PRECISIONS[precision])
        self.precision = PRECISIONS[precision]
        for net in (student, teacher, critic) if compile else ():
            compile_blocks(net.stock)
        self.pipeline = pipeline(
            student, teacher, critic,
            config(
                pred_type="flow", fake_score_pred_type="flow", guidance_scale=SCALE, student_sample_steps=STEPS,
                student_update_freq=updates, backward_simulation=simulated,
                sample_t_cfg={"time_dist_type": "uniform", "min_t": 0.02, "max_t": 0.98, "t_list": [*grid, 0.0]},
                ema={"decay": DECAY, "fsdp2": False},
            ),
        )  # fmt: skip
        self.updates, self.nets = updates, {"student": student, "critic": critic}
        self.optimisers = {
            name: torch.optim.AdamW(net.parameters(), lr=RATES[name], betas=BETAS, weight_decay=0.0, fused=True)
            for name, net in self.nets.items()
        }
        self.told = {
            "encoder_hidden_states": batch.cond.text_BLC,
            "encoder_hidden_states_mask": batch.cond.mask_BL,
        }
        negative = batch.negatives[NEGATIVE]
        self.negative = {
            "negative_encoder_hidden_states": negative.text_BLC,
            "negative_encoder_hidden_states_mask": negative.mask_BL,
        }
        self.latents = torch.randn(len(batch.samples), 16, 2 * SIDE, 2 * SIDE)

    def iterate(self) -> None:
        """With the attention that diffusers has by itself: ours is put into a table of the whole process."""
        with attention.only_stock():
            self._iterate()

    def _iterate(self) -> None:
        for _ in range(self.updates):
            noise = torch.randn_like(self.latents)
            with self._cast():
                losses = self.pipeline.compute_fake_score_loss(self.latents, noise, **self.told)
            self._step("critic", losses)
        noise = torch.randn_like(self.latents)
        with self._cast():
            losses = self.pipeline.compute_student_loss(self.latents, noise, **self.told, **self.negative)
        self._step("student", losses)
        self.pipeline.update_ema()

    def _cast(self) -> torch.autocast:
        """Without autocast's cache, as ours: casts made in its rollout, without gradient, would be taken again."""
        return torch.autocast("cpu", self.precision, enabled=self.precision != torch.float32, cache_enabled=False)

    def _step(self, name: str, losses: dict[str, Tensor]) -> None:
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(self.nets[name].parameters(), CLIP)
        self.optimisers[name].step()
        self.optimisers[name].zero_grad(set_to_none=True)


def gradient_difference(k: int, size: int = 2) -> float:
    """max |ours - theirs| / max |ours| over the student's gradients, from the same z_k, t, noise, teacher and critic.

    One equation on both sides but for the divisor: theirs is mean|x0 - x0_real| + 1e-6, ours max(mean|x0 - x0_real|,
    floor); at t above .1 the samples lie above our floor of .05. Times are whole 64ths: ours rounds t as the stock
    pipeline does (t * 1000 / 1000), theirs does not, and for these both are exact. Networks in float64: compared is
    the equation, not the order of sums.
    """
    config, pipeline = fastgen()
    step, batch = ours(1, transformer().double()), batch_of(size)
    for net in (step.roles.student, step.roles.critic):
        net.transformer.double()
    shaken(step.roles.student.transformer, "student")
    shaken(step.roles.critic.transformer, "critic")
    noise = torch.Generator().manual_seed(k)
    latents = torch.randn(size, 16, 2 * SIDE, 2 * SIDE, generator=noise).double()
    t_B = (torch.rand(size, generator=noise) * 54 + 8).round() / 64
    t_k = torch.full((size,), step.settings.student.grid[k])

    class SameDraws(pipeline):  # type: ignore[misc, valid-type]
        def _build_student_input(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            return latents, t_k

        def sample_timesteps(self, *_: Any, **__: Any) -> Tensor:
            return t_B

    nets = [step.roles.student, step.roles.teachers.teachers["base"].network, step.roles.critic]
    grid = {"t_list": [*step.settings.student.grid, 0.0], "min_t": 0.02, "max_t": 0.98}
    told = config(guidance_scale=SCALE, student_sample_steps=STEPS, sample_t_cfg=grid)
    theirs = SameDraws(*(Older(net.transformer) for net in nets), told)
    cond, negative = batch.cond.to(dtype=torch.float64), batch.negatives[NEGATIVE].to(dtype=torch.float64)
    torch.manual_seed(k)
    losses = theirs.compute_student_loss(
        latents, latents, cond.text_BLC, encoder_hidden_states_mask=cond.mask_BL,
        negative_encoder_hidden_states=negative.text_BLC, negative_encoder_hidden_states_mask=negative.mask_BL,
    )  # fmt: skip
    theirs_by_name = gradients(step, losses["total"])

    torch.manual_seed(k)  # its only draw left is the noise
    eps_BND, z_k = packed(torch.randn_like(latents)), packed(latents)
    x0_BND = path.clean(z_k, step.roles.student.velocity(z_k, t_k, batch.cond), t_k)
    z_BND = path.noised(x0_BND.detach(), eps_BND, t_B)
    v_real_BND = step.roles.teachers.velocity(z_BND, t_B, batch, StepIndex(0, k))
    with torch.no_grad():
        v_fake_BND = step.roles.critic.velocity(z_BND, t_B, batch.cond)
    loss, _ = dmd_loss(x0_BND, z_BND, t_B, v_real_BND, v_fake_BND, step.settings.objective.normaliser_floor)
    ours_by_name = gradients(step, loss)
    largest = max(float(g.abs().max()) for g in ours_by_name.values())
    return max(float((g - theirs_by_name[name]).abs().max()) for name, g in ours_by_name.items()) / largest


def packed(latents: Tensor) -> Tensor:
    """B x 16 x H x W as tokens of 2 x 2 latents, by the stock pipeline's rule."""
    B, C, H, W = latents.shape
    return latents.view(B, C, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(B, H * W // 4, 4 * C)


def shaken(net: nn.Module, name: str) -> None:
    """Weights moved by 2 %, so that student, critic and teacher differ."""
    with torch.no_grad():
        for key, weight in net.named_parameters():
            weight += 0.02 * weight.std(correction=0) * RNG.normal(weight.shape, f"{name} {key}")


def gradients(step: DMDStep, loss: Tensor) -> dict[str, Tensor]:
    """Of the student's weights that the loss reaches (the last block's text side has none)."""
    named = step.roles.student.named_parameters()
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def interleaved(runs: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds per student update, of rounds of four; the first, uncounted, warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for r in range(rounds + 1):
        for name in runs if r % 2 else reversed(runs):
            begun = time.process_time()
            for k in range(STEPS):
                runs[name](STEPS * r + k)
            if r:
                seconds[name].append((time.process_time() - begun) / STEPS)
    return seconds


def _iterating(peer: Theirs) -> Callable[[int], object]:
    return lambda _: peer.iterate()


def _improving(step: DMDStep, batch: Batch) -> Callable[[int], object]:
    return lambda i: step.iterate(i, i % STEPS, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--critic", type=int, default=5, help="critic updates for one of the student")
    parser.add_argument("--compile", action="store_true", help="compiled blocks too, on both sides")
    parser.add_argument("--adapters", action="store_true", help="our roles as adapters too")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="fp32")
    parser.add_argument("--gradient", action="store_true", help="only the gradients")
    options = parser.parse_args()
    keep_freed_memory()
    for k in range(STEPS):
        print(f"student step {k}: largest difference of the gradients {gradient_difference(k):.1e} of the largest")
    if options.gradient:
        return
    batch, precision = batch_of(options.batch), options.precision

    def our(updates: int, **keys: bool) -> DMDStep:
        return ours(updates, precision=precision, **keys)

    def their(simulated: bool, compile: bool = False) -> Theirs:
        return Theirs(options.critic, simulated, batch, compile, precision)

    steps = {
        "ours": our(options.critic),
        "ours, forward once": our(options.critic, once=True),
        "ours, critic 2": our(2),
    }
    peers = {"theirs, simulated": their(True), "theirs, real": their(False)}
    if options.adapters:
        steps |= {
            "ours, adapters": our(options.critic, adapters=True),
            "ours, adapters, forward once": our(options.critic, adapters=True, once=True),
            "ours, adapters, critic 2": our(2, adapters=True),
        }
    if options.compile:
        peers["theirs, simulated, compiled"] = their(True, compile=True)
        steps |= {
            "ours, compiled": our(options.critic, compile=True),
            "ours, compiled, forward once": our(options.critic, compile=True, once=True),
            "ours, critic 2, compiled": our(2, compile=True),
        }
    if options.compile and options.adapters:
        steps["ours, adapters, compiled, forward once"] = our(options.critic, adapters=True, compile=True, once=True)
    runs: dict[str, Callable[[int], object]] = {name: _iterating(peer) for name, peer in peers.items()}
    runs |= {name: _improving(step, batch) for name, step in steps.items()}
    weights = sum(p.numel() for p in transformer().parameters())
    print(
        f"{weights / 1e6:.0f} M weights, batch {options.batch}, critic {options.critic} : 1, K = {STEPS}, {precision}"
    )
    seconds = interleaved(runs, options.rounds)
    peer = seconds["theirs, simulated"]
    for name, spent in seconds.items():
        pairs = statistics.median(s / p for s, p in zip(spent, peer, strict=True))
        print(
            f"{name:38} {min(spent):.2f} s least, {statistics.median(spent):.2f} median per student update; "
            f"to 'theirs, simulated': minima {min(spent) / min(peer):.2f}, median of pairs {pairs:.2f}"
        )


if __name__ == "__main__":
    main()
