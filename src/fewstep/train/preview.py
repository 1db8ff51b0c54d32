"""The sample previews of a run: the same cases from the same noise at intervals, beside the teacher.

Rows are cases. Columns are the source (for edits), the teacher with its full sampler, and the present student. Each
preview is a contact sheet such as `samples/iteration-000025.png`; the single pictures are in `samples/pictures/`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.layout import Layout
from fewstep.data.pictures import open_picture
from fewstep.encode.loader import Loader
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.roles.network import Network
from fewstep.roles.roles import Roles
from fewstep.runtime import durable
from fewstep.runtime.device import autocast
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.sample.pictures import decode_finite, sample_latents
from fewstep.sample.sheet import contact_sheet

CASES_A_TASK = 6  # ours
SEED = 0


@dataclass(frozen=True)
class PreviewCase:
    """One fixed case of the previews.

    Args:
        cond: its conditioning, a batch of 1.
        negative: the unconditional branch of the teacher's guidance; None without guidance.
        caption: the text under its row.
        source: the picture that is edited; None for text to image.
    """

    cond: Conditioning
    negative: Conditioning | None
    caption: str
    source: Image.Image | None


class SamplePreview:
    """Renders the fixed cases with the student.

    If weights are sharded, all ranks must call `render`: they run the networks together, and the first rank decodes and
    writes.
    """

    def __init__(
        self,
        roles: Roles,
        cases: Sequence[PreviewCase],
        grid: SigmaGrid,
        precision: str,
        folder: Path,
        ranks: Ranks = SINGLE_RANK,
    ):
        self.roles, self.cases, self.grid, self.precision, self.folder = roles, cases, grid, precision, folder
        self.ranks = ranks if roles.is_sharded else SINGLE_RANK

    @classmethod
    def from_loader(
        cls, roles: Roles, loader: Loader, grid: SigmaGrid, precision: str, folder: Path, ranks: Ranks = SINGLE_RANK
    ) -> "SamplePreview":
        """The preview of the first cases of each task in the loader's data. Every category comes once before any comes
        twice."""
        cases = []
        for task in loader.tasks:
            guidance = roles.teachers.of_task(task).guidance[task]
            for case in loader.first_cases(task, CASES_A_TASK):
                negative = guidance.negative if guidance.active else None
                source = open_picture(case.references[-1], case.where) if case.references else None
                cases.append(
                    PreviewCase(
                        loader.conditioning(case),
                        None if negative is None else loader.conditioning(case, negative),
                        case.prompt,
                        source,
                    )
                )
        return cls(roles, cases, grid, precision, folder, ranks)

    def render(self, done: int) -> None:
        """Writes the sheet after `done` iterations. The teacher's pictures are rendered once in a run, and kept."""
        everyone = range(len(self.cases))
        names = [f"teacher-{i:02d}" for i in everyone]
        if self.ranks.from_first(lambda: any(self._kept(name) is None for name in names)):
            for i, picture in self._teachers().items():
                self._keep(names[i], picture)
        student = self._drawn(self.roles.student, everyone, self.grid, NO_GUIDANCE)
        if not self.ranks.first:
            return
        for i, picture in enumerate(student):
            self._keep(f"student-{done:06d}-{i:02d}", picture)
        rows = [
            (case.caption, (case.source, self._kept(name), made))
            for case, name, made in zip(self.cases, names, student, strict=True)
        ]
        sheet = contact_sheet(rows, ("source", "teacher", f"student, {done} iterations"))
        durable.replace_atomically(
            self.folder / f"iteration-{done:06d}.png", lambda path: sheet.save(path, format="PNG")
        )

    def _teachers(self) -> dict[int, Image.Image | None]:
        """The picture of each case by its task's teacher, with the family's default steps and the teacher's guidance.
        Empty on a rank that only runs the networks along with the first."""
        by_layout: dict[Layout, list[int]] = {}
        for i, case in enumerate(self.cases):
            by_layout.setdefault(case.cond.layout, []).append(i)
        pictures: dict[int, Image.Image | None] = {}
        for layout, members in by_layout.items():
            teacher = self.roles.teachers.of_task(layout.task)
            backbone = teacher.network.backbone
            grid = backbone.sampling_grid(backbone.default_steps, layout.target)
            drawn = self._drawn(teacher.network, members, grid, teacher.guidance[layout.task])
            pictures |= dict(zip(members, drawn, strict=self.ranks.first))
        return pictures

    @torch.no_grad()
    def _drawn(
        self, network: Network, members: Sequence[int], grid: SigmaGrid, guidance: Guidance
    ) -> list[Image.Image | None]:
        cases = [self.cases[i] for i in members]
        negatives = [case.negative for case in cases if case.negative is not None] if guidance.active else None
        asked = (
            *(network.backbone, network.transformer, [case.cond for case in cases]),
            *([SEED + i for i in members], grid, guidance, negatives),
        )
        with network.active(), autocast(network.backbone.device, self.precision):
            if self.ranks.first:
                # During training the VAE is on the CPU, where decoding a megapixel takes minutes on one thread.
                with network.backbone.vae_on_device():
                    return self._decoded(network.backbone, cases, sample_latents(*asked))
            for _ in sample_latents(*asked):  # the other ranks run along: their shards are needed
                pass
            return []

    def _decoded(
        self, backbone: Backbone, cases: Sequence[PreviewCase], batches: Iterable[tuple[list[int], Tensor]]
    ) -> list[Image.Image | None]:
        """Pictures in order; None where there is none, because a network gave numbers that are not finite. The run goes
        on, and the sheet has an empty cell."""
        found: dict[int, Image.Image | None] = {}
        for members, x0_BND in batches:
            target = cases[members[0]].cond.layout.target
            found |= dict(zip(members, decode_finite(backbone, x0_BND, target), strict=True))
        return [found[i] for i in range(len(cases))]

    def _kept(self, name: str) -> Image.Image | None:
        path = self.folder / "pictures" / f"{name}.png"
        return open_picture(path, str(path)) if path.is_file() else None

    def _keep(self, name: str, picture: Image.Image | None) -> None:
        if picture is None:
            return
        durable.make_folder(self.folder / "pictures")
        path = self.folder / "pictures" / f"{name}.png"
        durable.replace_atomically(path, lambda beside: picture.convert("RGB").save(beside, format="PNG"))
