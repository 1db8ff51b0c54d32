"""Training the pocket teacher: flow matching on latents, T2I and edits in turn.

Two files in the run folder are signals: `cooldown` (it contains a number of minutes) starts the linear decay of the
learning rate now, `stop` ends the run after a checkpoint. When started again, training continues from its last
checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fewstep.pocket.build import Pipeline
from pocket_making.ranks import TeacherRanks
from pocket_making.training_batches import (
    DEFAULT_BATCH_CONFIG,
    BatchConfig,
    Corpus,
    TrainingBatches,
)

Log = Callable[[str], None]


@dataclass(frozen=True)
class TeacherTrainingConfig:
    """Numbers of the teacher's training; all ours."""

    batch: int = 64
    seed: int = 0  # of the batches; a stretch that goes on from another's weights needs another one
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    warmup: int = 60
    ema: float = 0.998
    batch_config: BatchConfig = DEFAULT_BATCH_CONFIG
    checkpoint_minutes: float = 2.0
    cooldown_share: float = 0.2
    compiled: bool = False  # ours: a step takes 0.85 of the time, after a minute of compiling


class TeacherTrainer:
    """The transformer in training: fp32 masters, EMA, two optimisers, one clock."""

    def __init__(
        self,
        pipeline: Pipeline,
        folder: Path,
        plan: TeacherTrainingConfig,
        minutes: float,
        log: Log,
        ranks: TeacherRanks,
    ):
        self.ranks = ranks
        self.model, self.folder, self.plan, self.minutes, self.log = pipeline.transformer, folder, plan, minutes, log
        self.training_batches = TrainingBatches(pipeline, plan.batch_config, plan.compiled)
        self.model.train().requires_grad_(True)
        inner = [p for n, p in self.model.named_parameters() if n.startswith("transformer_blocks") and p.ndim == 2]
        ids = {id(p) for p in inner}
        outer = [p for p in self.model.parameters() if id(p) not in ids]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(inner, lr=plan.muon_rate, weight_decay=0.01),
            torch.optim.AdamW(outer, lr=plan.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.rates = [plan.muon_rate, plan.adam_rate]
        self.ema = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.step, self.spent = 0, 0.0
        self.cooling: tuple[float, float] | None = None  # minutes spent when the cool-down began, and its length
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.pt").exists():
            self.restore()

    def restore(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        self.step, self.spent = state["step"], state["spent"]
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.log(f"resumed at step {self.step}, {self.spent:.1f} min spent")

    def save(self) -> None:
        if self.ranks.rank > 0:
            return
        state = {"model": self.model.state_dict(), "ema": self.ema, "step": self.step, "spent": self.spent}
        torn = self.folder / "state.part"
        torch.save({**state, "optimisers": [o.state_dict() for o in self.optimisers]}, torn)
        torn.rename(self.folder / "state.pt")

    def check_cooldown(self) -> None:
        if self.plan.cooldown_share == 0:  # a first stage; the file is for the last one
            return
        asked = self.folder / "cooldown"
        if self.ranks.flag_of_rank_zero(self.cooling is None and asked.exists()):
            self.cooling = (self.spent, float(asked.read_text().strip() or 10))
            self.log(f"cool-down over {self.cooling[1]:g} minutes begins")

    def lr_scale(self) -> float:
        """Warm-up, plateau, linear decay. The decay begins in the last share of the time, or when requested."""
        begin, length = self.cooling or (
            self.minutes * (1 - self.plan.cooldown_share),
            self.minutes * self.plan.cooldown_share,
        )
        left = 1 - (self.spent - begin) / max(length, 1e-9)
        return max(0.0, min(1.0, left, (self.step + 1) / self.plan.warmup))

    def update(self, data: Corpus) -> float:
        at = self.step + 10_000_000 * self.plan.seed
        rng = torch.Generator().manual_seed((1_000_003 * at + 17) * self.ranks.world + self.ranks.rank)
        share = self.lr_scale()
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
        loss = self.training_batches.loss(data, rng, self.plan.batch // self.ranks.world)
        loss.backward()
        self.ranks.average_gradients(self.model)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        keep = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        live = dict(self.model.named_parameters())
        torch._foreach_lerp_([*self.ema.values()], [live[n].detach() for n in self.ema], 1 - keep)
        self.step += 1
        return loss.item()

    def drawn(self, layouts: Sequence[Corpus]) -> Corpus:
        """One of these, each as often as it has samples; the same on all ranks."""
        rng = torch.Generator().manual_seed(self.step)
        return layouts[
            int(torch.multinomial(torch.tensor([float(len(each.ids)) for each in layouts]), 1, generator=rng))
        ]

    def run(self, data: Mapping[str, Sequence[Corpus]]) -> None:
        """Tasks in turn, of each task one layout, until the time is spent, the cool-down ends or `stop` appears.
        Nothing where the time was spent before."""
        if self.step > 0 and self.spent >= self.minutes:
            return
        saved = told = clock = time.monotonic()
        sums: dict[str, list[float]] = {task: [] for task in data}
        while True:
            task = list(data)[self.step % len(data)]
            sums[task].append(self.update(self.drawn(data[task])))
            if not math.isfinite(sums[task][-1]):
                raise FloatingPointError(f"loss {sums[task][-1]} at step {self.step}")
            now = time.monotonic()
            self.spent, clock = self.ranks.from_rank_zero(self.spent + (now - clock) / 60), now
            self.check_cooldown()
            stopped = self.ranks.flag_of_rank_zero((self.folder / "stop").exists())
            done = stopped or self.spent >= self.minutes or self.lr_scale() <= 0
            if now - told > 20 or done:
                told = now
                means = " ".join(f"{name} {np.mean(some):.4f}" for name, some in sums.items() if some)
                self.log(f"teacher {self.spent:.1f} min step {self.step} loss {means} rate x{self.lr_scale():.2f}")
                sums = {task: [] for task in data}
            if now - saved > 60 * self.plan.checkpoint_minutes or done:
                saved = now
                self.save()
            if done:
                return
