"""The conditioning of a model: text embeddings, reference latents, and their layout together with the target.

Shapes: B batch, L text positions, C text channels, R reference tokens (all references, one after another), D latent
channels. Only text positions are stored. A model with image slots among its text rebuilds them from the layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fewstep.backbones.layout import Layout
from fewstep.runtime.device import to_device
from fewstep.runtime.errors import LayoutError


@dataclass(frozen=True)
class Conditioning:
    """The conditioning of a batch.

    Args:
        text_BLC: text embeddings, padded on the right.
        mask_BL: True at valid text positions.
        layout: the layout of every sample.
        references_BRD: packed clean latents of the references; None without references.

    Raises:
        LayoutError: shapes that do not fit each other or the layout.
    """

    text_BLC: Tensor
    mask_BL: Tensor
    layout: Layout
    references_BRD: Tensor | None = None
    _lengths_B: tuple[int, ...] | None = field(default=None, repr=False)  # of the texts, once read from the mask

    def __post_init__(self) -> None:
        if self.text_BLC.shape[:2] != self.mask_BL.shape:
            raise LayoutError(f"text {tuple(self.text_BLC.shape)} and mask {tuple(self.mask_BL.shape)} do not fit")
        held = 0 if self.references_BRD is None else self.references_BRD.shape[1]
        if held != self.layout.reference_tokens:
            raise LayoutError(f"the layout has {self.layout.reference_tokens} reference tokens, not {held}")

    def __len__(self) -> int:
        return self.text_BLC.shape[0]

    @property
    def lengths_B(self) -> tuple[int, ...]:
        """The number of valid text positions of each sample, on the host.

        Reading a mask on a GPU makes the host wait for all work queued before. So the lengths are read once and kept,
        and `to` and `rows` pass them on.
        """
        if self._lengths_B is None:
            object.__setattr__(self, "_lengths_B", tuple(self.mask_BL.sum(dim=1).tolist()))
        assert self._lengths_B is not None
        return self._lengths_B

    @property
    def padded(self) -> bool:
        """Whether some text is shorter than the batch."""
        return min(self.lengths_B) < self.mask_BL.shape[1]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Conditioning":
        """The same on another device, or with another dtype of embeddings and latents. The mask stays bool."""
        refs = self.references_BRD
        return replace(
            self,
            text_BLC=self.text_BLC.to(device=device, dtype=dtype),
            mask_BL=self.mask_BL.to(device=device),
            references_BRD=None if refs is None else refs.to(device=device, dtype=dtype),
            _lengths_B=self.lengths_B,
        )

    def rows(self, index: Sequence[int] | Tensor | slice) -> "Conditioning":
        """Some samples of the batch, by index. The padding stays, so that sums over keys are rounded as they were."""
        if isinstance(index, Tensor):
            index = index.tolist()
        numbers = range(len(self))[index] if isinstance(index, slice) else index
        lengths_B = tuple(self.lengths_B[b] for b in numbers)
        if not isinstance(index, slice):
            index = to_device(torch.tensor(index), self.text_BLC.device)
        refs = self.references_BRD
        return replace(
            self,
            text_BLC=self.text_BLC[index],
            mask_BL=self.mask_BL[index],
            references_BRD=None if refs is None else refs[index],
            _lengths_B=lengths_B,
        )


def stack(conditions: Sequence[Conditioning], length: int = 0) -> Conditioning:
    """Joins several conditionings into one batch, padded on the right to the longest text.

    Args:
        length: the least number of text positions to pad to.

    Raises:
        LayoutError: the samples do not share one layout.
    """
    layouts = {c.layout for c in conditions}
    if len(layouts) != 1:
        raise LayoutError(
            "one batch holds one layout (task, sizes, number of references); got "
            + "; ".join(sorted(str(layout) for layout in layouts))
        )
    length = max(length, *(c.text_BLC.shape[1] for c in conditions))
    texts = [_padded(c.text_BLC, length) for c in conditions]
    masks = [_padded(c.mask_BL, length) for c in conditions]
    refs = [c.references_BRD for c in conditions if c.references_BRD is not None]
    lengths_B = tuple(own for c in conditions for own in c.lengths_B)
    return Conditioning(torch.cat(texts), torch.cat(masks), layouts.pop(), torch.cat(refs) if refs else None, lengths_B)


def _padded(x: Tensor, length: int) -> Tensor:
    """Zeros (False) after the last text position, up to `length`."""
    missing = length - x.shape[1]
    return x if missing == 0 else torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], dim=1)
