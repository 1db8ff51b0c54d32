"""`fewstep sample`: pictures of students and teachers, written to files, and compared on a contact sheet."""

import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from rich.console import Console

from fewstep import __version__
from fewstep.backbones.conditioning_estimate import estimate_conditioning, may_be_long
from fewstep.data.pictures import open_picture
from fewstep.pocket.known_worlds import WORLDS
from fewstep.pocket.world_of_model import world_of_model
from fewstep.runtime import durable
from fewstep.runtime.device import free_unused
from fewstep.runtime.errors import Interrupted
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.signals import Terminated
from fewstep.sample.call import AskedPicture, SampleCall, SampledModel, refuse_other_sizes
from fewstep.sample.file_names import CallFiles, sheet_rows
from fewstep.sample.images import open_on
from fewstep.sample.measured import MeasuredPicture, draw_measured
from fewstep.sample.origin import save_with_origin
from fewstep.sample.pictures import Model, default_size, refuse_cut_prompts
from fewstep.sample.sheet import CELL, SheetRow, contact_sheet

LARGE_CELL = 384  # px of a sheet's cell, where a picture is larger than CELL


@dataclass(frozen=True)
class DrawnCell:
    """A picture of the sheet, reduced to its cell, with what it cost."""

    picture: Image.Image
    drawn: MeasuredPicture


def draw_to_files(call: SampleCall, files: CallFiles, reporter: Reporter, out: Console) -> None:
    """Draws the pictures of a call, model by model, so that memory holds one. Each is written, and named with its seed,
    network calls and seconds, as soon as it is drawn.

    Raises:
        CaseError: a picture that cannot be read.
        LayoutError: a size that a model does not take, a prompt that it would cut, or models of different sizes.
        RecipeError: steps or guidance of a student. PictureError: pixels that are not finite.
        Interrupted: by a signal; what was drawn is there.
    """
    _refuse_before_loading(call)
    _say_unknown_words(call, reporter)
    written: list[Path] = []
    try:
        for path, words in _files_made(call, files, reporter):
            written.append(path)
            out.print(f"{path}: {words}", highlight=False, soft_wrap=True, markup=False)
    except KeyboardInterrupt as stopped:
        number = signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT
        count = len(files.pictures) + len(files.sheets)
        raise Interrupted(
            f"stopped; {len(written):,} of {count:,} files are there. The same command with --overwrite makes all anew",
            number,
        ) from None


def _files_made(call: SampleCall, files: CallFiles, reporter: Reporter) -> Iterator[tuple[Path, str]]:
    """Each file once it is there, with what is to be said of it."""
    cells: dict[tuple[int, int], DrawnCell] = {}
    noises: dict[str, tuple[int, ...]] = {}
    for m, p, drawn in _drawn(call, reporter, noises):
        asked, model = call.pictures[p], call.models[m]
        if files.sheets:
            cells[m, p] = DrawnCell(_reduced(drawn.picture), replace(drawn, picture=Image.new("L", (1, 1))))
        if (path := files.pictures.get((m, p))) is not None:
            _write(path, model, asked, drawn)
            yield path, _words(model, drawn)
    if len(set(noises.values())) > 1:
        reporter.say("These models draw noise of different shapes: one seed is not the same noise for each.", "warning")
    for path, sheet in zip(files.sheets, _sheets(call, cells), strict=False):
        durable.make_folder(path.parent)
        save_with_origin(sheet, path, ", ".join(m.source for m in call.models), {"Software": f"fewstep {__version__}"})
        yield path, "a contact sheet"


def _refuse_before_loading(call: SampleCall) -> None:
    sizes = [default_size(model.source) for model in call.models]
    refuse_other_sizes(call, sizes)
    for model, own in zip(call.models, sizes, strict=True):
        for asked in _first_of_each(call.pictures):
            if may_be_long(asked.prompt):
                known = estimate_conditioning(model.source)
                refuse_cut_prompts(known, [asked.prompt], _references(asked), asked.size or own)


def _say_unknown_words(call: SampleCall, reporter: Reporter) -> None:
    """A pocket world knows few phrases, and few sizes. Of any others it would draw something that means nothing."""
    worlds = dict.fromkeys(world_of_model(model.source) for model in call.models)
    for world, asked in product((world for world in worlds if world), _first_of_each(call.pictures)):
        for said in WORLDS[world].say(asked.prompt, len(asked.references), asked.size):
            reporter.say(said, "warning")


def _first_of_each(pictures: Sequence[AskedPicture]) -> list[AskedPicture]:
    return [next(group) for _, group in groupby(pictures, key=lambda asked: asked.number)]


def _drawn(
    call: SampleCall, reporter: Reporter, noises: dict[str, tuple[int, ...]]
) -> Iterator[tuple[int, int, MeasuredPicture]]:
    """Every picture with the numbers of its model and of itself. noises: gets the shape of each model's noise."""
    for source in dict.fromkeys(model.source for model in call.models):
        device = yield from _of_source(source, call, reporter, noises)
        free_unused(device)


