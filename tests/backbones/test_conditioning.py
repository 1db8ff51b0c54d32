"""One batch, one layout; padding is marked and changes nothing that is marked valid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.backbones.conditioning import (
    Conditioning,
    stack,
)
from fewstep.backbones.layout import Layout
from fewstep.runtime.errors import LayoutError

T2I = Layout("t2i", (4, 6))
EDIT = Layout("edit", (4, 6), ((4, 6), (2, 2)), (3, 5))


def made(length: int, layout: Layout = T2I, seed: int = 0) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    references = torch.randn(1, layout.reference_tokens, 2, generator=generator) if layout.references else None
    text = torch.randn(1, length, 5, generator=generator)
    return Conditioning(text, torch.ones(1, length, dtype=torch.bool), layout, references)


@given(st.lists(st.integers(6, 20), min_size=1, max_size=5), st.sampled_from([T2I, EDIT]))
@settings(max_examples=40)
def test_stack_pads_on_the_right_to_the_longest(lengths: list[int], layout: Layout) -> None:
    parts = [made(length, layout, seed=i) for i, length in enumerate(lengths)]
    batch = stack(parts)
    assert len(batch) == len(parts)
    assert batch.text_BLC.shape[1] == max(lengths)
    assert batch.layout == layout
    for row, part in enumerate(parts):
        length = part.text_BLC.shape[1]
        assert batch.mask_BL[row].tolist() == [i < length for i in range(max(lengths))]
        assert torch.equal(batch.text_BLC[row, :length], part.text_BLC[0])
        assert not batch.text_BLC[row, length:].any()
        if layout.references:
            assert batch.references_BRD is not None
            assert part.references_BRD is not None
            assert torch.equal(batch.references_BRD[row], part.references_BRD[0])
    assert (batch.references_BRD is None) == (not layout.references)


def test_batches_stack_too() -> None:
    batch = stack([stack([made(6), made(9)]), made(12)])
    assert batch.mask_BL.sum(1).tolist() == [6, 9, 12]


@pytest.mark.parametrize(
    "other",
    [
        Layout("t2i", (6, 4)),
        Layout("edit", (4, 6)),
        EDIT,
        Layout("edit", (4, 6), ((2, 2), (4, 6)), (3, 5)),
        Layout("edit", (4, 6), ((4, 6), (2, 2)), (3, 6)),
    ],
    ids=["another size", "another task", "references", "their order", "their slots"],
)
def test_mixed_layouts_are_refused(other: Layout) -> None:
    first = EDIT if other.references and other != EDIT else T2I
    with pytest.raises(LayoutError, match="one layout"):
        stack([made(8, first), made(8, other)])


def test_rows_keep_the_padding() -> None:
    """Sums over padded keys are rounded otherwise, so a row must stay as it was in its batch."""
    batch = stack([made(6, EDIT, 1), made(9, EDIT, 2), made(7, EDIT, 3)])
    for index in ([2, 0], torch.tensor([2, 0])):
        some = batch.rows(index)
        assert some.text_BLC.shape[1] == 9
        assert some.mask_BL.sum(1).tolist() == [7, 6]
        assert some.references_BRD is not None
        assert batch.references_BRD is not None
        assert torch.equal(some.references_BRD, batch.references_BRD[[2, 0]])
    assert torch.equal(batch.rows(slice(1, 3)).text_BLC, batch.text_BLC[1:])


def test_to_casts_floats_alone() -> None:
    there = made(6, EDIT).to(dtype=torch.bfloat16)
    assert there.text_BLC.dtype == torch.bfloat16
    assert there.references_BRD is not None
    assert there.references_BRD.dtype == torch.bfloat16
    assert there.mask_BL.dtype == torch.bool
    assert made(6).to("cpu").references_BRD is None


def test_layouts_count_tokens() -> None:
    assert (T2I.target_tokens, T2I.reference_tokens) == (24, 0)
    assert EDIT.reference_tokens == 28


@pytest.mark.parametrize(
    "build",
    [
        lambda: Layout("t2i", (4, 4), ((4, 4),)),
        lambda: Layout("edit", (4, 4), ((4, 4),), (1, 2)),
        lambda: Conditioning(torch.zeros(1, 3, 5), torch.ones(1, 4, dtype=torch.bool), T2I),
        lambda: Conditioning(torch.zeros(1, 3, 5), torch.ones(1, 3, dtype=torch.bool), EDIT),
        lambda: Conditioning(torch.zeros(1, 3, 5), torch.ones(1, 3, dtype=torch.bool), T2I, torch.zeros(1, 4, 2)),
    ],
    ids=["t2i with references", "slots of others", "mask of another length", "no references", "references too many"],
)
def test_what_does_not_fit_is_refused(build: object) -> None:
    with pytest.raises(LayoutError):
        build()  # type: ignore[operator]
