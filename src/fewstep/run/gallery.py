"""`fewstep.generate_gallery`: a model's answers to a suite."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fewstep.bench.gallery import refuse_other_suite
from fewstep.bench.suite import Suite
from fewstep.bench.suites import open_suite
from fewstep.data.sources import cases_of, entries_of
from fewstep.runtime.device import PRECISIONS, resolve_device
from fewstep.runtime.errors import CaseError, EnvironmentRefused
from fewstep.runtime.rank_slice import FULL_SLICE, RankSlice
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.sample.generate import GalleryRenderer, fill_gallery
from fewstep.sample.pictures import open_model


@dataclass(frozen=True)
class GeneratedGallery:
    """A gallery, as a call left it. drawn: pictures that are there. failed: rows whose case could not be drawn; the
    manifest says why, and the same call tries them again."""

    folder: Path
    drawn: int
    failed: int


def generate_gallery(
    model: str | Path,
    suite: str | Path,
    to: str | Path,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    device: str = "auto",
    dtype: str | None = None,
    batch: int = 8,
    limit: int | None = None,
    system: str | None = None,
    teacher_prompts: str | Path | None = None,
    rank_slice: RankSlice = FULL_SLICE,
    reporter: Reporter = SILENT,
) -> GeneratedGallery:
    """Draws what is missing of a model's answers to a suite: a gallery that judges and metrics read. Resumes.

    Args:
        model: a student folder, a teacher's folder or hub id, or "pocket".
        suite: a shipped suite or a folder.
        to: the gallery's folder.
        steps: of a teacher; its own if not given.
        guidance: scale, of a teacher; its own if not given. 1 is no guidance.
        device: auto, cpu or cuda.
        dtype: bf16 or fp32; bf16 on a GPU and fp32 on a CPU if not given.
        batch: pictures drawn together.
        limit: only the suite's first cases.
        system: what reports call it; the model if not given.
        teacher_prompts: a file of the suite's cases with a `teacher_prompt` each (`fewstep prompts rewrite`), which
            the model reads. Judges and students are asked the prompt.
        rank_slice: this process's part, where several draw one gallery.

    Raises:
        SuiteError, ModelError, CaseError, RecipeError, LayoutError: before anything is written.
        GalleryError: another model's or suite's gallery, or failures in a row.
    """
    source, folder, opened = str(model), Path(to), open_suite(str(suite))
    refuse_other_suite(folder, opened.identity)
    rewritten = None if teacher_prompts is None else _rewritten(opened, Path(teacher_prompts), reporter)
    where = _device(device, dtype)
    chosen = PRECISIONS[dtype] if dtype else torch.bfloat16 if where.type == "cuda" else torch.float32
    loaded = open_model(source, dtype=chosen, device=where)
    own = loaded.guidance_for(opened.task)
    own = own if guidance is None else replace(own, scale=guidance)
    renderer = GalleryRenderer(loaded, opened, steps, own, batch, rewritten)
    total = len(range(rank_slice.rank, len(opened.questions[:limit]) * opened.seeds, rank_slice.world))
    failed = 0
    with reporter.progress(f"drawing {opened.name} into {folder}", total) as advance:

        def on_progress(drawn: int, not_drawn: int) -> None:
            nonlocal failed
            failed += not_drawn
            advance(drawn + not_drawn)

        fill_gallery(renderer, folder, system or source, rank_slice, limit, on_progress)
    return GeneratedGallery(folder, total - failed, failed)


def _device(name: str, dtype: str | None) -> torch.device:
    """The device as asked for.

    Raises:
        EnvironmentRefused: not to be had here, or a dtype of another name.
    """
    if dtype is not None and dtype not in PRECISIONS:
        raise EnvironmentRefused(f"--dtype is {' or '.join(PRECISIONS)}, not '{dtype}'")
    return resolve_device(name, dtype or "fp32")


def _rewritten(suite: Suite, file: Path, reporter: Reporter) -> dict[str, str]:
    """What teachers read of the suite's cases, by case. Says how many the file lacks.

    Raises:
        CaseError: a case of the suite with another prompt, or no teacher_prompt for any.
    """
    told = {
        case.id: case for case in cases_of(entries_of(str(file), file.with_name(f"{file.stem}-pictures")), str(file))
    }
    found = {}
    for question in suite.questions:
        case = told.get(question.case.id)
        if case is None or case.teacher_prompt is None:
            continue
        if case.prompt != question.case.prompt:
            raise CaseError(
                f"{case.where}: case {case.id} of {suite.name} asks something else; rewrite the suite's cases"
            )
        found[case.id] = case.teacher_prompt
    if not found:
        raise CaseError(f"{file} has no teacher_prompt for a case of {suite.name}: fewstep prompts rewrite writes them")
    if missing := len(suite.questions) - len(found):
        reporter.say(
            f"{missing:,} of {len(suite.questions):,} cases have no teacher_prompt: their prompt is read", "warning"
        )
    return found
