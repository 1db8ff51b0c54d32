"""The size at which each case is trained, settled before anything is encoded: from here on every case states its own.

A case's own height and width win. A prompt without them gets one of the recipe's sizes, drawn from the seed and its id.
So it is the same on every rank, after resuming and in every epoch, more cases change no other case's size, and a case
has one entry in the store. An edit without them gets what its model's family makes of its references.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.phases import Phases
from fewstep.data.pictures import upright_size
from fewstep.data.plan import SizeShare, SizesPlan
from fewstep.data.streams import Stream
from fewstep.runtime.errors import CaseError

Size = tuple[int, int]  # height, width in px
DRAW_BITS = 64


class EditRule(Protocol):
    """What a model's family says of an edit's references, from their sizes alone (`backbones/edit_sizes.py`)."""

    def size_of_edit(self, references: Sequence[Size], area: int, /) -> Size: ...
    def reference_fault(self, reference: Size, /) -> str | None: ...


@dataclass(frozen=True)
class CaseSizes:
    """The rule by which the cases of one recipe get their sizes.

    Args:
        plan: what the recipe says.
        size: height and width in px where neither a case nor the plan says otherwise.
        seed: of the run.
        family: of the model; it decides the sizes of edits.
    """

    plan: SizesPlan
    size: Size
    seed: int
    family: EditRule

    def of(self, case: Case) -> Size:
        """The case's size.

        Raises:
            CaseError: a reference that the model refuses, or whose shape has no size on the model's grid.
        """
        if case.task == "t2i":
            drawn = drawn_size(self.plan.t2i, self.seed, case.id) if self.plan.t2i else self.size
            return case.size(drawn)
        references = [upright_size(path, case.where) for path in case.references]
        for number, reference in enumerate(references):
            if fault := self.family.reference_fault(reference):
                raise CaseError(f"{case.where}: {case.references[number]} is {_px(reference)}; {fault}")
        if case.height is not None or self.plan.edit == "recipe":
            return case.size(self.size)
        chosen = self.family.size_of_edit(references, self.size[0] * self.size[1])
        if min(chosen) <= 0:
            raise CaseError(
                f"{case.where}: an edit of a reference of {_px(references[-1])} would have no size left at the area of "
                f"{_px(self.size)}. Crop or pad the picture, or state the case's height and width"
            )
        return chosen

    def settled(self, composition: Composition) -> Composition:
        """The same composition, in which every case states its size.

        Raises:
            CaseError: as `of`.
        """
        known: dict[Case, Case] = {}

        def sized(case: Case) -> Case:
            if case not in known:
                height, width = self.of(case)
                known[case] = replace(case, height=height, width=width)
            return known[case]

        def settle(stream: Stream) -> Stream:
            return replace(stream, cases=tuple(map(sized, stream.cases)))

        streams = {
            task: Phases(tuple(tuple(map(settle, held)) for held in phases.values), phases.ends)
            for task, phases in composition.streams.items()
        }
        return Composition(composition.mixture, streams)

    def remarks(self, cases: Iterable[Case]) -> list[str]:
        """Messages about sizes of the recipe that no prompt is trained at. cases: as they were read."""
        if not self.plan.t2i:
            return []
        free = [case for case in cases if case.task == "t2i" and case.height is None]
        met = {drawn_size(self.plan.t2i, self.seed, case.id) for case in free}
        unmet = [_px(share.size) for share in self.plan.t2i if share.size not in met]
        found = []
        if unmet:
            found.append(
                f"data.sizes.t2i: none of the {len(free):,} prompts without a size of their own was drawn for "
                f"{', '.join(unmet)}; give more prompts, raise the weight, or take the size out"
            )
        if self.size not in {share.size for share in self.plan.t2i}:
            found.append(
                f"text to image is trained at the sizes of data.sizes.t2i, and `size` {_px(self.size)} is none of "
                "them. It is what a student draws by default: add it, or set data.sizes.t2i to [] to train at it alone"
            )
        return found


def drawn_size(sizes: Sequence[SizeShare], seed: int, case_id: str) -> Size:
    """One of the sizes, in proportion to their weights. All arithmetic is in whole numbers."""
    key = repr(("t2i size", seed, case_id)).encode("utf-8", "surrogatepass")
    total = sum(share.weight for share in sizes)
    place = int.from_bytes(hashlib.blake2b(key, digest_size=DRAW_BITS // 8).digest(), "little") * total >> DRAW_BITS
    for share in sizes:
        place -= share.weight
        if place < 0:
            return share.size
    raise AssertionError((sizes, place))


def _px(size: Size) -> str:
    return f"{size[0]} x {size[1]} px"
