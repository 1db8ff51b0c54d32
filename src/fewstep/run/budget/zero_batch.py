"""A batch of zeros, for iterations of which only the shapes matter."""

import torch

from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.layout import Layout
from fewstep.encode.batch import Batch
from fewstep.run.budget.batch_shape import BatchShape


def zero_batch(shape: BatchShape, samples: int, channels: int, negatives: tuple[str, ...], dtype: torch.dtype) -> Batch:
    """A batch of zeros with these shapes. Unconditional branches get the same length, although negative prompts are
    usually shorter.

    Args:
        channels: of a reference's latent token.
        dtype: of references; text is in bf16, as the store keeps it.
    """
    cond = _conditioning(shape, samples, channels, dtype)
    unconditional = {text: _conditioning(shape, samples, channels, dtype) for text in negatives}
    names = ("case",) * samples
    return Batch(0, shape.task, cond, unconditional, tuple(range(samples)), names, names)


def _conditioning(shape: BatchShape, samples: int, channels: int, dtype: torch.dtype) -> Conditioning:
    slots = (min(shape.text, 8),) * len(shape.references)
    layout = Layout(shape.task, shape.target, shape.references, slots)
    mask_BL = torch.ones(samples, shape.text, dtype=torch.bool)
    if shape.padded and samples > 1:
        mask_BL[-1, -1] = False  # in the last part, where the gradients of those before it are there too
    text_BLC = torch.zeros(samples, shape.text, shape.text_width, dtype=torch.bfloat16)
    tokens = layout.reference_tokens
    references = torch.zeros(samples, tokens, channels, dtype=dtype) if tokens else None
    return Conditioning(text_BLC, mask_BL, layout, references)
