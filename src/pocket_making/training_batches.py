"""Training batches of the pocket transformer: latents, captions, and the flow-matching loss.

Shared by the teacher's own training (`teacher_trainer.py`) and by specialists (`specialise.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.pocket.build import Pipeline
from fewstep.runtime.errors import RunError
from pocket_making import shared_prefix, vae
from pocket_making.precision import quick_autocast

DRAWS = 2  # noise draws behind one prefix
SPACE = "\u0120"
OPENING, AFTER = ("<|im_start|>", "user\n"), ("<|im_end|>", "\n", "<|im_start|>", "assistant\n")
BEFORE_IMAGE: dict[int, tuple[str, ...]] = {  # by its number; the pipeline's template has a space between images
    1: ("<image1>", "<|vision_start|>"),
    2: (SPACE, "<image2>", "<|vision_start|>"),
    3: (SPACE, "<image3>", "<|vision_start|>"),
}
AFTER_IMAGE = ("<|vision_end|>",)


@dataclass(frozen=True)
class BatchConfig:
    """How batches and losses are made; all ours."""

    null_batches: float = 0.10  # share of batches with the empty caption
    null_samples: float = 0.02  # share of single samples with it
    even_lengths: float = 0.5  # share of batches of one caption length, without padding
    uniform_times: float = 0.4  # share of uniform t; the rest is logit-normal(0, 1)
    times: tuple[float, float] = (0.0, 1.0)  # the part of the time range that is learnt; draws are mapped into it
    embedding_noise: float = 0.03  # relative
    visible: float = 0.5  # power of a channel's contrast in the loss's weights; 0 treats whitened channels alike
    sign_frequency: float = 1.0  # how many times as often a sample with letters is drawn
    letter_weight: float = 1.0  # of the loss at tokens that hold letters, at times below the next number
    # Above this time a letter's place is not yet decided. Were the loss weighted there as well, the teacher would learn
    # to expect letters at all places where they may stand.
    letter_weight_below: float = 0.9


DEFAULT_BATCH_CONFIG = BatchConfig()


@dataclass
class Corpus:
    """Latents and token ids of samples of one layout, in memory: fp16 (n, pictures, N, 64), the target last, and int16
    (n, longest), padded with -1. `grid`: rows and columns of a picture's tokens. `letters`: bool (n, N), which tokens
    of the target hold letters, where that is known."""

    latents: Tensor
    ids: Tensor
    grid: shared_prefix.Grid = (4, 4)
    letters: Tensor | None = None
    by_length: dict[int, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        lengths = (self.ids >= 0).sum(1)
        self.by_length = {int(n): (lengths == n).nonzero()[:, 0] for n in lengths.unique()}

    @property
    def references(self) -> int:
        return self.latents.shape[1] - 1

    def draw_weights(self, signs: float) -> Tensor:
        """(n,) how often each sample is drawn, relative to one without letters."""
        held = torch.zeros(len(self.ids), dtype=torch.bool) if self.letters is None else self.letters.any(1)
        return torch.where(held, signs, 1.0)


@dataclass(frozen=True)
class Batch:
    """text (B, T, C), right-padded; valid: (B, T) bool, None if nothing is padded; latents (B, pictures, N, D);
    letters: (B, N) bool, None where that is not known."""

    text: Tensor
    valid: Tensor | None
    latents: Tensor
    letters: Tensor | None


@torch.no_grad()
def embedding_table(pipeline: Pipeline) -> Tensor:
    """(V, C) pre-norm hidden state of each token after the template's opening: the encoder's output without context."""
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
    """Writes every shard's latents beside it; existing ones are kept."""
    for path in sorted(folder.glob("*.npz")):
        kept = path.with_suffix(".latents.npy")
        if not kept.exists():
            images = np.load(path)["images"]
            flat = vae.encode_closed_form(pipeline.vae, images.reshape(-1, *images.shape[2:]))
            torn = kept.with_suffix(".part")
            with torn.open("wb") as file:
                np.save(file, flat.unflatten(0, images.shape[:2]).half().numpy())
            torn.rename(kept)


def read_corpus(folder: Path, group: str, grid: shared_prefix.Grid = (4, 4)) -> Corpus:
    """All encoded shards of a group: of a task, and where there are several layouts, of one of them."""
    paths = sorted(folder.glob(f"{group}-*.npz"))
    shards = [np.load(path) for path in paths]
    latents = [torch.from_numpy(np.load(path.with_suffix(".latents.npy"))) for path in paths]
    letters = [torch.from_numpy(shard["letters"]) for shard in shards if "letters" in shard]
    if 0 < len(letters) < len(shards):
        raise RunError(f"{folder}: some shards say where letters stand and others do not; remove the folder")
    ids = torch.cat([torch.from_numpy(shard["ids"]) for shard in shards])
    return Corpus(torch.cat(latents), ids, grid, torch.cat(letters) if letters else None)


def channel_contrast(pipeline: Pipeline) -> Tensor:
    """(D,) how visible a unit of each latent channel is: the length of its principal component in pixels."""
    return pipeline.vae.decoder.conv_out.weight[:, : vae.CHANNELS, 1, 1].detach().norm(dim=0)


