"""Training the pocket teacher: flow matching on latents, T2I and edits in turn.

The run folder takes two signals: a file `cooldown` (its number: minutes) starts the linear decay of the learning rate
now, a file `stop` ends the run after a checkpoint. Started again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.pocket import draws, vae
from fewstep.pocket.build import Pipeline
from fewstep.pocket.muon import Muon
from fewstep.pocket.ranks import Ranks

Log = Callable[[str], None]
DRAWS = 2  # noise draws behind one prefix
TOKENS = 16  # of a 64 px picture
BEFORE_T2I, AFTER = ("<|im_start|>", "user\n"), ("<|im_end|>", "\n", "<|im_start|>", "assistant\n")
BEFORE_EDIT, AFTER_IMAGE = ("<|im_start|>", "user\n", "<image1>", "<|vision_start|>"), ("<|vision_end|>",)


@dataclass(frozen=True)
class Plan:
    """Numbers of the teacher's training; all ours."""

    batch: int = 64
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    warmup: int = 60
    ema: float = 0.998
    null_batches: float = 0.10  # batches with the empty caption
    null_samples: float = 0.02  # single samples with it
    even_lengths: float = 0.5  # batches of one caption length, without padding
    uniform_times: float = 0.4  # the rest is logit-normal(0, 1)
    embedding_noise: float = 0.03  # relative
    visible: float = 0.5  # power of a channel's contrast in the loss's weights; 0 treats whitened channels alike
    checkpoint_minutes: float = 2.0
    cooldown_share: float = 0.2


