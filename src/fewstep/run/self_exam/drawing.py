"""The pictures of a self-examination: the teacher's, once in a run, and the student's, each time.

All have the same noise. The teacher of a case is the one that decides its details. It answers twice: at its full
sampler with the guidance that the run distils, and at the student's levels without guidance. The second says what as
many network calls as the student's give without any training. Where weights are whole, each rank draws its own cases; a
case stays together, because the distance between its seeds is one figure. Sharded networks are run by all ranks, and
the first one draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from fewstep.backbones.conditioning import Conditioning
from fewstep.encode.encode import store_key
from fewstep.encode.store import ConditioningStore
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.roles.network import Network
from fewstep.roles.roles import Roles
from fewstep.roles.teachers import Teacher
from fewstep.run.self_exam.exam_cases import ExamCase, FrozenSet
from fewstep.run.self_exam.results import TEACHER, few_name
from fewstep.runtime import durable
from fewstep.runtime.device import autocast
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.task import Task
from fewstep.sample.origin import origin_of, save_with_origin
from fewstep.sample.pictures import decode_finite, sample_latents


@dataclass(frozen=True)
class ExamConditionings:
    """What the set's cases are drawn from, by (case, prompt). It is read once: the set is small."""

    held: Mapping[tuple[str, str], Conditioning]

    @classmethod
    def load(
        cls,
        cases: Sequence[ExamCase],
        store: ConditioningStore,
        size: tuple[int, int],
        negatives: Mapping[Task, Sequence[str]],
    ) -> "ExamConditionings":
        """
        Raises:
            StoreError: a case that was not encoded.
        """
        found = {}
        for one in cases:
            for prompt in (*one.case.prompts, *negatives.get(one.case.task, ())):
                found[one.case.id, prompt] = store.load(store_key(one.case, prompt, store, size))
        return cls(found)

    def of(self, one: ExamCase, prompt: str | None = None) -> Conditioning:
        """Under one of the case's prompts or a negative one. None: what the student reads."""
        return self.held[one.case.id, one.case.prompt if prompt is None else prompt]


class ExamDrawer:
    """Draws the frozen set with the networks of a run, into its examination folder.

    Args:
        grid: the student's.
        batch: pictures that are sampled together, as many as the run trains at once: those fit.
        ranks: of the run.
    """

    def __init__(
        self,
        roles: Roles,
        exam: FrozenSet,
        conditionings: ExamConditionings,
        grid: SigmaGrid,
        precision: str,
        batch: int,
        ranks: Ranks = SINGLE_RANK,
    ):
        self.roles, self.exam, self.conditionings, self.grid = roles, exam, conditionings, grid
        self.precision, self.batch, self.ranks = precision, batch, ranks
        split = not roles.is_sharded
        self.mine = exam.cases[ranks.rank :: ranks.world] if split else exam.cases
        self.writes = split or ranks.first  # else this rank only runs its shards along

    def folder_of(self, who: str) -> Path:
        return self.exam.folder / "pictures" / who

    def picture(self, who: str, one: ExamCase, seed: int) -> Path:
        return self.exam.picture(who, one, seed)

    @property
    def few(self) -> str:
        """Who answered: the teachers at the student's levels."""
        return few_name(len(self.grid))

    def teachers(self) -> int:
        """Draws what is missing of the teachers' answers. Returns how many were drawn here."""
        return self._teach(TEACHER)

    def teachers_at_few(self) -> int:
        """The same at the student's levels, without guidance: as many network calls as the student's."""
        return self._teach(self.few)

    def student(self, who: str) -> None:
        """Draws all of this rank's cases with the student, as its weights are now."""
        wanted = [(one, seed) for one in self.mine for seed in one.seeds]
        self._draw(who, self.roles.student, wanted, self.grid, NO_GUIDANCE, who)

    def described(self, one: ExamCase, who: str = TEACHER) -> str:
        """Which teacher answers a case, at how many steps and which guidance. who: at its full sampler, or `few`."""
        teacher = self._teacher(one)
        guidance, steps = self._guidance(who, one), teacher.network.backbone.default_steps
        guided = f"guidance {guidance.scale:g}" if guidance.active else "no guidance"
        return f"teacher {teacher.network.name}, {steps if who == TEACHER else len(self.grid)} steps, {guided}"

    def _teacher(self, one: ExamCase) -> Teacher:
        return self.roles.teachers.of_task(one.case.task, one.case.category)

    def _guidance(self, who: str, one: ExamCase) -> Guidance:
        return self._teacher(one).guidance[one.case.task] if who == TEACHER else NO_GUIDANCE

    def _lacks(self, who: str, one: ExamCase, seed: int) -> bool:
        return origin_of(self.picture(who, one, seed)) != self.described(one, who)

    def _teach(self, who: str) -> int:
        by_teacher: dict[str, list[ExamCase]] = {}
        for one in self.mine:
            by_teacher.setdefault(self._teacher(one).network.name, []).append(one)
        drawn = 0
        for cases in by_teacher.values():
            wanted = [(one, seed) for one in cases for seed in one.seeds if self._lacks(who, one, seed)]
            if self.roles.is_sharded:  # the first rank's files say what is missing
                wanted = self.ranks.gather(wanted)[0]
            drawn += self._answered(who, wanted)
        return drawn

    def _answered(self, who: str, wanted: Sequence[tuple[ExamCase, int]]) -> int:
        """By layout, because a teacher's grid may depend on the size."""
        groups: dict[tuple[object, Guidance], list[tuple[ExamCase, int]]] = {}
        for one, seed in wanted:
            key = self.conditionings.of(one).layout, self._guidance(who, one)
            groups.setdefault(key, []).append((one, seed))
        for (_, guidance), members in groups.items():
            network = self._teacher(members[0][0]).network
            target = self.conditionings.of(members[0][0]).layout.target
            full = network.backbone.sampling_grid(network.backbone.default_steps, target)
            self._draw(who, network, members, full if who == TEACHER else self.grid, guidance, None)
        return len(wanted)

    @torch.no_grad()
    def _draw(
        self,
        who: str,
        network: Network,
        wanted: Sequence[tuple[ExamCase, int]],
        grid: SigmaGrid,
        guidance: Guidance,
        origin: str | None,
    ) -> None:
        """Each picture is a file as soon as it is drawn, so a kill loses one batch."""
        if not wanted:
            return
        durable.make_folder(self.folder_of(who))
        backbone = network.backbone
        student = network is self.roles.student
        read = [one.case.prompt if student else one.case.taught_prompt for one, _ in wanted]
        conds = [self.conditionings.of(one, prompt) for (one, _), prompt in zip(wanted, read, strict=True)]
        negatives = [self.conditionings.of(one, guidance.negative) for one, _ in wanted] if guidance.active else None
        asked = (backbone, network.transformer, conds, [seed for _, seed in wanted], grid, guidance, negatives)
        with network.active(), autocast(backbone.device, self.precision), backbone.vae_on_device():
            for members, x0_BND in sample_latents(*asked, self.batch):
                if not self.writes:
                    continue
                drawn = decode_finite(backbone, x0_BND, conds[members[0]].layout.target)
                for i, picture in zip(members, drawn, strict=True):
                    one, seed = wanted[i]
                    self._keep(self.picture(who, one, seed), picture, origin or self.described(one, who))

    def _keep(self, path: Path, picture: Image.Image | None, origin: str) -> None:
        """A picture that is not finite is none: its figures will be missing."""
        if picture is None:
            path.unlink(missing_ok=True)
            return
        save_with_origin(picture.convert("RGB"), path, origin)
