"""The sample previews of a run: the same cases from the same noise at intervals, beside the teacher.

Rows are cases. Columns are the sources (for edits), the teacher with its full sampler, the same teacher with as many
network calls as the student (the student's levels, no guidance), and the present student. The teacher is the one that
decides the details of that case, named with its steps and guidance. Each preview is a contact sheet such as
`samples/iteration-000025.png`; the single pictures are in `samples/pictures/`, and what the cases are in
`samples/cases.json`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.layout import Layout
from fewstep.data.cases import Case
from fewstep.data.pictures import open_picture
from fewstep.encode.loader import Loader
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.roles.network import Network
from fewstep.roles.roles import Roles
from fewstep.roles.teachers import Teacher
from fewstep.runtime import durable
from fewstep.runtime.device import autocast
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.sample.origin import origin_of, save_with_origin
from fewstep.sample.pictures import decode_finite, sample_latents
from fewstep.sample.sheet import SheetRow, contact_sheet

CASES_A_TASK = 6  # ours
SEED = 0


@dataclass(frozen=True)
class PreviewCase:
    """One fixed case of the previews.

    Args:
        case: the case itself; its prompt is the text beside its row.
        cond: its conditioning, a batch of 1.
        taught: the same under the prompt that the teachers read.
        negative: the unconditional branch of the teacher's guidance; None without guidance.
        sources: the pictures that are edited, in order; none for text to image.
    """

    case: Case
    cond: Conditioning
    taught: Conditioning
    negative: Conditioning | None
    sources: tuple[Image.Image, ...]


class SamplePreview:
    """Renders the fixed cases with the student, which has its averaged weights while it does (`RunHooks.render`).

    student: what it is called on the sheets.

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
        student: str = "averaged student",
    ):
        self.roles, self.cases, self.grid, self.precision, self.folder = roles, cases, grid, precision, folder
        self.student = student
        self.ranks = ranks if roles.is_sharded else SINGLE_RANK

    @classmethod
    def from_loader(
        cls,
        roles: Roles,
        loader: Loader,
        grid: SigmaGrid,
        precision: str,
        folder: Path,
        ranks: Ranks = SINGLE_RANK,
        student: str = "averaged student",
    ) -> "SamplePreview":
        """The preview of the first cases of each task in the loader's data. Every category comes once before any comes
        twice."""
        cases = []
        for task in loader.tasks:
            for case in loader.first_cases(task, CASES_A_TASK):
                guidance = roles.teachers.of_task(task, case.category).guidance[task]
                negative = loader.conditioning(case, guidance.negative) if guidance.active else None
                sources = tuple(open_picture(path, case.where) for path in case.references)
                own, taught = (loader.conditioning(case, prompt) for prompt in (case.prompt, case.taught_prompt))
                cases.append(PreviewCase(case, own, taught, negative, sources))
        return cls(roles, cases, grid, precision, folder, ranks, student)

    def render(self, done: int) -> None:
        """Writes the sheet after `done` iterations. The teachers' pictures are rendered once in a run, and kept."""
        everyone = range(len(self.cases))
        for few in (False, True):
            self._teach(few)
        student = self._drawn(self.roles.student, everyone, self.grid, NO_GUIDANCE)
        if not self.ranks.first:
            return
        self._tell_cases()
        for i, picture in enumerate(student):
            self._keep(
                self._pictures / f"student-{done:06d}-{i:02d}.png", picture, f"{self.student}, {done} iterations"
            )
        sheet = self._sheet(done, student)
        durable.replace_atomically(
            self.folder / f"iteration-{done:06d}.png", lambda path: sheet.save(path, format="PNG")
        )

    def _teach(self, few: bool) -> None:
        """Renders the teachers' pictures, if one of them is missing or of another teacher."""
        told = self._described(few)
        places = [self._taught(i, few) for i in range(len(self.cases))]
        if self.ranks.from_first(lambda: any(map(lambda path, who: origin_of(path) != who, places, told))):
            for i, picture in self._teachers(few).items():
                self._keep(places[i], picture, told[i])

    def _tell_cases(self) -> None:
        """What the cases are, once in a run: `cases.json`, and the pictures that are edited."""
        path = self.folder / "cases.json"
        if path.exists():
            return
        told = [self._told(i, one) for i, one in enumerate(self.cases)]
        for i, one in enumerate(self.cases):
            for number, source in enumerate(one.sources):
                self._keep(self._pictures / f"source-{i:02d}-{number}.png", source, f"source of {one.case.id}")
        durable.write_atomically(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")

    def _told(self, i: int, one: PreviewCase) -> dict[str, Any]:
        """What a case is, with the seed and the size (height, width) that it is drawn with."""
        case, pixels = one.case, self.roles.student.backbone.pixels_per_token
        size = [tokens * pixels for tokens in one.cond.layout.target]
        about = {"id": case.id, "task": case.task, "category": case.category, "prompt": case.prompt}
        return about | {"seed": SEED + i, "size": size}

    def _sheet(self, done: int, student: Sequence[Image.Image | None]) -> Image.Image:
        """The teacher is named in the heading, or beside each row if rows have different ones."""
        width = max((len(case.sources) for case in self.cases), default=0)
        teachers, fews = self._described(), self._described(few=True)
        same = len(set(teachers)) == 1
        taught = [[self._kept(self._taught(i, few)) for few in (False, True)] for i in range(len(self.cases))]
        rows = [
            SheetRow(
                case.case.prompt,
                (*case.sources, *[None] * (width - len(case.sources)), *taught[i], made),
                name=case.case.id,
                note="" if same else teachers[i],
            )
            for i, (case, made) in enumerate(zip(self.cases, student, strict=True))
        ]
        sources = ["source"] if width == 1 else [f"source {number}" for number in range(1, width + 1)]
        named = [teachers[0], fews[0]] if same else ["teacher", f"teacher, {len(self.grid)} steps, no guidance"]
        return contact_sheet(rows, [*sources, *named, f"{self.student}, {done} iterations"])

    def _teacher(self, case: PreviewCase) -> Teacher:
        return self.roles.teachers.of_task(case.cond.layout.task, case.case.category)

    def _guidance(self, case: PreviewCase, few: bool) -> Guidance:
        return NO_GUIDANCE if few else self._teacher(case).guidance[case.cond.layout.task]

    def _described(self, few: bool = False) -> list[str]:
        """Which teacher, at how many steps and which guidance, case by case."""
        several = len(self.roles.teachers.teachers) > 1
        told = []
        for case in self.cases:
            network, guidance = self._teacher(case).network, self._guidance(case, few)
            guided = f"guidance {guidance.scale:g}" if guidance.active else "no guidance"
            steps = len(self.grid) if few else network.backbone.default_steps
            told.append(f"teacher{f' {network.name}' if several else ''}, {steps} steps, {guided}")
        return told

    def _teachers(self, few: bool) -> dict[int, Image.Image | None]:
        """The picture of each case by its teacher, with the family's default steps and the teacher's guidance; or, of
        few steps, at the student's levels without guidance. Empty on a rank that only runs the networks along with the
        first."""
        together: dict[tuple[str, Layout], list[int]] = {}
        for i, case in enumerate(self.cases):
            together.setdefault((self._teacher(case).network.name, case.cond.layout), []).append(i)
        pictures: dict[int, Image.Image | None] = {}
        for (_, layout), members in together.items():
            teacher = self._teacher(self.cases[members[0]])
            backbone = teacher.network.backbone
            grid = self.grid if few else backbone.sampling_grid(backbone.default_steps, layout.target)
            drawn = self._drawn(teacher.network, members, grid, self._guidance(self.cases[members[0]], few))
            pictures |= dict(zip(members, drawn, strict=self.ranks.first))
        return pictures

    @torch.no_grad()
    def _drawn(
        self, network: Network, members: Sequence[int], grid: SigmaGrid, guidance: Guidance
    ) -> list[Image.Image | None]:
        student = network is self.roles.student
        cases = [self.cases[i] for i in members]
        negatives = [case.negative for case in cases if case.negative is not None] if guidance.active else None
        asked = (
            *(network.backbone, network.transformer, [case.cond if student else case.taught for case in cases]),
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

    @property
    def _pictures(self) -> Path:
        return self.folder / "pictures"

    def _taught(self, i: int, few: bool = False) -> Path:
        """Case i as its teacher draws it, at all its steps or at the student's."""
        return self._pictures / f"{'few' if few else 'teacher'}-{i:02d}.png"

    def _kept(self, path: Path) -> Image.Image | None:
        return open_picture(path, str(path)) if path.is_file() else None

    def _keep(self, path: Path, picture: Image.Image | None, origin: str) -> None:
        if picture is None:
            return
        durable.make_folder(self._pictures)
        save_with_origin(picture, path, origin)