@dataclass
class Corpus:
    """Latents and token ids of one task, in memory: fp16 (n, pictures, 16, 64) and int16 (n, LONGEST)."""

    latents: Tensor
    ids: Tensor
    by_length: dict[int, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        lengths = (self.ids >= 0).sum(1)
        self.by_length = {int(n): (lengths == n).nonzero()[:, 0] for n in lengths.unique()}


@torch.no_grad()
def embedding_table(pipeline: Pipeline) -> Tensor:
    """(V, C) pre-norm hidden state of each token behind the template's opening: the encoder's answer, context aside."""
    tokenizer, encoder = pipeline.processor.tokenizer, pipeline.text_encoder
    language = encoder.model.language_model
    opening = tokenizer("<|im_start|>user\n")["input_ids"]
    ids = torch.tensor([[*opening, token] for token in range(len(tokenizer))])
    caught: list[Tensor] = []
    handle = language.norm.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    try:
        encoder(input_ids=ids)
    finally:
        handle.remove()
    table = caught[-1][:, -1]
    table[opening] = caught[-1][0, : len(opening)]
    return table


def encode_corpus(folder: Path, pipeline: Pipeline) -> None:
    """Put every shard's latents beside it; what is there is kept."""
    for path in sorted(folder.glob("*.npz")):
        kept = path.with_suffix(".latents.npy")
        if not kept.exists():
            images = np.load(path)["images"]
            flat = vae.encode_quickly(pipeline.vae, images.reshape(-1, *images.shape[2:]))
            torn = kept.with_suffix(".part")
            with torn.open("wb") as file:
                np.save(file, flat.view(*images.shape[:2], TOKENS, -1).half().numpy())
            torn.rename(kept)


def read_corpus(folder: Path, task: str) -> Corpus:
    """All encoded shards of a task."""
    paths = sorted(folder.glob(f"{task}-*.npz"))
    latents = [torch.from_numpy(np.load(path.with_suffix(".latents.npy"))) for path in paths]
    return Corpus(torch.cat(latents), torch.cat([torch.from_numpy(np.load(path)["ids"]) for path in paths]))


def contrast(pipeline: Pipeline) -> Tensor:
    """(D,) how much a unit of each latent channel shows: the length of its principal component in pixels."""
    return pipeline.vae.decoder.conv_out.weight[:, : vae.CHANNELS, 1, 1].detach().norm(dim=0)


class Captions:
    """Token ids -> padded embeddings, in the pipeline's template."""

    def __init__(self, pipeline: Pipeline):
        words = pipeline.processor.tokenizer.get_vocab()
        self.table = embedding_table(pipeline)
        self.null = torch.tensor([words["\u0120"]])  # the pipeline encodes "" as " "
        self.end = self.known(words, AFTER)
        self.before = {"t2i": self.known(words, BEFORE_T2I), "edit": self.known(words, BEFORE_EDIT)}
        self.behind = {"t2i": [], "edit": self.known(words, AFTER_IMAGE)}

    @staticmethod
    def known(words: dict[str, int], names: tuple[str, ...]) -> list[int]:
        return [words[name.replace("\n", "\u010a")] for name in names]

    def embed(self, captions: list[Tensor], task: str) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) text positions only (no image slots), right-padded, and their mask if anything is padded."""
        rows = [torch.tensor([*self.before[task], *self.behind[task], *c.tolist(), *self.end]) for c in captions]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        valid = padded >= 0
        text = self.table[padded.clamp(min=0)] * valid[..., None]
        return text, None if bool(valid.all()) else valid


class Teacher:
    """The transformer in training: fp32 masters, EMA, two optimisers, one clock."""

    def __init__(self, pipeline: Pipeline, folder: Path, plan: Plan, minutes: float, log: Log, ranks: Ranks):
        self.ranks = ranks
        self.model, self.folder, self.plan, self.minutes, self.log = pipeline.transformer, folder, plan, minutes, log
        self.captions = Captions(pipeline)
        self.weight_D = contrast(pipeline) ** plan.visible
        self.weight_D /= self.weight_D.mean()
        self.model.train().requires_grad_(True)
        inner = [p for n, p in self.model.named_parameters() if n.startswith("transformer_blocks") and p.ndim == 2]
        ids = {id(p) for p in inner}
        outer = [p for p in self.model.parameters() if id(p) not in ids]
        self.optimisers: list[torch.optim.Optimizer] = [
            Muon(inner, lr=plan.muon_rate, gather=ranks.orthogonalised),
            torch.optim.AdamW(outer, lr=plan.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.rates = [plan.muon_rate, plan.adam_rate]
        self.ema = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.step, self.spent = 0, 0.0
        self.cooling: tuple[float, float] | None = None  # minutes spent when the cool-down began, and its length
        self.layouts: dict[tuple[str, int], draws.Layout] = {}
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

    def heed_cooldown(self) -> None:
        asked = self.folder / "cooldown"
        if self.ranks.agree(self.cooling is None and asked.exists()):
            self.cooling = (self.spent, float(asked.read_text().strip() or 10))
            self.log(f"cool-down over {self.cooling[1]:g} minutes begins")

    def rate_share(self) -> float:
        """Warm-up, plateau, linear decay; the decay begins in the last share of the time or when asked for."""
        begin, length = self.cooling or (
            self.minutes * (1 - self.plan.cooldown_share),
            self.minutes * self.plan.cooldown_share,
        )
        left = 1 - (self.spent - begin) / max(length, 1e-9)
        return max(0.0, min(1.0, left, (self.step + 1) / self.plan.warmup))

    def batch(self, task: str, data: Corpus, rng: torch.Generator) -> tuple[Tensor, ...]:
        """(text, valid or None, latents (B, pictures, N, D)) of iteration `step`."""
        size = self.plan.batch // self.ranks.world
        if float(torch.rand((), generator=rng)) < self.plan.even_lengths:
            lengths = list(data.by_length)
            weights = torch.tensor([float(len(data.by_length[n])) for n in lengths]).sqrt()
            among = data.by_length[lengths[int(torch.multinomial(weights, 1, generator=rng))]]
            rows = among[torch.randint(len(among), (size,), generator=rng)]
        else:
            rows = torch.randint(len(data.ids), (size,), generator=rng)
        nulled = torch.rand(size, generator=rng) < self.plan.null_samples
        nulled |= bool(torch.rand((), generator=rng) < self.plan.null_batches)
        captions = [
            self.captions.null if none else ids[ids >= 0]
            for ids, none in zip(data.ids[rows].long(), nulled, strict=True)
        ]
        text, valid = self.captions.embed(captions, task)
        text = text * (1 + self.plan.embedding_noise * torch.randn(text.shape, generator=rng))
        return text, valid, data.latents[rows].float()  # type: ignore[return-value]

    def loss(self, task: str, data: Corpus, rng: torch.Generator) -> Tensor:
        """Flow matching: v = eps - x0 at z_t = (1 - t) x0 + t eps, for DRAWS draws of (t, eps) a sample."""
        text, valid, latents = self.batch(task, data, rng)
        x0 = latents[:, -1:].expand(-1, DRAWS, -1, -1)
        shape = (len(x0), DRAWS)
        even, bell = torch.rand(shape, generator=rng), torch.randn(shape, generator=rng).sigmoid()
        t = torch.where(torch.rand(shape, generator=rng) < self.plan.uniform_times, even, bell)
        eps = torch.randn(x0.shape, generator=rng)
        z = x0 + t[..., None, None] * (eps - x0)
        lay = self.layout(task, text.shape[1])
        with torch.autocast("cpu", torch.bfloat16):
            v = draws.velocities(self.model, text, valid, latents[:, 0] if task == "edit" else None, z, t, lay)
        return (self.weight_D * (v.float() - (eps - x0)) ** 2).mean()

    def layout(self, task: str, length: int) -> draws.Layout:
        key = (task, length)
        if key not in self.layouts:
            before = len(self.captions.before[task]) if task == "edit" else length
            image = TOKENS if task == "edit" else 0
            self.layouts[key] = draws.layout(self.model, before, image, length - before, TOKENS, DRAWS)
        return self.layouts[key]

    def update(self, task: str, data: Corpus) -> float:
        rng = torch.Generator().manual_seed((1_000_003 * self.step + 17) * self.ranks.world + self.ranks.rank)
        share = self.rate_share()
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
        loss = self.loss(task, data, rng)
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

    def run(self, data: dict[str, Corpus]) -> None:
        """Tasks in turn until the time is spent, the cool-down ends or `stop` appears."""
        saved = told = clock = time.monotonic()
        sums: dict[str, list[float]] = {"t2i": [], "edit": []}
        while True:
            task = ("t2i", "edit")[self.step % 2]
            sums[task].append(self.update(task, data[task]))
            if not math.isfinite(sums[task][-1]):
                raise FloatingPointError(f"loss {sums[task][-1]} at step {self.step}")
            now = time.monotonic()
            self.spent, clock = self.ranks.first_says(self.spent + (now - clock) / 60), now
            self.heed_cooldown()
            stopped = self.ranks.agree((self.folder / "stop").exists())
            done = stopped or self.spent >= self.minutes or self.rate_share() <= 0
            if now - told > 20 or done:
                told = now
                means = " ".join(f"{name} {np.mean(some):.4f}" for name, some in sums.items() if some)
                self.log(f"teacher {self.spent:.1f} min step {self.step} loss {means} rate x{self.rate_share():.2f}")
                sums = {"t2i": [], "edit": []}
            if now - saved > 60 * self.plan.checkpoint_minutes or done:
                saved = now
                self.save()
            if done:
                return
