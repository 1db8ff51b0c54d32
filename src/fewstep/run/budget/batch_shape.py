"""The shapes of a batch, which decide what an iteration takes."""

from dataclasses import dataclass

import torch

from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.layout import Layout
from fewstep.encode.batch import Batch
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class BatchShape:
    """The shapes of a batch.

    Args:
        text: the number of text positions of its longest prompt.
        references: the token grids of its references.
        padded: whether prompts have unequal lengths, which requires a mask.
    """

    task: Task
    target: tuple[int, int]
    text: int
    text_width: int
    references: tuple[tuple[int, int], ...] = ()
    padded: bool = False

    @property
    def tokens(self) -> int:
        return self.text + sum(rows * columns for rows, columns in (self.target, *self.references))

    def batch(self, samples: int, channels: int, negatives: tuple[str, ...], dtype: torch.dtype) -> Batch:
        """A batch of zeros with these shapes. Unconditional branches get the same length, although negative prompts are
        usually shorter."""
        cond = self._conditioning(samples, channels, dtype)
        names = ("case",) * samples
        return Batch(
            0, self.task, cond, {text: self._conditioning(samples, channels, dtype) for text in negatives},
            tuple(range(samples)), names, names,
        )  # fmt: skip

    def _conditioning(self, samples: int, channels: int, dtype: torch.dtype) -> Conditioning:
        slots = (min(self.text, 8),) * len(self.references)
        layout = Layout(self.task, self.target, self.references, slots)
        mask_BL = torch.ones(samples, self.text, dtype=torch.bool)
        if self.padded and samples > 1:
            mask_BL[-1, -1] = False  # in the last part, where the gradients of those before it are there too
        text_BLC = torch.zeros(samples, self.text, self.text_width, dtype=torch.bfloat16)
        tokens = layout.reference_tokens
        references = torch.zeros(samples, tokens, channels, dtype=dtype) if tokens else None
        return Conditioning(text_BLC, mask_BL, layout, references)