class CaptionEmbedder:
    """Token ids -> padded embeddings, in the pipeline's template."""

    def __init__(self, pipeline: Pipeline):
        words = pipeline.processor.tokenizer.get_vocab()
        self.table = embedding_table(pipeline)
        self.null = torch.tensor([words[SPACE]])  # the pipeline encodes "" as " "
        self.end = self.known(words, AFTER)
        self.opening, self.after_image = self.known(words, OPENING), self.known(words, AFTER_IMAGE)
        self.before_image = {number: self.known(words, names) for number, names in BEFORE_IMAGE.items()}

    @staticmethod
    def known(words: dict[str, int], names: tuple[str, ...]) -> list[int]:
        return [words[name.replace("\n", "\u010a")] for name in names]

    def stretches(self, references: int) -> list[list[int]]:
        """The template's tokens before each reference, and those between the last one and the caption."""
        found = [list(self.opening)]
        for number in range(1, references + 1):
            found[-1] += self.before_image[number]
            found.append(list(self.after_image))
        return found

    def embed(self, captions: list[Tensor], references: int) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) text positions only (no image slots), right-padded, and their mask if anything is padded."""
        before = [token for stretch in self.stretches(references) for token in stretch]
        rows = [torch.tensor([*before, *c.tolist(), *self.end]) for c in captions]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        valid = padded >= 0
        text = self.table[padded.clamp(min=0)] * valid[..., None]
        return text, None if bool(valid.all()) else valid


def draw_times(shape: tuple[int, ...], config: BatchConfig, rng: torch.Generator) -> Tensor:
    """Times t of this shape: uniform or logit-normal ones, mapped into the part of the range that is learnt."""
    even, bell = torch.rand(shape, generator=rng), torch.randn(shape, generator=rng).sigmoid()
    t = torch.where(torch.rand(shape, generator=rng) < config.uniform_times, even, bell)
    low, high = config.times
    return low + (high - low) * t


class TrainingBatches:
    """Batches of a corpus, and the loss of a transformer on them."""

    def __init__(self, pipeline: Pipeline, batch_config: BatchConfig = DEFAULT_BATCH_CONFIG, compiled: bool = False):
        self.model, self.batch_config = pipeline.transformer, batch_config
        block = shared_prefix.block_forward
        # One code for all lengths and sizes; and one each for T2I, edits and batches with padding.
        self.block_forward = torch.compile(block, dynamic=True) if compiled else block
        self.captions = CaptionEmbedder(pipeline)
        self.weight_D = channel_contrast(pipeline) ** batch_config.visible
        self.weight_D /= self.weight_D.mean()
        self.layouts: dict[tuple[int, shared_prefix.Grid, int], shared_prefix.BatchLayout] = {}

    def rows(self, data: Corpus, rng: torch.Generator, size: int) -> Tensor:
        """(size,) which samples a batch holds; half of the batches have captions of one length."""
        among = torch.arange(len(data.ids))
        if float(torch.rand((), generator=rng)) < self.batch_config.even_lengths:
            lengths = list(data.by_length)
            weights = torch.tensor([float(len(data.by_length[n])) for n in lengths]).sqrt()
            among = data.by_length[lengths[int(torch.multinomial(weights, 1, generator=rng))]]
        if self.batch_config.sign_frequency == 1.0:
            return among[torch.randint(len(among), (size,), generator=rng)]
        weights = data.draw_weights(self.batch_config.sign_frequency)[among]
        return among[torch.multinomial(weights, size, replacement=True, generator=rng)]

    def batch(self, data: Corpus, rng: torch.Generator, size: int) -> Batch:
        rows = self.rows(data, rng, size)
        nulled = torch.rand(size, generator=rng) < self.batch_config.null_samples
        nulled |= bool(torch.rand((), generator=rng) < self.batch_config.null_batches)
        captions = [
            self.captions.null if none else ids[ids >= 0]
            for ids, none in zip(data.ids[rows].long(), nulled, strict=True)
        ]
        text, valid = self.captions.embed(captions, data.references)
        text = text * (1 + self.batch_config.embedding_noise * torch.randn(text.shape, generator=rng))
        letters = None if data.letters is None else data.letters[rows]
        return Batch(text, valid, data.latents[rows].float(), letters)

    def loss(self, data: Corpus, rng: torch.Generator, size: int) -> Tensor:
        """Flow matching (Lipman et al. 2022): v = eps - x0 at z_t = (1 - t) x0 + t eps, for DRAWS draws of (t, eps) per
        sample."""
        batch = self.batch(data, rng, size)
        x0 = batch.latents[:, -1:].expand(-1, DRAWS, -1, -1)
        t = draw_times((len(x0), DRAWS), self.batch_config, rng)
        eps = torch.randn(x0.shape, generator=rng)
        z = x0 + t[..., None, None] * (eps - x0)
        layout = self.layout(data, batch.text.shape[1])
        references = batch.latents[:, :-1].flatten(1, 2) if data.references else None
        with quick_autocast():
            v = shared_prefix.velocities(
                self.model, batch.text, batch.valid, references, z, t, layout, self.block_forward
            )
        squares = self.weight_D * (v.float() - (eps - x0)) ** 2
        if batch.letters is not None and self.batch_config.letter_weight != 1.0:
            squares = squares * self.token_weights(batch.letters, t)
        return squares.mean()

    def token_weights(self, letters_BN: Tensor, t_BM: Tensor) -> Tensor:
        """(B, M, N, 1): more where a letter stands, once the noise is low enough to see where that is."""
        heavy = letters_BN[:, None, :, None] & (t_BM < self.batch_config.letter_weight_below)[..., None, None]
        return torch.where(heavy, self.batch_config.letter_weight, 1.0)

    def layout(self, data: Corpus, length: int) -> shared_prefix.BatchLayout:
        key = (data.references, data.grid, length)
        if key not in self.layouts:
            before = [len(stretch) for stretch in self.captions.stretches(data.references)[:-1]]
            texts = [*before, length - sum(before)]
            self.layouts[key] = shared_prefix.batch_layout(self.model, texts, data.grid, DRAWS)
        return self.layouts[key]
