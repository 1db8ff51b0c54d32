"""Renders a gallery with a model: every case of a suite at every seed. It can be resumed, and shared by processes.

Each picture is the one that the stock pipeline makes for its case and seed alone (`sample/pictures.py`). So neither the
batch, nor the number of processes, nor an interruption can change it. A failure is recorded as a row, and the rest goes
on.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.identity import digest, module_identity
from fewstep.bench.gallery import Gallery, begin_gallery
from fewstep.bench.suite import Question, Suite
from fewstep.bench.suites import copy_into_gallery
from fewstep.data.cases import Case
from fewstep.data.pictures import open_picture
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.device import free_unused
from fewstep.runtime.errors import GalleryError
from fewstep.runtime.rank_slice import RankSlice
from fewstep.sample.call_counter import (
    CallCounter,
    device_time_s,
    peak_mb,
    reset_peak_memory,
)
from fewstep.sample.pictures import (
    Model,
    compatible_batches,
    decode_chunked,
)
from fewstep.sample.sampler import (
    evaluations,
    pipeline_noise,
    sample,
)

MAX_FAILURES_IN_A_ROW = 10  # ours: by then it is not the case
AHEAD = 4  # batches encoded together: more of one text length meet
PACKAGES = ("fewstep", "torch", "diffusers", "transformers")

ProgressCallback = Callable[[int, int], object]  # pictures drawn, pictures failed


@dataclass(frozen=True)
class PictureJob:
    """One picture to render: the k-th seed of a question."""

    question: Question
    k: int

    @property
    def case(self) -> str:
        return self.question.case.id

    @property
    def seed(self) -> int:
        return self.question.seeds[self.k]


@dataclass(frozen=True)
class EncodedJob:
    """A job with its conditioning. encode_s: the seconds of encoding, once for all seeds of the case."""

    job: PictureJob
    cond: Conditioning
    negative: Conditioning | None
    size: tuple[int, int]
    encode_s: float


class GalleryRenderer:
    """Renders a suite into a gallery, with one model and one sampler.

    Args:
        rewritten: by case, what the model reads in the place of its prompt. Judges are told the prompt all the same.
    """

    def __init__(
        self,
        model: Model,
        suite: Suite,
        steps: int | None,
        guidance: Guidance | None,
        batch: int,
        rewritten: Mapping[str, str] | None = None,
    ):
        self.model, self.suite, self.steps, self.batch, self.rewritten = model, suite, steps, batch, rewritten or {}
        size = suite.size or model.size
        grid, self.guidance = model.sampling(steps, guidance, size)
        transformer = model.backbone.transformer
        self.facts: dict[str, Any] = {
            "fingerprint": f"{digest(module_identity(transformer))}-{model.backbone.fingerprint()}",
            "student": model.is_student,
            "steps": len(grid),
            "sigmas": list(grid) if suite.size else None,  # else they go with each picture's size
            "guidance": asdict(self.guidance),
            "nfe": evaluations(grid, self.guidance),
            "dtype": str(next(transformer.parameters()).dtype).removeprefix("torch."),
        } | ({"prompts": _digest(rewritten)} if rewritten else {})  # absent otherwise: as older galleries have it
        self._counted = CallCounter(model.backbone)
        self._versions = {name: metadata.version(name) for name in PACKAGES}
        self._in_a_row = 0

    def render(self, jobs: Sequence[PictureJob], gallery: Gallery, on_progress: ProgressCallback) -> None:
        """Renders all jobs. A failure is recorded as a row.

        Raises:
            GalleryError: so many failures in a row that the cases can hardly be the reason.
        """
        for start in range(0, len(jobs), AHEAD * self.batch):
            ready = list(self._encoded(jobs[start : start + AHEAD * self.batch], gallery, on_progress))
            negatives = [each.negative for each in ready if each.negative is not None]
            for places in compatible_batches([each.cond for each in ready], negatives or None, self.batch):
                self._batch([ready[place] for place in places], gallery, on_progress)

    # ---- stages

    def _encoded(
        self, jobs: Sequence[PictureJob], gallery: Gallery, on_progress: ProgressCallback
    ) -> Iterator[EncodedJob]:
        known: EncodedJob | None = None
        for job in jobs:
            if known is not None and known.job.case == job.case:
                yield EncodedJob(job, known.cond, known.negative, known.size, known.encode_s)
                continue
            try:
                known = self._encode(job)
                yield known
            except Exception as error:  # whatever a library raises for this case: the others can still be rendered
                self._failed(job, error, gallery, on_progress)

    @torch.no_grad()
    def _encode(self, job: PictureJob) -> EncodedJob:
        case, backbone = job.question.case, self.model.backbone
        references = [open_picture(path, case.where) for path in case.references] or None
        size = self._size(job.question, references)
        read = self._read(case)
        self.model.refuse_long_text([read], references or (), size)
        begun_s = device_time_s(backbone.device)
        (cond,) = backbone.encode([read], references, size)
        negative = backbone.encode([self.guidance.negative], references, size)[0] if self.guidance.active else None
        return EncodedJob(job, cond, negative, size, device_time_s(backbone.device) - begun_s)

    def _read(self, case: Case) -> str:
        return self.rewritten.get(case.id, case.prompt)

    def _size(self, question: Question, references: Sequence[Image.Image] | None) -> tuple[int, int]:
        """The size in px: the case's, the suite's, or the model's default area in the last reference's shape."""
        if question.case.height or self.suite.size:
            return question.case.size(self.suite.size or self.model.size)
        return self.model.default_size(references or ())

    def _batch(self, ready: Sequence[EncodedJob], gallery: Gallery, on_progress: ProgressCallback) -> None:
        """Renders jobs together. After an error they are rendered one by one, so that only those at fault fail."""
        try:
            self._draw(ready, gallery, on_progress)
            return
        except GalleryError:
            raise
        except Exception as error:  # out of memory, a kernel, a shape: the row says which
            if len(ready) == 1:
                self._failed(ready[0].job, error, gallery, on_progress)
                return
        free_unused(self.model.backbone.device)  # here, where nothing holds the failed attempt's tensors any more
        for each in ready:
            self._batch([each], gallery, on_progress)

    @torch.no_grad()
    def _draw(self, ready: Sequence[EncodedJob], gallery: Gallery, on_progress: ProgressCallback) -> None:
        backbone, count = self.model.backbone, len(ready)
        device, layout = backbone.device, ready[0].cond.layout
        grid, _ = self.model.sampling(self.steps, self.guidance, ready[0].size)
        reset_peak_memory(device)
        begun_s = device_time_s(device)
        x0_BND, calls = self._denoised(ready, grid)
        denoised_s = device_time_s(device)
        pictures = decode_chunked(backbone, x0_BND, layout.target)
        decoded_s = device_time_s(device)
        for each, picture in zip(ready, pictures, strict=True):
            seconds = {
                "encode": each.encode_s,
                "denoise": (denoised_s - begun_s) / count,
                "decode": (decoded_s - denoised_s) / count,
            }
            drawn: dict[str, Any] = {
                "nfe": calls["evaluation"] // count,
                "prefix_calls": calls["prefix"] // count,
                "batch": count,
            }
            drawn |= {"sigmas": list(grid), "seconds": {name: round(value, 6) for name, value in seconds.items()}}
            drawn |= {"size": list(each.size), "peak_mb": round(peak_mb(device), 1), "device": str(device)}
            gallery.add(each.job.case, each.job.seed, picture, self._row(each.job) | drawn)
            self._in_a_row = 0
            on_progress(1, 0)

    def _denoised(self, ready: Sequence[EncodedJob], grid: SigmaGrid) -> tuple[Tensor, dict[Any, int]]:
        backbone = self.model.backbone
        cond = stack([each.cond for each in ready]).to(backbone.device)
        negatives = [each.negative for each in ready if each.negative is not None]
        negative = stack(negatives).to(backbone.device) if negatives else None
        noise_BND = pipeline_noise(backbone, cond, [each.job.seed for each in ready])
        with self._counted.counting(backbone.transformer) as counted:
            x0_BND = sample(counted, backbone.transformer, cond, noise_BND, grid, self.guidance, negative)
            return x0_BND, dict(counted.calls)

    # ---- rows

    def _row(self, job: PictureJob) -> dict[str, Any]:
        case = job.question.case
        read = {"read": self._read(case)} if self.rewritten else {}
        return read | {
            "k": job.k,
            "prompt": case.prompt,
            "task": case.task,
            "category": case.category,
            "model": self.facts["fingerprint"],
            "guidance": self.facts["guidance"],
            "versions": self._versions,
        }

    def _failed(self, job: PictureJob, error: Exception, gallery: Gallery, on_progress: ProgressCallback) -> None:
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:500]
        gallery.fail(job.case, job.seed, why, self._row(job))
        on_progress(0, 1)
        self._in_a_row += 1
        if self._in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise GalleryError(
                f"{self._in_a_row} pictures in a row failed, so the cases are hardly the reason; the last one "
                f"({job.case}, seed {job.seed}): {why}. Mend that and run the same command again: what was drawn stays"
            )


def _digest(rewritten: Mapping[str, str]) -> str:
    told = json.dumps(dict(rewritten), sort_keys=True).encode()
    return hashlib.blake2b(told, digest_size=16).hexdigest()


def fill_gallery(
    renderer: GalleryRenderer,
    to: Path,
    system: str,
    rank_slice: RankSlice,
    limit: int | None,
    on_progress: ProgressCallback,
) -> tuple[Gallery, list[PictureJob]]:
    """Renders this process's part of the suite's first `limit` cases. Returns the gallery and the jobs.

    Pictures that are already there are not rendered again. Those that failed are tried again.

    Raises:
        GalleryError: `to` belongs to another model, sampler or suite; or too many failures in a row.
    """
    suite = renderer.suite
    gallery = begin_gallery(to, system, suite.identity, renderer.facts, "generated", rank_slice.manifest)
    copy_into_gallery(suite, to)
    jobs = list(rank_slice.of([PictureJob(q, k) for q in suite.questions[:limit] for k in range(suite.seeds)]))
    missing = [job for job in jobs if (job.case, job.seed) not in gallery]
    on_progress(len(jobs) - len(missing), 0)
    renderer.render(missing, gallery, on_progress)
    return gallery, jobs