def _of_source(
    source: str, call: SampleCall, reporter: Reporter, noises: dict[str, tuple[int, ...]]
) -> Generator[tuple[int, int, MeasuredPicture], None, torch.device]:
    """The same of one folder, which may stand for several models (MODEL and MODEL@4). It is let go of on return."""
    with reporter.waiting(f"opening {source}"):
        opened = open_on(source, call.device)
    backbone = opened.backbone
    noises[source] = (backbone.latent_channels, backbone.noise_patch, backbone.pixels_per_token)
    own = [(m, model) for m, model in enumerate(call.models) if model.source == source]
    with reporter.progress(own[0][1].name, len(own) * len(call.pictures)) as advance:
        for m, model in own:
            for p, drawn in _pictures_of(opened, model, call):
                yield m, p, drawn
                advance(1, _words(model, drawn))
    return backbone.device


def _pictures_of(opened: Model, model: SampledModel, call: SampleCall) -> Iterator[tuple[int, MeasuredPicture]]:
    excused = opened.is_student and len(call.models) > 1  # what is asked of teachers is not asked of it
    steps = model.steps or (None if excused else call.steps)
    guidance = None if excused else call.guidance
    for _, group in groupby(enumerate(call.pictures), key=lambda numbered: numbered[1].number):
        members = list(group)
        asked = members[0][1]
        seeds = [each.seed for _, each in members]
        drawn = draw_measured(
            opened, asked.prompt, _references(asked), seeds, steps=steps, guidance=guidance, size=asked.size
        )
        yield from zip((p for p, _ in members), drawn, strict=True)


def _references(asked: AskedPicture) -> list[Image.Image]:
    return [open_picture(path, f"reference {path}") for path in asked.references]


# ---- what is written


def _words(model: SampledModel, drawn: MeasuredPicture) -> str:
    return f"{model.name}, seed {drawn.seed}, {drawn.nfe} network calls, {drawn.seconds:.3g} s"


def _write(path: Path, model: SampledModel, asked: AskedPicture, drawn: MeasuredPicture) -> None:
    picture = drawn.picture
    opaque = picture.getchannel("A").getextrema()[0] == 255 if picture.mode == "RGBA" else True
    durable.make_folder(path.parent)
    save_with_origin(picture.convert("RGB") if opaque else picture, path, model.source, _facts(asked, drawn))


def _facts(asked: AskedPicture, drawn: MeasuredPicture) -> dict[str, str]:
    facts = {
        "Description": asked.prompt,
        "Software": f"fewstep {__version__}",
        "Seed": str(drawn.seed),
        "Steps": str(drawn.steps),
        "Guidance": f"{drawn.guidance:g}",
        "NFE": str(drawn.nfe),
        "Seconds": f"{drawn.seconds:.4g}",
    }
    return facts | ({"References": ", ".join(path.name for path in asked.references)} if asked.references else {})


# ---- the sheet


def _reduced(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((LARGE_CELL, LARGE_CELL))
    return small


def _sheets(call: SampleCall, cells: dict[tuple[int, int], DrawnCell]) -> Iterator[Image.Image]:
    headings = ["source", *(_heading(m, model, cells) for m, model in enumerate(call.models))]
    cell = LARGE_CELL if any(max(each.picture.size) > CELL for each in cells.values()) else CELL
    count, sheet = len(call.pictures), 0
    while rows := sheet_rows(sheet, count):
        told = [_row(call, p, [cells[m, p].picture for m in range(len(call.models))]) for p in rows]
        yield contact_sheet(told, headings, cell)
        sheet += 1


def _heading(m: int, model: SampledModel, cells: dict[tuple[int, int], DrawnCell]) -> str:
    drawn = [each.drawn for (of, _), each in cells.items() if of == m]
    calls = ", ".join(sorted({f"{each.nfe}" for each in drawn}))
    return f"{model.name}\n{drawn[0].steps} steps, {calls} network calls\n{median(d.seconds for d in drawn):.3g} s"


def _row(call: SampleCall, p: int, pictures: Sequence[Image.Image]) -> SheetRow:
    asked = call.pictures[p]
    return SheetRow(asked.prompt, [_joined(_references(asked)), *pictures], note=f"seed {asked.seed}")


def _joined(references: Sequence[Image.Image]) -> Image.Image | None:
    """All references of an edit in one picture, side by side."""
    if len(references) < 2:
        return references[0] if references else None
    small = [_reduced(each.convert("RGBA")) for each in references]
    joined = Image.new("RGBA", (sum(each.width for each in small), max(each.height for each in small)))
    for number, each in enumerate(small):
        joined.paste(each, (sum(before.width for before in small[:number]), 0))
    return joined
